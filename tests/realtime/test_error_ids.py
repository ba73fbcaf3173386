"""An error carries the requestId and clientMessageId of the frame it answers, wherever they can be read."""

from __future__ import annotations

import json
import re

from hypothesis import given
from hypothesis import strategies as st

from hplus.protocol import wire
from tests.servers import ThreadServer

IDS = '"requestId":"r-1","clientMessageId":"c-1"'
REFUSED = {
    "a number": (f'{{"type":"sendMessage",{IDS},"x":NaN}}', "INVALID_JSON"),
    "a key given twice": (f'{{"type":"sendMessage",{IDS},"x":1,"x":2}}', "INVALID_JSON"),
    "NUL": (f'{{"type":"sendMessage",{IDS},"message":"\\u0000"}}', "INVALID_JSON"),
    "too deep": (f'{{"type":"sendMessage",{IDS},"x":{"[" * 50}{"]" * 50}}}', "INVALID_JSON"),
    "half": (f'{{"type":"sendMessage",{IDS},"x":', "INVALID_JSON"),
    "too long": (f'{{"type":"sendMessage",{IDS},"x":"{"x" * 70_000}"}}', "MESSAGE_TOO_LARGE"),
    "under data": (f'{{"type":"sendMessage","data":{{{IDS}}},"x":NaN}}', "INVALID_JSON"),
    "an unknown type": (f'{{"type":"nonsense",{IDS}}}', "UNKNOWN_TYPE"),
    "no type": (f"{{{IDS}}}", "INVALID_MESSAGE"),
    "a missing field": (f'{{"type":"sendMessage",{IDS}}}', "VALIDATION_ERROR"),
    "nobody": (
        f'{{"type":"sendMessage",{IDS},"receiverId":"x","hospitalId":"hospital_001","message":"m"}}',
        "USER_NOT_FOUND",
    ),
}


async def test_error_carries_the_ids_of_its_frame(server: ThreadServer) -> None:
    async with server.phone("patient_123", "patient") as phone:
        for name, (text, code) in REFUSED.items():
            await phone.send_text(text)
            error = await phone.expect("error")
            ids = (error["code"], error["requestId"], error["clientMessageId"])
            assert ids == (code, "r-1", "c-1"), name
        await phone.send_text("hello")
        error = await phone.expect("error")
        assert (error["requestId"], error["clientMessageId"]) == (None, None)


@given(value=st.text(max_size=40).filter(wire.is_storable), other=st.text(max_size=40))
def test_ids_of_an_unread_frame_are_those_that_were_written(value: str, other: str) -> None:
    text = json.dumps({"message": other, "requestId": value})
    found = wire.envelope_in(text).get("requestId")
    assert found == (value or None)


@given(text=st.text() | st.from_regex(re.compile(r'"requestId" ?: ?"[^a-z]{0,9}"?')))
def test_no_text_breaks_the_reading_of_ids(text: str) -> None:
    assert all(isinstance(value, str) for value in wire.envelope_in(text).values())


async def test_error_carries_the_ids_of_a_frame_that_waited_for_its_turn(server: ThreadServer) -> None:
    """Such a frame is read only when those before it have been answered."""
    text, code = REFUSED["a number"]
    async with server.phone("patient_123", "patient") as phone:
        for _ in range(10):
            await phone.send("getMessages", chatRoomId="nowhere")
        await phone.send_text(text)
        error = await phone.expect("error", code=code)
        assert (error["requestId"], error["clientMessageId"]) == ("r-1", "c-1")
