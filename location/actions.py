"""What can be done with positions; socket, REST, admin and the domains above call the same."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from hplus import errors
from hplus.accounts.actions import find_hospital
from hplus.accounts.models import Hospital, User
from hplus.protocol.wire import missing, new_id
from hplus.realtime import groups
from hplus.realtime.actions import Result, action, publish
from location import messages
from location.geo import Point, distance_m, eta_seconds
from location.models import ON_DUTY, Fix, Grant, Inquiry, Latest, PositionAccess, locatable_by
from location.visible_position import location_update

TRACK_FIXES = 500
DELETE_BATCH = 10_000

# Grants: opened and closed by whoever knows why


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
    """From now on that person, or all staff of that hospital, may see where the subject is.

    Safe to repeat; a destination given later replaces the one before. Where the subject or the
    other is no known user there is nothing to see, and nothing happens. `destination` is latitude
    and longitude in degrees.
    """
    if not _are_known(subject_id, to_user, to_hospital) or subject_id == to_user:
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


def _are_known(subject_id: str, to_user: str | None, to_hospital: str | None) -> bool:
    people = {subject_id, to_user} - {None}
    known = User.objects.filter(pk__in=people).count() == len(people)
    return known and (to_hospital is None or Hospital.objects.filter(pk=to_hospital).exists())


def _destination_of(reason_id: str, subject_id: str) -> tuple[float | None, float | None]:
    """Where the subject is expected in this matter, if that has been said."""
    known = Grant.objects.open().filter(
        reason_id=reason_id, subject=subject_id, destination_lat__isnull=False
    )
    return known.values_list("destination_lat", "destination_lng").first() or (None, None)


@action
def close_grants(reason_id: str, reason: str, *, subject_id: str | None = None) -> None:
    """Sharing ends, for all subjects of the matter or for one. Safe to repeat.

    Nothing that comes later is stored or relayed; a phone that goes on is told once why.
    """
    grants = Grant.objects.open().filter(reason_id=reason_id)
    if subject_id is not None:
        grants = grants.filter(subject=subject_id)
    # In the order of their ids, as positions lock them, so that no two deeds wait for each other.
    closing = list(grants.select_for_update().order_by("pk"))
    open_no_more = Grant.objects.filter(pk__in=[grant.pk for grant in closing])
    open_no_more.update(closed_at=timezone.now(), close_reason=reason[:200])
    for subject in {grant.subject_id for grant in closing}:
        publish(
            messages.LocationSharingEnded(user_id=subject, emergency_id=reason_id), groups.person(subject)
        )


# Looking, for the domains above: they have judged the right themselves


def nearest_users(user_ids: Iterable[str], lat: float, lng: float) -> list[messages.Nearby]:
    """Those of these people whose fix is fresh, the nearest to this place first."""
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


def track(reason_id: str) -> list[Fix]:
    """Every fix of a matter, in the order of time."""
    return list(Fix.objects.filter(reason_id=reason_id).order_by("at", "id"))


def read_track(user: User, reason_id: str) -> list[Fix]:
    """The same for somebody's eyes: that it was read is recorded, for everyone whose way it shows."""
    fixes = track(reason_id)
    seen = sorted({fix.user_id for fix in fixes} - {user.pk})
    PositionAccess.objects.bulk_create(
        PositionAccess(reader=user, subject_id=user_id, why="track", reason_id=reason_id) for user_id in seen
    )
    return fixes


def latest(user_ids: Iterable[str]) -> dict[str, Latest]:
    """userId → the last fix, where there is one."""
    return {row.user_id: row for row in Latest.objects.filter(user__in=list(user_ids))}


def latest_at(hospital_id: str) -> list[Latest]:
    """The last fix of everyone whose position all staff of that hospital may see now."""
    granted = Grant.objects.open().filter(to_hospital=hospital_id, subject=OuterRef("user"))
    on_duty = User.objects.filter(ON_DUTY, hospital=hospital_id)
    seen = Latest.objects.filter(Exists(granted) | Q(user__in=on_duty))
    return list(seen.select_related("user").order_by("user"))


def fresh_positions(user_ids: Iterable[str]) -> dict[str, Point]:
    """userId → where that phone is now, for what its user says; only fresh fixes (settings.WHEREABOUTS)."""
    found = Latest.objects.fresh(timezone.now()).filter(user__in=list(user_ids))
    return {row.user_id: (row.lat, row.lng) for row in found}


# Watching


