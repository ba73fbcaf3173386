"""Actions on positions and grants; the socket, REST, the admin site and `emergency` call the same ones."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from hplus import errors
from hplus.accounts.actions import find_hospital
from hplus.accounts.models import Hospital, User
from hplus.portions import delete_in_portions
from hplus.protocol.wire import missing, new_id
from hplus.realtime import groups
from hplus.realtime.actions import Result, action, publish
from location import messages
from location.geo import Point, distance_m, eta_seconds
from location.models import ON_DUTY, Fix, Grant, Inquiry, Latest, PositionAccess, locatable_by
from location.visible_position import location_update

TRACK_FIXES = 500

# Grants


@action
def open_grant(
    reason_id: str,
    subject_id: str,
    *,
    to_user: str | None = None,
    to_hospital: str | None = None,
    why: str,
    destination: Point | None = None,
) -> None:
    """Let a user, or all staff of a hospital, see the subject's position until `close_grants`.

    `destination` is latitude and longitude in degrees; a later one replaces the one before. Repeating a call
    changes nothing. Does nothing for an unknown subject, user or hospital.
    """
    if not _exist(subject_id, to_user, to_hospital) or subject_id == to_user:
        return
    lat, lng = destination or _destination_of(reason_id, subject_id)
    grant = Grant(
        reason_id=reason_id,
        subject_id=subject_id,
        to_user_id=to_user,
        to_hospital_id=to_hospital,
        why=why,
        destination_lat=lat,
        destination_lng=lng,
    )
    Grant.objects.bulk_create([grant], ignore_conflicts=True)
    if destination:
        Grant.objects.open().filter(reason_id=reason_id, subject=subject_id).update(
            destination_lat=lat, destination_lng=lng
        )
    publish(messages.LocationSharingBegan(user_id=subject_id), groups.person(subject_id))


def _exist(subject_id: str, to_user: str | None, to_hospital: str | None) -> bool:
    user_ids = {subject_id, to_user} - {None}
    do_users_exist = User.objects.filter(pk__in=user_ids).count() == len(user_ids)
    return do_users_exist and (to_hospital is None or Hospital.objects.filter(pk=to_hospital).exists())


def _destination_of(reason_id: str, subject_id: str) -> tuple[float | None, float | None]:
    """The destination that another open grant for the same reason has; None, None without one."""
    known = Grant.objects.open().filter(
        reason_id=reason_id, subject=subject_id, destination_lat__isnull=False
    )
    return known.values_list("destination_lat", "destination_lng").first() or (None, None)


@action
def close_grants(reason_id: str, reason: str, *, subject_id: str | None = None) -> None:
    """Close the grants for a reason, of all subjects or of one. Repeating a call changes nothing.

    Later positions for that reason are neither stored nor published; a phone that still sends them gets
    `locationSharingStopped` once.
    """
    grants = Grant.objects.open().filter(reason_id=reason_id)
    if subject_id is not None:
        grants = grants.filter(subject=subject_id)
    # Locked in the order of their ids, as `record_all` locks them, so that no two actions deadlock.
    closing = list(grants.select_for_update().order_by("pk"))
    Grant.objects.filter(pk__in=[grant.pk for grant in closing]).update(
        closed_at=timezone.now(), close_reason=reason[:200]
    )
    for subject in {grant.subject_id for grant in closing}:
        publish(
            messages.LocationSharingEnded(user_id=subject, emergency_id=reason_id), groups.person(subject)
        )


@action
def close_grants_of(user: User, but: Collection[str] = ()) -> None:
    """Close every grant by or about a person who moves to another place, and the requests for positions.

    `but` names the reasons that go on: emergencies for which this person called.
    """
    mine = Grant.objects.open().filter(Q(subject=user) | Q(to_user=user)).exclude(reason_id__in=but)
    closing = list(mine.select_for_update(of=("self",)).order_by("pk"))
    now = timezone.now()
    Grant.objects.filter(pk__in=[grant.pk for grant in closing]).update(closed_at=now, close_reason="moved")
    for grant in closing:
        publish(
            messages.LocationSharingEnded(user_id=grant.subject_id, emergency_id=grant.reason_id),
            groups.person(grant.subject_id),
        )
    pending = Inquiry.objects.filter(Q(asker=user) | Q(subject=user), answered_at=None)
    pending.filter(expires_at__gt=now).update(expires_at=now)


# Reading, for `emergency`, which has checked the right to see them


def nearest_users(user_ids: Iterable[str], lat: float, lng: float) -> list[messages.Nearby]:
    """Return those of the users whose latest position is fresh, the nearest to this place (degrees) first."""
    now = timezone.now()
    found = Latest.objects.fresh(now).filter(user__in=list(user_ids)).select_related("user")
    near = [(distance_m((row.lat, row.lng), (lat, lng)), row) for row in found]
    return [
        messages.Nearby(
            user_id=row.user_id,
            name=row.user.display_name,
            distance_meters=round(metres, 1),
            eta_seconds=eta_seconds(metres),
            fix_age=round(max(0.0, (now - row.at).total_seconds()), 1),
        )
        for metres, row in sorted(near, key=lambda pair: (pair[0], pair[1].user_id))
    ]


def read_track(user: User, reason_id: str) -> list[Fix]:
    """Every fix for a reason, in the order of time; the access to each user's fixes is recorded."""
    fixes = list(Fix.objects.filter(reason_id=reason_id).order_by("at", "id"))
    subjects = sorted({fix.user_id for fix in fixes} - {user.pk})
    PositionAccess.objects.bulk_create(
        PositionAccess(reader=user, subject_id=user_id, why="track", reason_id=reason_id)
        for user_id in subjects
    )
    return fixes


