"""Sending and reading notices. The socket, REST and every domain above call these actions."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone

from hplus import errors
from hplus.accounts.models import STAFF_ROLES, User
from hplus.notifications.messages import Announced, Notified, Notify, Target
from hplus.notifications.models import Notification, Priority
from hplus.portions import delete_in_portions
from hplus.realtime import groups
from hplus.realtime.actions import Result, action, publish
from hplus.realtime.models import Contact, MailboxEntry


@action
def notify(
    user_ids: Iterable[str],
    *,
    category: str,
    title: str,
    body: str,
    priority: str = Priority.NORMAL,
    data: dict[str, Any] | None = None,
    renews: str = "",
) -> None:
    """Send each of these people a notice from HPlus itself, as part of the calling action.

    `data` is a JSON object. Unknown and deactivated users are left out. `renews` names a key of `data`: an
    unread notice of this category with the same value there is updated and sent again, not a second one made.
    """
    people = User.objects.filter(pk__in=set(user_ids), is_active=True).order_by("pk")
    drafts = [
        Notification(
            recipient=person,
            hospital_id=person.hospital_id,
            category=category,
            title=title,
            body=body,
            priority=priority,
            data=data or {},
        )
        for person in people
    ]
    _store_and_publish(draft for draft in drafts if not (renews and _renew(draft, renews)))


def _renew(draft: Notification, key: str) -> bool:
    """Update the unread notice about the same thing and publish it. Returns whether there is one."""
    unread = Notification.objects.filter(recipient=draft.recipient_id, read_at=None, category=draft.category)
    known = unread.filter(**{f"data__{key}": draft.data[key]}).order_by("-pk").first()
    if known is None:
        return False
    fields = ("title", "body", "priority", "data", "sent_at")
    for name in fields:
        setattr(known, name, getattr(draft, name))
    known.save(update_fields=fields)
    assert known.recipient_id is not None
    publish(Notified.of(known), groups.person(known.recipient_id))
    return True


def _store_and_publish(notices: Iterable[Notification]) -> int:
    """Store each notice and publish it to its recipient. Returns how many."""
    stored = Notification.objects.bulk_create(notices)
    for notice in stored:
        assert notice.recipient_id is not None
        publish(Notified.of(notice), groups.person(notice.recipient_id))
    return len(stored)


# The requests


def do(user: User, request: Notify) -> Result:
    """Send a notice, or mark one as read. Raises like `send` and `mark_read`."""
    if request.action == "markRead":
        assert request.notification_id is not None
        return mark_read(user, request.notification_id)
    return send(user, request)


@action
def send(user: User, request: Notify) -> Result:
    """Send a notice from staff to people of their hospital, but not to the sender.

    Raises Forbidden (a patient; hospital-wide by others than its admins), HospitalMismatch or
    UserNotFound (also for staff of another hospital and for a patient with whom the hospital
    shares neither a room nor an open emergency).
    """
    target = request.target
    assert target is not None
    _must_be_allowed(user, target)
    count = _store_and_publish(_draft(user, request, person.pk) for person in _recipients(user, target))
    if target.is_hospital_wide:
        _announce(user, request)
    return Result(ack_data={"recipients": count})


def _must_be_allowed(user: User, target: Target) -> None:
    if user.is_patient or user.hospital_id is None:
        raise errors.Forbidden("Only staff of a hospital may send notices.")
    if target.hospital_id and target.hospital_id != user.hospital_id:
        raise errors.HospitalMismatch(field="target.hospitalId")
    if target.is_hospital_wide and not user.is_hospital_admin:
        raise errors.Forbidden("Only an admin may notify the whole hospital.")


def _recipients(user: User, target: Target) -> list[User]:
    assert user.hospital_id is not None
    staff = User.objects.staff_of(user.hospital_id)
    if target.user_id:
        staff = staff.filter(pk=target.user_id) | _patients_known_to(user.hospital_id, target.user_id)
    if target.role:
        staff = staff.filter(role=target.role)
    if target.department:
        staff = staff.filter(department__iexact=target.department)
    found = list(staff.exclude(pk=user.pk).order_by("pk"))
    if target.user_id and not found:
        raise errors.UserNotFound(field="target.userId")
    return found


def _patients_known_to(hospital_id: str, user_id: str) -> Any:
    """This patient, where a member of the hospital's staff shares a room or an open emergency with them."""
    shared = Contact.objects.filter(
        user=user_id, contact__hospital=hospital_id, contact__role__in=STAFF_ROLES, contact__is_active=True
    )
    return User.objects.filter(pk__in=shared.values("user"), role="patient", is_active=True)


def _draft(user: User, request: Notify, recipient_id: str | None) -> Notification:
    assert request.title is not None
    assert request.body is not None
    return Notification(
        recipient_id=recipient_id,
        sender=user,
        hospital_id=user.hospital_id,
        category=request.category,
        title=request.title,
        body=request.body,
        priority=request.priority,
        data=request.data,
    )


def _announce(user: User, request: Notify) -> None:
    """Publish to the patients who joined the hospital; the row records it and has no recipient."""
    assert user.hospital_id is not None
    notice = _draft(user, request, None)
    notice.read_at = notice.sent_at
    notice.save(force_insert=True)
    publish(Announced.of(notice), groups.announcements(user.hospital_id))


def mark_read(user: User, notification_id: str) -> Result:
    """Mark one's own notice as read; safe to repeat. Raises MessageNotFound, also for another's notice."""
    own = Notification.objects.of(user).filter(pk=notification_id)
    own.filter(read_at=None).update(read_at=timezone.now())
    if not own.exists() and not _has_no_row(user, notification_id):
        raise errors.MessageNotFound("There is no such notification.", field="notificationId")
    return Result(ack_data={"notificationId": notification_id, "unreadCount": unread_count(user)})


def _has_no_row(user: User, notification_id: str) -> bool:
    """Whether it is an announcement or the notice of a chat message: nothing is stored to be marked."""
    if Notification.objects.filter(pk=notification_id, recipient=None).exists():
        return True
    try:
        event_id = uuid.UUID(notification_id)
    except ValueError:
        return False
    return MailboxEntry.objects.filter(user=user, event_id=event_id).exists()


# Reading


def unread_count(user: User) -> int:
    return Notification.objects.unread_by(user).count()


def notices_of(
    user: User, *, before: str | None = None, unread: bool = False, limit: int
) -> tuple[list[Notification], bool]:
    """Return the newest notices of this user, or those older than `before`, and whether there are more.

    Raises MessageNotFound where `before` is not one of them.
    """
    found = Notification.objects.of(user)
    if before and not found.filter(pk=before).exists():
        raise errors.MessageNotFound("There is no such notification.", field="before")
    if before:
        found = found.filter(pk__lt=before)
    if unread:
        found = found.filter(read_at=None)
    rows = list(found.order_by("-pk")[: limit + 1])
    return rows[:limit], len(rows) > limit


# Jobs


def delete_old_notifications() -> int:
    """Delete notices read before the retention; unread ones stay. Returns how many."""
    oldest = timezone.now() - timedelta(days=settings.NOTIFICATION_RETENTION_DAYS)
    return delete_in_portions(Notification.objects.filter(read_at__lt=oldest).order_by("read_at"))
