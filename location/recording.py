"""Record positions: all that wait are stored and published in one transaction.

Hundreds a second come between emergencies, so no model instances are made here: one query loads what the
database knows of the senders, one statement writes the track, one the latest positions.
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
from hplus.realtime.execution.id_subquery import any_of
from location import messages
from location.audience import Audience
from location.geo import Point, distance_m
from location.models import ON_DUTY, Fix, Grant, Inquiry, Latest, Position, locatable_by
from location.visible_position import location_update, parse_naive, parse_zoned

INACCURATE_M = 1000
IMPLAUSIBLE_MPS = 70  # 250 km/h
# Fixes without a zone that a phone has kept in a tunnel are older than the present one by no more than this;
# an hour is the end of summer time.
TUNNEL = timedelta(minutes=10)
SHORTEST_STEP_SECONDS = 1.0  # fixes buffered in a tunnel arrive together

COLUMNS = [column.attname for column in Position._meta.local_fields]


@dataclass(frozen=True, slots=True)
class ReceivedPosition:
    """A position as a phone sent it, and when it arrived, which may be seconds before it is stored."""

    user: User
    request: messages.UpdateLocation
    received_at: datetime


@dataclass(frozen=True)
class Recorded(Result):
    """`is_under_grant`: an open grant is about this user, so no later position may be lost."""

    is_under_grant: bool = False


class Sender(NamedTuple):
    """What the database knows of a user who sends a position."""

    is_on_duty: bool
    has_grants: bool
    is_awaited: bool


class Last(NamedTuple):
    """When and where a user was last."""

    at: datetime
    place: Point
    said_at: str


@dataclass(slots=True)
class NewPosition:
    """A position that is not stored yet, with the fields of the model `Position` and its user."""

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
class _Draft:
    """A received position with what decides where it is stored and who sees it."""

    received: ReceivedPosition
    grants: list[Grant]
    is_on_duty: bool
    is_awaited: bool
    reason_id: str = ""
    closed_grant: Grant | None = None  # it was sent for this one, and is dropped
    events: tuple[messages.LocationSharingStopped, ...] = ()

    @property
    def user(self) -> User:
        return self.received.user

    @property
    def claimed_id(self) -> str | None:
        return self.received.request.emergency_id

    @property
    def is_shared(self) -> bool:
        return bool(self.grants) or self.is_on_duty

    def outcome(self) -> Recorded:
        return Recorded(events=self.events, is_under_grant=bool(self.grants))


def record(user: User, request: messages.UpdateLocation) -> Result:
    """Record one position outside a batch."""
    [outcome] = record_all([ReceivedPosition(user, request, timezone.now())])
    return outcome


@action
def record_all(received: list[ReceivedPosition]) -> list[Recorded]:
    """Store each position and publish it to those who are shown it.

    A position sent for a closed grant is dropped, and its sender is notified once. One that nobody may
    see adds nothing to a track: it only replaces the sender's latest position.
    """
    drafts = _drafts(received)
    _find_closed(drafts)
    kept = [draft for draft in drafts if draft.closed_grant is None]
    _publish_all(_store(kept))
    return [draft.outcome() for draft in drafts]


# Which reason a position belongs to


def _drafts(received: list[ReceivedPosition]) -> list[_Draft]:
    senders = _senders({one.user.pk for one in received})
    grants = _lock_grants({user_id for user_id, sender in senders.items() if sender.has_grants})
    unknown = Sender(is_on_duty=False, has_grants=False, is_awaited=False)
    drafts = []
    for one in received:
        sender, open_grants = senders.get(one.user.pk, unknown), grants.get(one.user.pk, [])
        reason_id = _reason_id(one.request.emergency_id, open_grants)
        drafts.append(_Draft(one, open_grants, sender.is_on_duty, sender.is_awaited, reason_id))
    return drafts


def _senders(user_ids: set[str]) -> dict[str, Sender]:
    found = User.objects.filter(pk__in=any_of(user_ids)).values_list(
        "pk",
        Case(When(ON_DUTY, then=Value(True)), default=Value(False), output_field=BooleanField()),
        Exists(Grant.objects.open().filter(subject=OuterRef("pk"))),
        Exists(Inquiry.objects.pending(timezone.now()).filter(subject=OuterRef("pk"))),
    )
    return {user_id: Sender(*known) for user_id, *known in found}


def _lock_grants(user_ids: set[str]) -> dict[str, list[Grant]]:
    """The open grants about these users, newest first.

    Locked, so that `close_grants` waits until this position is published, or comes first and keeps it back.
    """
    grants: dict[str, list[Grant]] = defaultdict(list)
    if not user_ids:  # most of the time
        return grants
    found = Grant.objects.open().filter(subject__in=user_ids).order_by("pk")
    for grant in found.select_for_update():
        grants[grant.subject_id].insert(0, grant)
    return grants


def _reason_id(claimed_id: str | None, grants: list[Grant]) -> str:
    """The reason the sender claims, if it is open for the sender; else the newest open one; else blank."""
    reason_ids = [grant.reason_id for grant in grants]
    return claimed_id if claimed_id and claimed_id in reason_ids else next(iter(reason_ids), "")


def _find_closed(drafts: list[_Draft]) -> None:
    """Find positions sent for a closed grant: the app's timer still runs.

    A position that claims no reason may belong to a grant closed within the last LOCATION_TRACK_HOURS.
    """
    candidates = [draft for draft in drafts if _may_be_closed(draft)]
    if not candidates:
        return
    claimed = Q(reason_id__in={draft.claimed_id for draft in candidates if draft.claimed_id})
    recent = Q(closed_at__gt=timezone.now() - timedelta(hours=settings.LOCATION_TRACK_HOURS))
    matching = Grant.objects.closed().filter(
        claimed | recent, subject__in={draft.user.pk for draft in candidates}
    )
    closed = defaultdict(list)
    for grant in matching.order_by("-closed_at", "-pk"):
        closed[grant.subject_id].append(grant)
    for draft in candidates:
        _close(draft, closed[draft.user.pk])


def _may_be_closed(draft: _Draft) -> bool:
    if draft.claimed_id and draft.claimed_id != draft.reason_id:
        return True
    return not draft.grants and (draft.received.request.is_emergency or not draft.is_on_duty)


def _close(draft: _Draft, closed: list[Grant]) -> None:
    of_reason = [grant for grant in closed if draft.claimed_id in (None, grant.reason_id)]
    if not of_reason:
        return
    last = of_reason[0]
    is_first_notice = last.told_at is None
    if is_first_notice:
        _mark_as_notified(draft.user, [grant for grant in closed if grant.reason_id == last.reason_id])
        stopped = messages.LocationSharingStopped(
            user_id=draft.user.pk, emergency_id=last.reason_id, reason=last.close_reason
        )
        draft.events = (stopped,)
    if is_first_notice or draft.claimed_id or draft.received.request.is_emergency:
        draft.closed_grant = last


def _mark_as_notified(user: User, grants: list[Grant]) -> None:
    now = timezone.now()
    for grant in grants:
        grant.told_at = now
    Grant.objects.filter(pk__in=[grant.pk for grant in grants]).update(told_at=now)


# Rows


def _store(drafts: list[_Draft]) -> list[tuple[_Draft, NewPosition]]:
    """Store every position, also late ones; return those that were the newest of their sender on arrival."""
    last = _lock_last({draft.user.pk for draft in drafts})
    current: dict[str, NewPosition] = {}
    track, updates = [], []
    for draft in drafts:
        previous = last.get(draft.user.pk)
        position = _to_position(draft, previous)
        if draft.is_shared:
            track.append(position)
        is_newest = previous is None or position.at >= previous.at
        if is_newest and draft.received.request.location.is_fix:
            last[draft.user.pk] = Last(position.at, (position.lat, position.lng), position.said_at)
            current[draft.user.pk] = position
            updates.append((draft, position))
    _write(track, [current[user_id] for user_id in sorted(current)])
    return updates


def _lock_last(user_ids: set[str]) -> dict[str, Last]:
    """Lock the latest positions in the order of their keys, so that no two servers deadlock."""
    found = Latest.objects.select_for_update().filter(pk__in=any_of(user_ids)).order_by("pk")
    rows = found.values_list("pk", "at", "lat", "lng", "said_at")
    return {user_id: Last(at, (lat, lng), said_at) for user_id, at, lat, lng, said_at in rows}


def _write(track: Iterable[NewPosition], current: Iterable[NewPosition]) -> None:
    bulk_insert.insert(Fix, [position.row() for position in track])
    bulk_insert.insert(Latest, [position.row() for position in current], replaces="user_id")


def measured_at(received: ReceivedPosition) -> datetime:
    """Return the phone's word where it has a zone and is not in the future, else the time of arrival."""
    said_at, received_at = received.request.location.timestamp, received.received_at
    return min(parse_zoned(said_at or "") or received_at, received_at)


