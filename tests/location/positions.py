"""What the stories of location have in common: a matter, grants, and the guide's frame."""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async

from location import actions
from tests.phone import Phone

MATTER = "0195e2c0-0000-7000-8000-000000000001"
OTHER_MATTER = "0195e2c0-0000-7000-8000-000000000002"
RIVERSIDE = (37.7749, -122.4194)
NAIVE = "2026-11-22T09:15:00.123456"  # Dart's toIso8601String(): local time, no zone

open_grant = sync_to_async(actions.open_grant)
close_grants = sync_to_async(actions.close_grants)


def update(
    lat: float = RIVERSIDE[0],
    lng: float = RIVERSIDE[1],
    emergency_id: str | None = None,
    is_emergency: bool = False,
    **location: Any,
) -> dict[str, Any]:
    """The `data` of the guide's sendLocationUpdate."""
    measured = {"accuracy": 5.0, "speed": -1.0, "heading": -1.0, "timestamp": NAIVE}
    return {
        "location": {"lat": lat, "lng": lng, **measured, **location},
        "isEmergency": is_emergency,
        "emergencyId": emergency_id,
        "status": "active",
        "timestamp": NAIVE,
    }


async def send_position(phone: Phone, *args: Any, **kwargs: Any) -> None:
    """As the guide's timer does it: nobody waits for an answer."""
    await phone.send("locationUpdate", data=update(*args, **kwargs))


async def told(phone: Phone, *args: Any, **kwargs: Any) -> None:
    """The same, and it is recorded when this returns."""
    answer = await phone.ask("locationUpdate", data=update(*args, **kwargs))
    assert answer["type"] == "ack", answer


async def watch(phone: Phone, **fields: Any) -> None:
    """Ask for positions as they come; as a board does it."""
    answer = await phone.ask("watchLocations", on=True, **fields)
    assert answer["type"] == "ack", answer
