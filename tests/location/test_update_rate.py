"""How often a watcher is told, and how often the database is written."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from asgiref.sync import sync_to_async

from hplus.accounts.models import User
from hplus.realtime.publishing.envelopes import Envelope
from location import messages
from location.consumers import LocationConsumer
from location.models import Fix
from location.recording import Recorded
from tests.location.positions import (
    MATTER,
    OTHER_MATTER,
    close_grants,
    open_grant,
    send_position,
    told,
    watch,
)
from tests.servers import ProcessServer, ThreadServer
from tests.waiting import PATIENCE_SECONDS, until

CREW = ("paramedic_456", "paramedic", "hospital_001")
DOCTOR = ("doctor_123", "doctor", "hospital_001")


async def test_watcher_gets_two_positions_a_second_and_always_the_newest(server: ThreadServer) -> None:
    async with (
        server.phone(*CREW) as crew,
        server.phone("paramedic_789", "paramedic", "hospital_001") as other,
        server.phone(*DOCTOR) as doctor,
    ):
        await watch(doctor)
        began_at = time.monotonic()
        await told(crew, 1)
        await doctor.expect("locationUpdate", userId="paramedic_456")
        for number in range(2, 61):
            await told(crew, number)
        await told(other, 1)
        await doctor.expect_that(
            lambda frame: frame.get("userId") == "paramedic_456" and frame["data"]["location"]["lat"] == 60,
            "the last position",
        )
        await doctor.expect("locationUpdate", userId="paramedic_789")
        seconds = time.monotonic() - began_at
        of_crew = [f for f in doctor.heard("locationUpdate") if f["userId"] == "paramedic_456"]
        assert 2 <= len(of_crew) <= 1 + 2 * seconds
        assert [f["data"]["location"]["lat"] for f in of_crew] == sorted(
            f["data"]["location"]["lat"] for f in of_crew
        )


async def test_pending_position_is_not_shown_after_the_grant_closes(
    server: ThreadServer, settings: Any
) -> None:
    settings.LOCATION_INTERVAL_SECONDS = 10 * PATIENCE_SECONDS
    async with (
        server.phone(*CREW) as crew,
        server.phone("test_user", "patient") as other,
        server.phone("patient_123", "patient") as patient,
    ):
        await open_grant(MATTER, "paramedic_456", to_user="patient_123", why="crew")
        await open_grant(OTHER_MATTER, "test_user", to_user="patient_123", why="another matter")
        await told(crew, 1)
        await patient.expect("locationUpdate", userId="paramedic_456")
        await told(crew, 2)
        await close_grants(MATTER, "completed")
        await told(other, 1)
        await patient.expect("locationUpdate", userId="test_user")
        await told(other, 2)
        settings.LOCATION_INTERVAL_SECONDS = 0  # what is pending comes now
        await patient.expect_that(
            lambda frame: frame.get("userId") == "test_user" and frame["data"]["location"]["lat"] == 2,
            "the last position of somebody whose matter goes on",
        )
        shown = [frame["data"] for frame in patient.heard("locationUpdate")]
        assert [data["location"]["lat"] for data in shown if data["emergencyId"] == MATTER] == [1]


async def test_positions_outside_an_emergency_are_written_in_batches(
    server: ThreadServer, settings: Any
) -> None:
    """They are written together, and a server that stops writes them at once."""
    settings.LOCATION_WRITE_SECONDS = 10 * PATIENCE_SECONDS
    async with server.phone(*CREW) as crew, server.phone(*DOCTOR) as doctor:
        await watch(doctor)
        await told(crew, 1)
        await send_position(crew, 2)
        await doctor.expect_that(
            lambda frame: frame["type"] == "locationUpdate" and frame["data"]["location"]["lat"] == 2,
            "the first that could have waited",
        )
        for number in (3, 4, 5):
            await send_position(crew, number)
        await crew.echo()
        assert await Fix.objects.acount() == 2
        await sync_to_async(server.__exit__)()
        assert await Fix.objects.acount() == 5


async def test_emergency_position_survives_kill_9(users: object) -> None:
    """What a watcher has seen is in the database, although nobody marked it as an emergency's."""
    with ProcessServer() as server:
        async with (
            server.phone(*CREW) as crew,
            server.phone("patient_123", "patient") as patient,
        ):
            await told(crew, 1)
            await open_grant(MATTER, "paramedic_456", to_user="patient_123", why="crew")
            await send_position(crew, 2)
            await patient.expect("locationUpdate", userId="paramedic_456")
            await sync_to_async(server.kill)()
            assert await crew.expect_close() == await patient.expect_close() == 1006
    assert [fix.lat async for fix in Fix.objects.filter(reason_id=MATTER)] == [2.0]


async def test_positions_during_an_emergency_are_written_at_once(server: ThreadServer, settings: Any) -> None:
    """From the moment it is open the crew's positions are written at once, marked or not."""
    settings.LOCATION_WRITE_SECONDS = 10 * PATIENCE_SECONDS
    async with (
        server.phone(*CREW) as crew,
        server.phone("patient_123", "patient") as patient,
    ):
        for number in (1, 2, 3):  # the third waits
            await send_position(crew, number)
        await crew.echo()
        await open_grant(MATTER, "paramedic_456", to_user="patient_123", why="crew")
        await send_position(crew, 4)
        await patient.expect_that(
            lambda frame: frame["type"] == "locationUpdate" and frame["data"]["location"]["lat"] == 4,
            "what nobody marked as an emergency's",
        )
        await close_grants(MATTER, "completed")
        await told(crew, 5)
        await send_position(crew, 6)
        await crew.echo()

        async def all_but_the_last_are_stored() -> bool:
            return [fix.lat async for fix in Fix.objects.order_by("lat")] == [1, 2, 3, 4, 5]

        await until(all_but_the_last_are_stored)


class DelayingBatches:
    """The batches of a process whose delayed positions have not been written yet."""

    def delayed(self, *_: object) -> DelayingBatches:
        return self

    def add(self, _: object, on_outcome: Callable[[Recorded], None]) -> None:
        self.on_outcome = on_outcome

    def hurry(self) -> None:
        self.is_hurried = True


def test_pending_position_does_not_undo_an_emergency_that_began_since() -> None:
    """A position on its way knows nothing of the emergency that begins meanwhile."""
    routine = messages.UpdateLocation.read({"location": {"lat": 1.0, "lng": 2.0}})
    for type_ in (messages.LocationSharingBegan.type, messages.LocationRequested.type):
        batches = DelayingBatches()
        crew: Any = SimpleNamespace(
            hub=SimpleNamespace(batches=batches), user=User(pk="paramedic_456", role="paramedic")
        )
        consumer = LocationConsumer(crew)
        consumer.has_reported = True
        assert consumer.update_location(routine) is None
        consumer.on_event(Envelope(event_type=type_, frame=b""))
        batches.on_outcome(Recorded(is_under_grant=False))
        assert consumer._must_be_durable(routine)