def latest_at(hospital_id: str) -> list[Latest]:
    """Return the latest positions that all staff of the hospital may see now."""
    granted = Grant.objects.open().filter(to_hospital=hospital_id, subject=OuterRef("user"))
    on_duty = User.objects.filter(ON_DUTY, hospital=hospital_id)
    visible = Latest.objects.filter(Exists(granted) | Q(user__in=on_duty))
    return list(visible.select_related("user").order_by("user"))


def fresh_positions(user_ids: Iterable[str]) -> dict[str, Point]:
    """Return userId → latitude and longitude in degrees, of those whose latest position is fresh.

    Other domains call it through `settings.WHEREABOUTS`.
    """
    found = Latest.objects.fresh(timezone.now()).filter(user__in=list(user_ids))
    return {row.user_id: (row.lat, row.lng) for row in found}


def last_received_at(user_id: str) -> datetime | None:
    """Return when the latest position of this user came in."""
    return Latest.objects.filter(user=user_id).values_list("received_at", flat=True).first()


def has_position_since(user_id: str, reason_id: str, since: datetime) -> bool:
    """Whether the user has sent a position for this reason since then."""
    return Fix.objects.filter(reason_id=reason_id, user=user_id, received_at__gte=since).exists()


# Watching


def watch(user: User, request: messages.WatchLocations) -> Result:
    """Subscribe the connection to the positions of a hospital or of one emergency, or unsubscribe it.

    Raises Forbidden, HospitalMismatch, HospitalNotFound, or ValidationFailed (a superuser must name one).
    """
    hospital_id, reason_id = _watched_hospital(user, request.hospital_id), request.emergency_id or ""
    group = groups.positions(hospital_id, reason_id)
    if not request.on:
        return Result(unsubscribe=[group])
    if reason_id and not Grant.objects.open().filter(reason_id=reason_id, to_hospital=hospital_id).exists():
        raise errors.Forbidden(field="emergencyId")
    return Result(subscribe=[group])


def _watched_hospital(user: User, requested_id: str | None) -> str:
    hospital_id = requested_id or user.hospital_id
    if user.is_superuser:
        if hospital_id is None:
            raise missing("hospitalId")
        return find_hospital(hospital_id).pk
    if user.is_patient or hospital_id is None:
        raise errors.Forbidden()
    if hospital_id != user.hospital_id:
        raise errors.HospitalMismatch(field="hospitalId")
    return hospital_id


# Requests for a position


def request_location(user: User, request: messages.RequestLocation) -> Result:
    """Return the target's last position; its next one follows, and the target gets `locationRequest`.

    Raises Forbidden, or LocationUnavailable where there is no last position; the request is kept even then.
    """
    last = _request_location(user, request)
    if last is None:
        raise errors.LocationUnavailable(field="targetUserId")
    return Result(events=[last])


