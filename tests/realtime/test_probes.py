"""Who connects is asked about by one statement: whoever it passes over would have got nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection as database
from django.utils import timezone

from calls import setup
from calls.messages import InitiateCall
from chat.actions import delete, send
from chat.messages import DeleteMessage, MarkAsRead, SendMessage
from chat.models import Message
from chat.receipts import deliver_all, mark_as_read
from emergency.call_for_help import request_help
from emergency.messages import RequestHelp
from hplus.accounts.models import User
from hplus.realtime.connection import coming_and_going
from hplus.realtime.consumers import DomainConsumer
from hplus.routing import HPlusConsumer
from location.actions import close_grants, open_grant
from location.consumers import LocationConsumer
from location.models import Inquiry
from tests.emergency.guide_frames import create_emergency_request

HOSPITAL = "hospital_001"
pytestmark = pytest.mark.skipif(database.vendor != "postgresql", reason="the statement is PostgreSQL's")
Users = dict[str, User]


def message(users: Users, sender: str, receiver: str) -> str:
    request = SendMessage(receiver_id=receiver, hospital_id=HOSPITAL, message="?")
    made = send(users[sender], request).ack_data
    assert made
    return str(made["messageId"])


def unread(users: Users) -> None:
    message(users, "patient_123", "doctor_123")


def unread_and_delivered(users: Users) -> None:
    deliver_all([("doctor_123", message(users, "patient_123", "doctor_123"))])


def read_and_deleted(users: Users) -> None:
    first, second = (message(users, "patient_123", "doctor_123") for _ in range(2))
    mark_as_read(users["doctor_123"], MarkAsRead(message_id=first))
    delete(users["patient_123"], DeleteMessage(message_id=second))


def unread_in_the_former_hospital(users: Users) -> None:
    unread(users)
    User.objects.filter(pk="doctor_123").update(hospital="hospital_002")


def a_call_for_help(users: Users) -> None:
    request_help(users["patient_123"], RequestHelp.read({"data": create_emergency_request()}))


def a_call(users: Users) -> None:
    request = InitiateCall(receiver_id="patient_123", hospital_id=HOSPITAL, call_type="audio")
    setup.initiate(users["doctor_123"], request, "connection")


def a_shared_position(users: Users) -> None:
    open_grant("reason", "patient_123", to_hospital=HOSPITAL, why="emergency")


def a_position_no_longer_shared(users: Users) -> None:
    a_shared_position(users)
    close_grants("reason", "over")


def asked_for(users: Users, *, expires_in_seconds: float = 60) -> None:
    Inquiry.objects.create(
        asker=users["doctor_123"],
        subject=users["paramedic_456"],
        request_id="r",
        expires_at=timezone.now() + timedelta(seconds=expires_in_seconds),
    )


def asked_for_long_ago(users: Users) -> None:
    asked_for(users, expires_in_seconds=-600)


def gets(consumer_class: type[DomainConsumer], user: User) -> tuple[bool, bool]:
    """Whether this domain has anything for a new connection of this user, and once it has settled."""
    consumer: Any = consumer_class(SimpleNamespace(user=user))  # type: ignore[arg-type]
    [snapshot], [result] = consumer_class.snapshot_all([consumer]), consumer_class.on_connect_all([consumer])
    [settled] = consumer_class.on_settled_all([consumer])
    now = any(snapshot.values()) or bool(result and result.events)
    if isinstance(consumer, LocationConsumer):
        now = now or consumer.is_under_grant or consumer.is_awaited
    return now, bool(settled and settled.events)


@pytest.mark.parametrize(
    ("situation", "concerned"),
    [
        (lambda users: None, set()),
        (unread, {"doctor_123"}),
        (unread_and_delivered, {"doctor_123"}),
        (read_and_deleted, set()),
        (a_call_for_help, {"patient_123", "doctor_123", "nurse_001", "paramedic_456", "root"}),
        (a_call, {"patient_123", "doctor_123"}),
        (a_shared_position, {"patient_123"}),
        (a_position_no_longer_shared, set()),
        (asked_for, {"paramedic_456"}),
        (asked_for_long_ago, set()),
    ],
)
def test_probe_finds_exactly_the_users_with_something_to_get(
    users: Users, situation: Callable[[Users], None], concerned: set[str]
) -> None:
    User.objects.filter(is_superuser=True).delete()
    User.objects.create_superuser("root", "x")
    situation(users)
    everybody = User.objects.all()
    clients: list[Any] = [SimpleNamespace(user_id=user.pk, user=user) for user in everybody]
    domains = list(HPlusConsumer.domains)
    found = coming_and_going._probe(clients, domains)
    seen: set[str] = set()
    for domain in domains:
        for user in everybody:
            now, later = gets(domain, user)
            for probe, gets_something in (("arrival_probe", now), ("settled_probe", later)):
                asked = found.get((domain, probe))  # type: ignore[call-overload]
                assert asked is not None or not gets_something, domain
                if asked is not None:
                    assert (user.pk in asked) == gets_something, (domain, user, probe)
            seen |= {user.pk} if now or later else set()
    assert concerned <= seen
    assert concerned or not seen


def test_probe_of_a_user_who_moved_finds_nothing_to_send(users: Users) -> None:
    unread_in_the_former_hospital(users)
    moved: Any = User.objects.get(pk="doctor_123")
    [chat] = [domain for domain in HPlusConsumer.domains if domain.settled_probe]
    client: Any = SimpleNamespace(user_id=moved.pk, user=moved)
    found = coming_and_going._probe([client], [chat])
    assert found == {(chat, "arrival_probe"): {moved.pk}, (chat, "settled_probe"): {moved.pk}}
    assert gets(chat, moved) == (False, False)
    assert Message.objects.unread_by_any([moved]).count() == 0


def test_domain_without_a_probe_asks_for_nobody_or_all() -> None:
    """Whoever adds a hook to a domain adds a probe, or every handshake pays for it."""
    hooks = ("snapshot", "snapshot_all", "on_connect", "on_connect_all")
    for domain in HPlusConsumer.domains:
        assert domain.arrival_probe or not any(domain.overrides(hook) for hook in hooks), domain
        assert domain.settled_probe or not domain.overrides("on_settled_all"), domain
