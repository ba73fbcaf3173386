"""The hot lane of location: all positions that waited are stored and told in one transaction."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from hplus.accounts.models import User
from hplus.realtime import groups
from hplus.realtime.actions import Result, action, publish
from hplus.realtime.execution import bulk_insert
from location import messages
from location.audience import Audience
from location.geo import distance_m
from location.models import ON_DUTY, Fix, Grant, Inquiry, Latest, Position, seen_by
from location.visible_position import as_seen, zoned

INACCURATE_M = 1000
IMPLAUSIBLE_MPS = 70  # 250 km/h
SHORTEST_STEP_SECONDS = 1.0  # fixes that a tunnel held back arrive together

COLUMNS = Position._meta.local_fields


@dataclass(frozen=True)
class Heard:
    """What a phone said, and when it arrived, which may be a second before it is written."""

    user: User
    request: messages.TellLocation
    received_at: datetime


@dataclass(frozen=True)
class Recorded(Result):
    """`is_under_grant`: the position belongs to an open grant, so none of the next ones may be lost."""

    is_under_grant: bool = False


@dataclass
class _Step:
    """One heard position on its way to a row and to those who may see it."""

    heard: Heard
    grants: list[Grant]
    is_on_duty: bool
    reason_id: str = ""
    ended: Grant | None = None  # nobody listens any more
    events: tuple[messages.LocationSharingStopped, ...] = ()

    @property
    def user(self) -> User:
        return self.heard.user

    @property
    def named(self) -> str | None:
        return self.heard.request.emergency_id

    @property
    def is_shared(self) -> bool:
        return bool(self.grants) or self.is_on_duty

    def outcome(self) -> Recorded:
        return Recorded(events=self.events, is_under_grant=bool(self.grants))


def record(user: User, request: messages.TellLocation) -> Result:
    """One position, for those who do not batch."""
    [outcome] = record_all([Heard(user, request, timezone.now())])
    return outcome


def record_batched(heard: list[Heard]) -> list[Recorded]:
    """The same for positions outside any matter, which wait a second for company."""
    return record_all(heard)


@action
def record_all(heard: list[Heard]) -> list[Recorded]:
    """Each position stored as what it is, then told to those who may see it.

    What belongs to a closed matter is dropped; its sender is told once. What nobody may see
    is no track: only the sender's own last fix is replaced.
    """
    steps = _steps(heard)
    _find_the_ended(steps)
    kept = [step for step in steps if step.ended is None]
    _store(kept)
    return [step.outcome() for step in steps]


# Which matter it belongs to


def _steps(heard: list[Heard]) -> list[_Step]:
    user_ids = {one.user.pk for one in heard}
    grants = _locked_grants(user_ids)
    on_duty = set(User.objects.filter(ON_DUTY, pk__in=user_ids).values_list("pk", flat=True))
    return [
        _Step(
            heard=one,
            grants=grants.get(one.user.pk, []),
            is_on_duty=one.user.pk in on_duty,
            reason_id=_matter(one.request.emergency_id, grants.get(one.user.pk, [])),
        )
        for one in heard
    ]


def _locked_grants(user_ids: set[str]) -> dict[str, list[Grant]]:
    """The open grants about these people, the newest first.

    Locked: who closes one meanwhile waits until this position is told, or it is not told at all.
    """
    found = Grant.objects.open().filter(subject__in=user_ids).select_related("to_user").order_by("pk")
    grants: dict[str, list[Grant]] = defaultdict(list)
    for grant in found.select_for_update(of=("self",)):
        grants[grant.subject_id].insert(0, grant)
    return grants


def _matter(named: str | None, grants: list[Grant]) -> str:
    """The one named where it is open for the sender, else the newest that is."""
    reason_ids = [grant.reason_id for grant in grants]
    return named if named and named in reason_ids else next(iter(reason_ids), "")


def _find_the_ended(steps: list[_Step]) -> None:
    """Positions for a matter that is closed: a timer that nobody has stopped.

    Without a name it means one that was closed within the last day.
    """
    doubtful = [step for step in steps if _may_have_ended(step)]
    if not doubtful:
        return
    named = Q(reason_id__in={step.named for step in doubtful if step.named})
    recent = Q(closed_at__gt=timezone.now() - timedelta(hours=settings.LOCATION_TRACK_HOURS))
    meant = Grant.objects.closed().filter(named | recent, subject__in={step.user.pk for step in doubtful})
    closed = defaultdict(list)
    for grant in meant.order_by("-closed_at", "-pk"):
        closed[grant.subject_id].append(grant)
    for step in doubtful:
        _end(step, closed[step.user.pk])


def _may_have_ended(step: _Step) -> bool:
    if step.named and step.named != step.reason_id:
        return True
    return not step.grants and (step.heard.request.is_emergency or not step.is_on_duty)


def _end(step: _Step, closed: list[Grant]) -> None:
    of_matter = [grant for grant in closed if step.named in (None, grant.reason_id)]
    if not of_matter:
        return
    last = of_matter[0]
    is_untold = last.told_at is None
    if is_untold:
        _mark_as_told(step.user, [grant for grant in closed if grant.reason_id == last.reason_id])
        stopped = messages.LocationSharingStopped(
            user_id=step.user.pk, emergency_id=last.reason_id, reason=last.close_reason
        )
        step.events = (stopped,)
    if is_untold or step.named or step.heard.request.is_emergency:
        step.ended = last


def _mark_as_told(user: User, grants: list[Grant]) -> None:
    now = timezone.now()
    for grant in grants:
        grant.told_at = now
    Grant.objects.filter(pk__in=[grant.pk for grant in grants]).update(told_at=now)


# Rows


def _store(steps: list[_Step]) -> None:
    """All are kept, also the late; the newest of each person becomes current and is told."""
    current = _locked_latest({step.user.pk for step in steps})
    newest: dict[str, Latest] = {}
    fixes, told = [], []
    for step in steps:
        before = current.get(step.user.pk)
        fix = _fix(step, before)
        fixes += [fix] if step.is_shared else []
        if before is None or fix.at >= before.at:
            current[step.user.pk] = newest[step.user.pk] = _as_latest(fix)
            told.append((step, fix))
    bulk_insert.insert(Fix, map(bulk_insert.row_of, fixes))
    Latest.objects.bulk_create(
        [newest[user_id] for user_id in sorted(newest)],
        update_conflicts=True,
        unique_fields=["user"],
        update_fields=[column.name for column in COLUMNS],
    )
    _tell(told)


def _locked_latest(user_ids: set[str]) -> dict[str, Latest]:
    found = Latest.objects.select_for_update().filter(pk__in=user_ids).order_by("pk")
    return {row.user_id: row for row in found}


def _fix(step: _Step, before: Latest | None) -> Fix:
    said, user, received_at = step.heard.request.location, step.user, step.heard.received_at
    fix = Fix(
        user=user,
        lat=said.lat,
        lng=said.lng,
        accuracy_m=said.accuracy,
        speed_mps=said.speed,
        heading_degrees=said.heading,
        at=min(zoned(said.timestamp or "") or received_at, received_at),
        received_at=received_at,
        said_at=said.timestamp or "",
        hospital_id=user.hospital_id if step.is_on_duty else None,
        reason_id=step.reason_id,
        is_emergency=step.heard.request.is_emergency,
        status=step.heard.request.status or "active",
    )
    fix.is_inaccurate = (said.accuracy or 0) > INACCURATE_M
    fix.is_implausible = before is not None and _implied_mps(before, fix) > IMPLAUSIBLE_MPS
    return fix


def _implied_mps(before: Latest, fix: Fix) -> float:
    seconds = max(SHORTEST_STEP_SECONDS, abs((fix.at - before.at).total_seconds()))
    return distance_m((before.lat, before.lng), (fix.lat, fix.lng)) / seconds


def _as_latest(fix: Fix) -> Latest:
    return Latest(user=fix.user, **{column.attname: getattr(fix, column.attname) for column in COLUMNS})


# Ears


def _tell(told: list[tuple[_Step, Fix]]) -> None:
    """By hospital, so that what is for one group travels together."""
    inquiries = _pending_inquiries({step.user.pk for step, _ in told})
    for step, fix in sorted(told, key=lambda pair: pair[0].user.hospital_id or ""):
        audience = Audience.of(step.user, step.grants, step.reason_id, is_on_duty=step.is_on_duty)
        for grant, listeners in audience.by_reason():
            publish(as_seen(fix, grant), *listeners, but=[step.user.pk])
        for inquiry in inquiries.pop(step.user.pk, []):
            _answer(inquiry, fix, audience)


def _pending_inquiries(user_ids: set[str]) -> dict[str, list[Inquiry]]:
    pending = Inquiry.objects.pending(timezone.now()).filter(subject__in=user_ids)
    found = list(pending.select_related("asker").order_by("pk"))
    Inquiry.objects.filter(pk__in=[inquiry.pk for inquiry in found]).update(answered_at=timezone.now())
    by_subject = defaultdict(list)
    for inquiry in found:
        by_subject[inquiry.subject_id].append(inquiry)
    return by_subject


def _answer(inquiry: Inquiry, fix: Fix, audience: Audience) -> None:
    """The next position goes to who asked, if the right to see it has lasted."""
    asker = inquiry.asker
    if asker.pk not in audience.people and seen_by(asker).filter(pk=fix.user_id).exists():
        publish(as_seen(fix, audience.grant_for(asker)), groups.person(asker.pk))
