"""Lists of emergencies: the most urgent first, in pages without gaps, and never longer than a frame."""

from __future__ import annotations

import json
from datetime import timedelta

from django.utils import timezone

from emergency.models import Emergency
from hplus.accounts.models import User
from tests.api import Api
from tests.emergency import guide_frames
from tests.servers import ThreadServer

COUNT = 60
PRIORITIES = ["low", "medium", "high", "critical"]


async def _many(users: dict[str, User], description: str = "") -> list[str]:
    """Pending ones of all priorities and some that are over; their ids in the order of the list."""
    now = timezone.now()
    rows = [
        Emergency(
            hospital_id="hospital_001", patient_id=f"p{number}", lat=1.0, lng=1.0, condition="Burn",
            description=description, priority=PRIORITIES[number % 4], requested_by=users["patient_123"],
            requested_by_role="patient", requested_at=now - timedelta(minutes=number),
            status="cancelled" if number % 5 == 0 else "pending",
            cancelled_at=now if number % 5 == 0 else None,
            escalate_at=None if number % 5 == 0 else now + timedelta(hours=1), check_at=None,
        )
        for number in range(COUNT)
    ]  # fmt: skip
    await Emergency.objects.abulk_create(rows)
    opened = [row for row in rows if row.status == "pending"]
    opened.sort(key=lambda row: (-PRIORITIES.index(row.priority), row.requested_at))
    over = [row for row in rows if row.status == "cancelled"]
    return [row.pk for row in [*opened, *over]]


async def test_pages_follow_one_another_most_urgent_first(
    server: ThreadServer, users: dict[str, User]
) -> None:
    ids = await _many(users)
    async with Api(server, "doctor_123") as doctor, Api(server, "doctor_002") as elsewhere:
        found: list[str] = []
        cursor = None
        while True:
            page = (await doctor.get("emergencies/", params={"limit": 7, "cursor": cursor or ""})).json()
            found += [one["emergencyId"] for one in page["emergencies"]]
            cursor = page["nextCursor"]
            assert page["hasMore"] == (cursor is not None)
            if cursor is None:
                break
        assert found == ids
        other = await elsewhere.get("emergencies/", params={"cursor": ids[0]})
        assert other.status_code == 400
        assert (await doctor.get("emergencies/", params={"cursor": "nothing"})).status_code == 400


async def test_greeting_and_page_are_bounded_and_say_that_there_is_more(
    server: ThreadServer, users: dict[str, User]
) -> None:
    ids = await _many(users, description="é" * 3_900)
    async with server.phone("nurse_001", "nurse", "hospital_001") as nurse:
        greeting = nurse.established
        assert len(json.dumps(greeting, ensure_ascii=False).encode()) < 64 * 1024
        assert greeting["data"]["hasMoreEmergencies"]
        shown = [one["emergencyId"] for one in greeting["data"]["activeEmergencies"]]
        assert shown == ids[: len(shown)]
        assert shown
        alerted = [await nurse.expect("emergencyAlert") for _ in range(48)]
        assert [guide_frames.alert(one)["emergencyId"] for one in alerted] == ids[:48]
    async with Api(server, "doctor_123") as doctor:
        answer = await doctor.get("emergencies/")
        assert len(answer.content) < 66 * 1024
        assert answer.json()["hasMore"]
        after = answer.json()["nextCursor"]
        following = (await doctor.get("emergencies/", params={"cursor": after})).json()["emergencies"]
        count = len(answer.json()["emergencies"])
        assert following[0]["emergencyId"] == ids[count]
    async with server.phone("nurse_002", "nurse", "hospital_002") as elsewhere:
        assert not elsewhere.established["data"]["hasMoreEmergencies"]
