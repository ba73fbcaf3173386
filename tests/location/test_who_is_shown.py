"""Who is shown a position as it comes: every role and hospital, on duty and off, in an emergency and
outside, watching and not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from hplus import errors
from hplus.accounts.models import User
from hplus.realtime import groups
from hplus.realtime.models import Presence
from hplus.realtime.publishing import publisher
from hplus.realtime.publishing.envelopes import Delivery
from location import actions, messages
from location.messages import UpdateLocation
from location.models import locatable_by
from location.recording import record
from tests.location.positions import MATTER, update

HERE = "hospital_001"
STAFF_HERE = {
    "doctor_123", "doctor_456", "paramedic_456", "paramedic_789", "nurse_001", "admin_001",
    "receptionist_001", "technician_001", "pharmacist_001",
}  # fmt: skip
NOBODY: set[str] = set()
Groups = set[tuple[str, str]]


class Published(publisher.Publisher):
    """Keeps what is published instead of delivering it."""

    def __init__(self) -> None:
        super().__init__(asyncio.new_event_loop())
        self.deliveries: list[Delivery] = []

    def publish(self, deliveries: list[Delivery]) -> None:
        self.deliveries += deliveries


@pytest.fixture
def published() -> Iterator[Published]:
    publisher.set_publisher(kept := Published())
    yield kept
    publisher.set_publisher(None)
    kept.loop.close()


@pytest.fixture
def emergency(users_on_duty: dict[str, User]) -> None:
    """test_user called for patient_123, and paramedic_456 comes: the grants of an emergency."""
    for person in ("patient_123", "test_user"):
        actions.open_grant(MATTER, person, to_hospital=HERE, why="emergency")
        actions.open_grant(MATTER, "paramedic_456", to_user=person, why="emergency")
        actions.open_grant(MATTER, person, to_user="paramedic_456", why="emergency")
    actions.open_grant(MATTER, "paramedic_456", to_hospital=HERE, why="emergency")


def listened_to(user: User, *, is_watching: bool, **fields: Any) -> Groups:
    """What a connection of this user listens to; asking for what is refused changes nothing."""
    listened = [groups.person(user.pk), *groups.of(user)]
    if is_watching:
        with contextlib.suppress(errors.Refusal):
            listened += actions.watch(user, messages.WatchLocations(on=True, **fields)).subscribe
    return {(group.name, group.person) for group in listened}


def shown(users_on_duty: dict[str, User], published: Published, **watching: Any) -> set[str]:
    """The users who are sent what has been published, and nobody who may not see it."""
    to = {(delivery.group, delivery.person) for delivery in published.deliveries}
    but = {user_id for delivery in published.deliveries for user_id in delivery.envelope.but}
    found = {
        user.pk
        for user in users_on_duty.values()
        if user.pk not in but and to & listened_to(user, **watching)
    }
    [author] = {delivery.envelope.author for delivery in published.deliveries} or [""]
    assert all(locatable_by(users_on_duty[pk]).filter(pk=author).exists() for pk in found)
    return found


# Subject, its presence, whether the emergency is open, which staff see it if they watch, who sees it anyway
CASES = [
    ("paramedic_456", "available", False, STAFF_HERE, NOBODY),
    ("paramedic_456", "busy", False, STAFF_HERE, NOBODY),
    ("paramedic_456", "offline", False, NOBODY, NOBODY),
    ("paramedic_456", "available", True, STAFF_HERE, {"patient_123", "test_user"}),
    ("paramedic_456", "offline", True, STAFF_HERE, {"patient_123", "test_user"}),
    ("paramedic_789", "available", True, STAFF_HERE, NOBODY),
    ("patient_123", "available", False, NOBODY, NOBODY),
    ("patient_123", "available", True, STAFF_HERE, {"paramedic_456"}),
    ("test_user", "available", True, STAFF_HERE, {"paramedic_456"}),
    ("doctor_123", "available", False, NOBODY, NOBODY),
    ("doctor_123", "available", True, NOBODY, NOBODY),
]


@pytest.mark.parametrize("is_watching", [True, False], ids=["watching", "not watching"])
@pytest.mark.parametrize(("subject", "presence", "is_emergency", "watchers", "involved"), CASES)
def test_position_goes_to_the_audience_of_its_emergency_and_to_watching_staff(
    users_on_duty: dict[str, User],
    published: Published,
    request: pytest.FixtureRequest,
    django_capture_on_commit_callbacks: Any,
    subject: str,
    presence: str,
    is_emergency: bool,
    watchers: set[str],
    involved: set[str],
    is_watching: bool,
) -> None:
    if is_emergency:
        request.getfixturevalue("emergency")
    Presence.objects.update_or_create(user=users_on_duty[subject], defaults={"status": presence})
    with django_capture_on_commit_callbacks(execute=True):
        record(users_on_duty[subject], UpdateLocation.read({"data": update()}))
    expected = (involved | watchers if is_watching else involved) - {subject}
    assert shown(users_on_duty, published, is_watching=is_watching) == expected


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("paramedic_456", STAFF_HERE | {"patient_123", "test_user"}),
        ("patient_123", STAFF_HERE),
        ("paramedic_789", NOBODY),
    ],
)
@pytest.mark.usefixtures("emergency")
def test_watcher_of_an_emergency_gets_positions_of_its_subjects(
    users_on_duty: dict[str, User],
    published: Published,
    django_capture_on_commit_callbacks: Any,
    subject: str,
    expected: set[str],
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        record(users_on_duty[subject], UpdateLocation.read({"data": update()}))
    found = shown(users_on_duty, published, is_watching=True, emergency_id=MATTER)
    assert found == expected - {subject}