@action
def _request_location(user: User, request: messages.RequestLocation) -> messages.LocationUpdate | None:
    target = _find_visible(user, request.target_user_id)
    grant = _grant_between(user, target)
    inquiry = Inquiry.objects.create(
        asker=user,
        subject=target,
        request_id=request.request_id or new_id(),
        reason_id=grant.reason_id if grant else "",
        expires_at=timezone.now() + timedelta(seconds=settings.LOCATION_REQUEST_SECONDS),
    )
    publish(location_requested(inquiry), groups.person(target.pk))
    return _read_latest(user, target, grant)


def location_requested(inquiry: Inquiry) -> messages.LocationRequested:
    return messages.LocationRequested(
        request_id=inquiry.request_id,
        user_id=inquiry.asker_id,
        requester_role=inquiry.asker.role,
        target_user_id=inquiry.subject_id,
        emergency_id=inquiry.reason_id or None,
        expires_at=inquiry.expires_at,
    )


def pending_inquiries(user: User) -> list[messages.LocationRequested]:
    """Return the open requests for this user's next position."""
    waiting = Inquiry.objects.pending(timezone.now()).filter(subject=user).select_related("asker")
    return [location_requested(inquiry) for inquiry in waiting]


def is_under_grant(user: User) -> bool:
    """Whether an open grant is about this user."""
    return Grant.objects.open().filter(subject=user).exists()


@action
def last_seen(user: User, target_id: str) -> tuple[messages.LocationUpdate, list[Fix]]:
    """Return the last position of a user, and the fixes of the last day that lead there, oldest first.

    Raises Forbidden or LocationUnavailable.
    """
    target = _find_visible(user, target_id)
    last = _read_latest(user, target, _grant_between(user, target))
    if last is None:
        raise errors.LocationUnavailable()
    recent = Fix.objects.visible_to(user).filter(user=target, at__gte=_track_start())
    return last, list(reversed(recent.order_by("-at", "-id")[:TRACK_FIXES]))


def _find_visible(user: User, target_id: str) -> User:
    """Return an active user whose position the user may see.

    Raises Forbidden, also for an unknown userId: the answer must not reveal which exist.
    """
    target = User.objects.filter(pk=target_id, is_active=True).first()
    if target is None or not locatable_by(user).filter(pk=target_id).exists():
        raise errors.Forbidden()
    return target


def _grant_between(user: User, target: User) -> Grant | None:
    """The newest open grant by which the user may see the target; None where none is needed."""
    return Grant.objects.open().granted_to(user).filter(subject=target).order_by("-pk").first()


def _read_latest(user: User, target: User, grant: Grant | None) -> messages.LocationUpdate | None:
    """The target's last position; the access is recorded. None where there is no position."""
    latest = Latest.objects.filter(user=target).select_related("user").first()
    if latest is None:
        return None
    record_access(user, target.pk, grant)
    return location_update(latest, grant)


def record_access(user: User, subject_id: str, grant: Grant | None = None, why: str = "") -> None:
    """Record that the user has read the subject's position, and why; nothing is recorded for one's own."""
    if subject_id == user.pk:
        return
    PositionAccess.objects.create(
        reader=user,
        subject_id=subject_id,
        why=why or (grant.why if grant else "superuser" if user.is_superuser else "on duty"),
        reason_id=grant.reason_id if grant else "",
    )


# Periodic jobs


def delete_old_fixes() -> int:
    """Delete fixes outside emergencies after LOCATION_TRACK_HOURS. Returns how many."""
    old = Fix.objects.filter(reason_id="", received_at__lt=_track_start())
    return delete_in_portions(old.order_by("received_at"))


def delete_old_positions() -> int:
    """Delete latest positions without an open grant, and requests, after LOCATION_TRACK_HOURS."""
    open_grants = Grant.objects.open().filter(subject=OuterRef("user"))
    old = Latest.objects.filter(~Exists(open_grants), received_at__lt=_track_start())
    inquiries = Inquiry.objects.filter(expires_at__lt=_track_start())
    return delete_in_portions(old) + delete_in_portions(inquiries)


def _track_start() -> datetime:
    return timezone.now() - timedelta(hours=settings.LOCATION_TRACK_HOURS)