def watch(user: User, request: messages.WatchLocations) -> Result:
    """Show this connection the positions a hospital may see, or those of one emergency; or no longer.

    Raises Forbidden, HospitalMismatch, HospitalNotFound, or ValidationFailed where a superuser names none.
    """
    hospital_id, reason_id = _watched_hospital(user, request.hospital_id), request.emergency_id or ""
    group = groups.positions(hospital_id, reason_id)
    if not request.on:
        return Result(unsubscribe=[group])
    if reason_id and not Grant.objects.open().filter(reason_id=reason_id, to_hospital=hospital_id).exists():
        raise errors.Forbidden(field="emergencyId")
    return Result(subscribe=[group])


def _watched_hospital(user: User, asked: str | None) -> str:
    hospital_id = asked or user.hospital_id
    if user.is_superuser:
        if hospital_id is None:
            raise missing("hospitalId")
        return find_hospital(hospital_id).pk
    if user.is_patient or hospital_id is None:
        raise errors.Forbidden()
    if hospital_id != user.hospital_id:
        raise errors.HospitalMismatch(field="hospitalId")
    return hospital_id


# Asking


def request_location(user: User, request: messages.RequestLocation) -> Result:
    """The last fix at once; the person asked is told, and the next fix comes to the asker.

    Raises Forbidden or LocationUnavailable (the question stands even so).
    """
    found = _request_location(user, request)
    if found is None:
        raise errors.LocationUnavailable(field="targetUserId")
    return Result(events=[found])


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
    return _read(user, target, grant)


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
    """Who waits for this user's next fix."""
    waiting = Inquiry.objects.pending(timezone.now()).filter(subject=user).select_related("asker")
    return [location_requested(inquiry) for inquiry in waiting]


def shares(user: User) -> bool:
    """Whether this user's position belongs to an open matter."""
    return Grant.objects.open().filter(subject=user).exists()


@action
def see(user: User, target_id: str) -> tuple[messages.LocationUpdate, list[Fix]]:
    """The last fix of a person and the way there.

    Raises Forbidden or LocationUnavailable.
    """
    target = _find_visible(user, target_id)
    found = _read(user, target, _grant_between(user, target))
    if found is None:
        raise errors.LocationUnavailable()
    recent = Fix.objects.visible_to(user).filter(user=target, at__gte=_a_day_ago())
    return found, list(reversed(recent.order_by("-at", "-id")[:TRACK_FIXES]))


def _find_visible(user: User, target_id: str) -> User:
    """Whom there is not, nobody may see either: the answer does not tell who exists."""
    target = User.objects.filter(pk=target_id, is_active=True).first()
    if target is None or not locatable_by(user).filter(pk=target_id).exists():
        raise errors.Forbidden()
    return target


def _grant_between(user: User, target: User) -> Grant | None:
    """The newest open matter in which this user may see the target."""
    return Grant.objects.open().granted_to(user).filter(subject=target).order_by("-pk").first()


def _read(user: User, target: User, grant: Grant | None) -> messages.LocationUpdate | None:
    """The last fix of somebody one may see. That it was read is recorded."""
    found = Latest.objects.filter(user=target).select_related("user").first()
    if found is None:
        return None
    record_access(user, target.pk, grant)
    return location_update(found, grant)


def record_access(user: User, subject_id: str, grant: Grant | None = None, why: str = "") -> None:
    """Who has read whose position, and why. One's own is nobody's business."""
    if subject_id == user.pk:
        return
    PositionAccess.objects.create(
        reader=user,
        subject_id=subject_id,
        why=why or (grant.why if grant else "superuser" if user.is_superuser else "on duty"),
        reason_id=grant.reason_id if grant else "",
    )


# Duties


def delete_old_fixes() -> int:
    """Where paramedics went between emergencies is forgotten after a day; the track of a matter stays."""
    old = Fix.objects.filter(reason_id="", received_at__lt=_a_day_ago()).values_list("pk", flat=True)
    return Fix.objects.filter(pk__in=list(old[:DELETE_BATCH])).delete()[0]


def delete_old_positions() -> int:
    """Likewise where somebody was last, unless that still matters; and who asked for it."""
    matters = Grant.objects.open().filter(subject=OuterRef("user"))
    old = Latest.objects.filter(~Exists(matters), received_at__lt=_a_day_ago())
    return old.delete()[0] + Inquiry.objects.filter(expires_at__lt=_a_day_ago()).delete()[0]


def _a_day_ago() -> datetime:
    return timezone.now() - timedelta(hours=settings.LOCATION_TRACK_HOURS)
