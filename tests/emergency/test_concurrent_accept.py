"""Fifty who accept in the same moment, on two servers: one has it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from django.conf import settings as django_settings

from emergency.models import Emergency
from hplus.accounts.models import User
from tests.emergency import guide_frames
from tests.servers import several


@pytest.mark.skipif(not django_settings.REDIS_URL, reason="two servers hear each other through Redis")
async def test_of_fifty_concurrent_accepts_one_succeeds(users: dict[str, User]) -> None:
    for first, second in zip(*[several(2)] * 2, strict=True):
        async with AsyncExitStack() as stack:
            patient = await stack.enter_async_context(first.phone("patient_123", "patient"))
            crews = [
                await stack.enter_async_context(
                    (first, second)[n % 2].phone(f"crew_{n}", "paramedic", "hospital_001")
                )
                for n in range(50)
            ]
            await patient.send("emergencyRequest", data=guide_frames.create_emergency_request())
            emergency_id = (await patient.expect("emergencyCreated"))["emergencyId"]
            for crew in crews:
                guide_frames.alert(await crew.expect("emergencyAlert"))
            accept = guide_frames.respond(emergency_id, "accept")
            answers = await asyncio.gather(*(crew.ask("emergencyResponse", data=accept) for crew in crews))
            row = await Emergency.objects.aget()
            won = [
                crew.user_id for crew, answer in zip(crews, answers, strict=True) if answer["type"] == "ack"
            ]
            assert won == [row.assigned_to_id]
            lost = [answer for answer in answers if answer["type"] == "error"]
            assert len(lost) == 49
            assert {answer["code"] for answer in lost} == {"EMERGENCY_ALREADY_ASSIGNED"}
            for answer in lost:
                assert answer["details"] == {"assignedTo": won[0], "assignedRole": "paramedic"}
            for phone in (patient, *crews):
                heard = await phone.expect("emergencyResponse")
                assert heard["data"]["assignedTo"] == won[0]
            assert len(patient.heard("emergencyResponse")) == 1
            assert all(len(crew.heard("emergencyAlert")) == 1 for crew in crews)
