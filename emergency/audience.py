"""Who hears of an emergency: whom it alerts, and who gets its events."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from emergency import sharing, timeline
from emergency.current_state import state_of
from emergency.dispatching import dispatchers as dispatchers
from emergency.dispatching import is_dispatcher as is_dispatcher
from emergency.messages import EmergencyAlert, EmergencyStatusUpdate, EntryEvent
from emergency.models import AidRequest, Alert, Emergency, Entry, EntryKind, HospitalPolicy, Reply
from emergency.visibility import View, view_of
from hplus.accounts.models import User
from hplus.push.actions import can_be_woken
from hplus.realtime import groups
from hplus.realtime.actions import publish
from hplus.realtime.groups import Group
from hplus.realtime.hub.presence import connected_among

# Groups


def staff_concerned(emergency: Emergency, *, of: str | None = None) -> Group:
    """Return the staff group of who was alerted, and of the assignee, at its hospital or that one."""
    alerted = set(Alert.objects.filter(emergency=emergency).user_ids())
    members = alerted | ({emergency.assigned_to_id} - {None})
    return _staff_group(of or emergency.hospital_id, members)


def helpers_concerned(emergency: Emergency) -> list[Group]:
    """Return the staff groups of those who were alerted at the hospitals that are asked to help.

    They are asked while nobody has accepted; the event that ends that is their last (`stop_asking`).
    """
    asked = AidRequest.objects.filter(emergency=emergency).values_list("hospital_id", flat=True)
    hospital_ids = list(asked.order_by("hospital_id"))
    alerted = helpers_alerted(emergency) if hospital_ids else []
    return [_staff_group(hospital_id, alerted) for hospital_id in hospital_ids]


def helpers_alerted(emergency: Emergency) -> list[str]:
    """Return the userIds of those who were alerted at the hospitals that are asked to help."""
    asked = AidRequest.objects.filter(emergency=emergency).values("hospital")
    alerted = Alert.objects.filter(emergency=emergency, user__hospital__in=asked)
    return alerted.exclude(entry=None).user_ids()


def actor_group(emergency: Emergency, user: User) -> list[Group]:
    """Return the user who acts, where that user reads the chart: events go there also without an alert."""
    return [groups.person(user.pk)] if emergency.has_readable_chart(user) else []


def _staff_group(hospital_id: str, user_ids: Iterable[str]) -> Group:
    """The staff group with only these members, as far as they still work there.

    One message on the layer reaches them all, and only they get mailbox entries.
    """
    staff = User.objects.staff_of(hospital_id).filter(pk__in=set(user_ids)).order_by("pk")
    members = list(staff.values_list("pk", flat=True))
    return replace(groups.staff(hospital_id), members=lambda: members)


def publish_entry(
    event_class: type[EntryEvent],
    entry: Entry,
    emergency: Emergency,
    *more: Group,
    but: Iterable[str] = (),
    staff: Group | None = None,
) -> None:
    """Publish an event from its entry to the staff concerned, to more groups and to the requester.

    The requester gets what the requester may see: see `visibility`. `staff` stands for the staff concerned
    where they were another hospital's.
    """
    listeners = [staff or staff_concerned(emergency), *helpers_concerned(emergency), *more]
    requester = emergency.requested_by
    if view_of(requester, emergency) is View.STAFF:
        publish(event_class.of(entry), *listeners, groups.person(requester.pk), but=but)
        return
    publish(event_class.of(entry), *listeners, but=[*but, requester.pk])
    if requester.pk not in but:
        publish_to_requester(event_class, entry, emergency)


def publish_to_requester(event_class: type[EntryEvent], entry: Entry, emergency: Emergency) -> None:
    """Publish an event from its entry to the requester alone, as far as the requester may see."""
    view = view_of(emergency.requested_by, emergency) or View.CALLER
    publish(event_class.of_for(entry, view), groups.person(emergency.requested_by_id))


def publish_status(entry: Entry, *more: Group, emergency: Emergency) -> None:
    """Publish `emergencyStatusUpdate` from its entry to everybody concerned, and to more groups."""
    publish_entry(EmergencyStatusUpdate, entry, emergency, *more)


# Alerts


def users_to_alert(emergency: Emergency, at: str | None = None) -> list[str]:
    """Return the userIds to alert at the present level: roles of the hospital's policy, then all its staff.

    `at` is another hospital that is asked to help, with the roles of its own policy. The requester is left
    out.
    """
    hospital_id = at or emergency.hospital_id
    staff = User.objects.staff_of(hospital_id)
    if emergency.escalation_level == 0 or at:
        staff = staff.filter(role__in=HospitalPolicy.of(hospital_id).alert_roles)
    return list(staff.exclude(pk=emergency.requested_by_id).values_list("pk", flat=True))


def staff_alerted_before(emergency: Emergency) -> list[str]:
    """Return the userIds of the staff who were alerted at any level."""
    alerted = Alert.objects.filter(emergency=emergency).exclude(entry=None).user_ids()
    staff = User.objects.staff_of(emergency.hospital_id).filter(pk__in=alerted)
    return list(staff.values_list("pk", flat=True))


def alert(emergency: Emergency, user_ids: Iterable[str], now: datetime, *, at: str | None = None) -> None:
    """Alert these users and record that; their earlier replies are cleared.

    `at` is the hospital they are of, where that is one asked to help.
    """
    alerted = sorted(user_ids)
    if not alerted:
        return
    if emergency.alerted_at is None:
        emergency.alerted_at = now
        Emergency.objects.filter(pk=emergency.pk).update(alerted_at=now)
    data = {
        "userIds": alerted,
        "escalationLevel": emergency.escalation_level,
        "emergency": state_of(emergency).as_json(),
        **({"mutualAid": at} if at else {}),
    }
    entry = timeline.add_entry(emergency, EntryKind.ALERTED, None, data, now)
    Alert.objects.bulk_create(
        [Alert(emergency=emergency, user_id=user_id, entry=entry) for user_id in alerted],
        update_conflicts=True,
        unique_fields=["emergency", "user"],
        update_fields=["entry", "reply", "replied_at"],
    )
    sharing.share_presence(emergency, alerted)
    publish(EmergencyAlert.of(entry), _staff_group(at or emergency.hospital_id, alerted))


def reachable_among(user_ids: Iterable[str]) -> set[str]:
    """Return those who are connected, or have a phone that a push can wake."""
    connected = connected_among(user_ids)
    return connected | can_be_woken(set(user_ids) - connected)


def alert_remaining(emergency: Emergency, now: datetime, *, at: str | None = None) -> None:
    """Alert those to alert, here or `at` a hospital that helps, who were neither alerted nor have replied."""
    alerts = Alert.objects.filter(emergency=emergency)
    alerted = alerts.exclude(entry=None).user_ids()
    replied = alerts.exclude(reply=Reply.NONE).user_ids()
    alert(emergency, set(users_to_alert(emergency, at)) - {*alerted, *replied}, now, at=at)


def store_reply(emergency: Emergency, user: User, reply: str, now: datetime) -> None:
    fields = {"reply": reply, "replied_at": now}
    Alert.objects.update_or_create(emergency=emergency, user=user, defaults=fields)


def is_open_emergency_of(user: User, emergency_id: str) -> bool:
    """Whether the emergency is open and the user may see it. Calls ask by `settings.EMERGENCY_OF_CALL`."""
    return Emergency.objects.visible_to(user).open().filter(pk=emergency_id).exists()
