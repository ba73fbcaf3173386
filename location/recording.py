"""The hot lane of location: all positions that waited are stored and published in one transaction.

Hundreds a second come between emergencies, so no model instances are made here: one query tells what
there is to know of the senders, one statement writes the track, one the last positions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.conf import settings
from django.db.models import BooleanField, Case, Exists, OuterRef, Q, Value, When
from django.utils import timezone

from hplus.accounts.models import User
from hplus.realtime import groups
from hplus.realtime.actions import Result, action, publish
from hplus.realtime.execution import bulk_insert
from location import messages
from location.audience import Audience
from location.geo import Point, distance_m
from location.models import ON_DUTY, Fix, Grant, Inquiry, Latest, Position, seen_by
from location.visible_position import as_seen, zoned

INACCURATE_M = 1000
IMPLAUSIBLE_MPS = 70  # 250 km/h
SHORTEST_STEP_SECONDS = 1.0  # fixes that a tunnel held back arrive together

COLUMNS = [column.attname for column in Position._meta.local_fields]


@dataclass(frozen=True, slots=True)
class Heard:
    """What a phone said, and when it arrived, which may be a while before it is written."""

    user: User
    request: messages.TellLocation
    received_at: datetime


@dataclass(frozen=True)
class Recorded(Result):
    """`is_under_grant`: the position belongs to an open grant, so none of the next ones may be lost."""

    is_under_grant: bool = False


class Sender(NamedTuple):
    """What the database knows of one who sends a position."""

    is_on_duty: bool
    has_grants: bool
    is_asked: bool


class Last(NamedTuple):
    """Where and when somebody was last."""

    at: datetime
    place: Point


@dataclass(slots=True)
class NewPosition:
    """A position on its way to its rows: a `Position`, as far as those who see it need one."""

    user: User
    lat: float
    lng: float
    accuracy_m: float | None
    speed_mps: float | None
    heading_degrees: float | None
    at: datetime
    received_at: datetime
    said_at: str
    hospital_id: str | None
    reason_id: str
    is_emergency: bool
    status: str
    is_inaccurate: bool
    is_implausible: bool

    def row(self) -> dict[str, Any]:
        return {"user_id": self.user.pk, **{column: getattr(self, column) for column in COLUMNS}}


@dataclass(slots=True)
class _Step:
    """One heard position on its way to a row and to those who may see it."""

    heard: Heard
    grants: list[Grant]
    is_on_duty: bool
    is_asked: bool
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
    """The same for positions outside any emergency, which wait a while for company."""
    return record_all(heard)


@action
def record_all(heard: list[Heard]) -> list[Recorded]:
    """Store each position as what it is, and publish it to those who are shown it.

    What belongs to a closed grant is dropped; its sender is told once. What nobody may see is no track:
    only the sender's own last position is replaced.
    """
    steps = _steps(heard)
    _find_the_ended(steps)
    kept = [step for step in steps if step.ended is None]
    _publish(_store(kept))
    return [step.outcome() for step in steps]


# Which matter it belongs to


def _steps(heard: list[Heard]) -> list[_Step]:
    senders = _senders({one.user.pk for one in heard})
    grants = _locked_grants({user_id for user_id, sender in senders.items() if sender.has_grants})
    unknown = Sender(is_on_duty=False, has_grants=False, is_asked=False)
    steps = []
    for one in heard:
        sender, open_grants = senders.get(one.user.pk, unknown), grants.get(one.user.pk, [])
        reason_id = _matter(one.request.emergency_id, open_grants)
        steps.append(_Step(one, open_grants, sender.is_on_duty, sender.is_asked, reason_id))
    return steps


def _senders(user_ids: set[str]) -> dict[str, Sender]:
    found = User.objects.filter(pk__in=user_ids).values_list(
        "pk",
        Case(When(ON_DUTY, then=Value(True)), default=Value(False), output_field=BooleanField()),
        Exists(Grant.objects.open().filter(subject=OuterRef("pk"))),
        Exists(Inquiry.objects.pending(timezone.now()).filter(subject=OuterRef("pk"))),
    )
    return {user_id: Sender(*known) for user_id, *known in found}


def _locked_grants(user_ids: set[str]) -> dict[str, list[Grant]]:
    """The open grants about these people, the newest first.

    Locked: who closes one meanwhile waits until this position is published, or it is not published at all.
    """
    grants: dict[str, list[Grant]] = defaultdict(list)
    if not user_ids:  # most of the time
        return grants
    found = Grant.objects.open().filter(subject__in=user_ids).order_by("pk")
    for grant in found.select_for_update():
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


def _store(steps: list[_Step]) -> list[tuple[_Step, NewPosition]]:
    """Keep all, also the late. Returns those that were the newest of their sender when they came."""
    last = _locked_last({step.user.pk for step in steps})
    current: dict[str, NewPosition] = {}
    track, news = [], []
    for step in steps:
        before = last.get(step.user.pk)
        position = _position(step, before)
        if step.is_shared:
            track.append(position)
        if before is None or position.at >= before.at:
            last[step.user.pk] = Last(position.at, (position.lat, position.lng))
            current[step.user.pk] = position
            news.append((step, position))
    _write(track, [current[user_id] for user_id in sorted(current)])
    return news


def _locked_last(user_ids: set[str]) -> dict[str, Last]:
    """In the order of their keys, so that no two servers wait for each other."""
    found = Latest.objects.select_for_update().filter(pk__in=user_ids).order_by("pk")
    rows = found.values_list("pk", "at", "lat", "lng")
    return {user_id: Last(at, (lat, lng)) for user_id, at, lat, lng in rows}


def _write(track: Iterable[NewPosition], current: Iterable[NewPosition]) -> None:
    bulk_insert.insert(Fix, [position.row() for position in track])
    bulk_insert.insert(Latest, [position.row() for position in current], replaces="user_id")


def _position(step: _Step, before: Last | None) -> NewPosition:
    said, user, received_at = step.heard.request.location, step.user, step.heard.received_at
    at = min(zoned(said.timestamp or "") or received_at, received_at)
    place = (said.lat, said.lng)
    return NewPosition(
        user=user,
        lat=said.lat,
        lng=said.lng,
        accuracy_m=said.accuracy,
        speed_mps=said.speed,
        heading_degrees=said.heading,
        at=at,
        received_at=received_at,
        said_at=said.timestamp or "",
        hospital_id=user.hospital_id if step.is_on_duty else None,
        reason_id=step.reason_id,
        is_emergency=step.heard.request.is_emergency,
        status=step.heard.request.status or "active",
        is_inaccurate=(said.accuracy or 0) > INACCURATE_M,
        is_implausible=before is not None and _implied_mps(before, at, place) > IMPLAUSIBLE_MPS,
    )


def _implied_mps(before: Last, at: datetime, place: Point) -> float:
    seconds = max(SHORTEST_STEP_SECONDS, abs((at - before.at).total_seconds()))
    return distance_m(before.place, place) / seconds


# Publishing


def _publish(news: list[tuple[_Step, NewPosition]]) -> None:
    """By hospital, so that what is for one group travels together."""
    inquiries = _pending_inquiries({step.user.pk for step, _ in news if step.is_asked})
    for step, position in sorted(news, key=lambda pair: pair[0].user.hospital_id or ""):
        audience = Audience.of(step.user, step.grants, step.reason_id, is_on_duty=step.is_on_duty)
        for grant, listeners in audience.by_reason():
            publish(as_seen(position, grant), *listeners, but=[step.user.pk])
        for inquiry in inquiries.pop(step.user.pk, []):
            _answer(inquiry, position, audience)


def _pending_inquiries(user_ids: set[str]) -> dict[str, list[Inquiry]]:
    """Who waits for the next position of these people; each is answered once."""
    by_subject: dict[str, list[Inquiry]] = defaultdict(list)
    if not user_ids:  # most of the time
        return by_subject
    pending = Inquiry.objects.pending(timezone.now()).filter(subject__in=user_ids)
    found = list(pending.select_related("asker").order_by("pk"))
    Inquiry.objects.filter(pk__in=[inquiry.pk for inquiry in found]).update(answered_at=timezone.now())
    for inquiry in found:
        by_subject[inquiry.subject_id].append(inquiry)
    return by_subject


def _answer(inquiry: Inquiry, position: NewPosition, audience: Audience) -> None:
    """The next position goes to who asked, if the right to see it has lasted."""
    asker = inquiry.asker
    if asker.pk not in audience.people and seen_by(asker).filter(pk=position.user.pk).exists():
        publish(as_seen(position, audience.grant_for(asker)), groups.person(asker.pk))