def _tunnel_time(said_at: str, previous: Last | None) -> timedelta:
    """How much older than the last fix one is whose time has no zone either; zero where it is not."""
    said = parse_naive(said_at) if previous is not None else None
    last = parse_naive(previous.said_at) if previous is not None and said is not None else None
    if said is None or last is None or not timedelta(0) < last - said <= TUNNEL:
        return timedelta(0)
    return last - said


def _to_position(draft: _Draft, previous: Last | None) -> NewPosition:
    measured, user, at = draft.received.request.location, draft.user, measured_at(draft.received)
    if previous is not None and (older := _tunnel_time(measured.timestamp or "", previous)):
        at = previous.at - older
    place = (measured.lat, measured.lng)
    return NewPosition(
        user=user,
        lat=measured.lat,
        lng=measured.lng,
        accuracy_m=measured.accuracy,
        speed_mps=measured.speed,
        heading_degrees=measured.heading,
        at=at,
        received_at=draft.received.received_at,
        said_at=measured.timestamp or "",
        hospital_id=user.hospital_id if draft.is_on_duty else None,
        reason_id=draft.reason_id,
        is_emergency=draft.received.request.is_emergency,
        status=draft.received.request.status or "active",
        is_inaccurate=(measured.accuracy or 0) > INACCURATE_M,
        is_implausible=not measured.is_fix or _jumps(previous, at, place),
    )


def _jumps(previous: Last | None, at: datetime, place: Point) -> bool:
    return previous is not None and _implied_mps(previous, at, place) > IMPLAUSIBLE_MPS


def _implied_mps(previous: Last, at: datetime, place: Point) -> float:
    seconds = max(SHORTEST_STEP_SECONDS, abs((at - previous.at).total_seconds()))
    return distance_m(previous.place, place) / seconds


# Publishing


def _publish_all(updates: list[tuple[_Draft, NewPosition]]) -> None:
    """Publish in the order of hospitals, so that events for one group are adjacent and travel together."""
    inquiries = _pending_inquiries({draft.user.pk for draft, _ in updates if draft.is_awaited})
    for draft, position in sorted(updates, key=lambda pair: pair[0].user.hospital_id or ""):
        audience = Audience.of(draft.user, draft.grants, draft.reason_id, is_on_duty=draft.is_on_duty)
        for grant, listeners in audience.groups_by_reason():
            publish(location_update(position, grant), *listeners, but=[draft.user.pk])
        for inquiry in inquiries.pop(draft.user.pk, []):
            _answer(inquiry, position, audience)


def _pending_inquiries(user_ids: set[str]) -> dict[str, list[Inquiry]]:
    """The requests that wait for the next position of these users, marked as answered."""
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
    """Publish the position to the user who asked, if that user may still see it and gets it no other way."""
    asker = inquiry.asker
    if asker.pk not in audience.people and locatable_by(asker).filter(pk=position.user.pk).exists():
        publish(location_update(position, audience.grant_for(asker)), groups.person(asker.pk))
