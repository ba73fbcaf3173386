"""Every request of the socket, for every role: own, of the same hospital, of another one, not existing."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hplus.notifications.actions import notify
from hplus.notifications.models import Notification
from hplus.realtime.consumers import ConnectionConsumer
from hplus.realtime.execution.db_threads import in_db_thread
from hplus.routing import HPlusConsumer
from tests.phone import Frame, Phone
from tests.security.socket_rows import BY_STAFF, ROWS, WITHOUT_ID, Outcomes, Row
from tests.security.test_care_data_isolation import HELP, HOSPITAL, NOBODY, filled
from tests.security.test_chat_isolation import NOWHERE, bare
from tests.security.test_object_matrix import COLLEAGUES, FOREIGNERS
from tests.servers import ThreadServer

Outcome = tuple[str, str]  # the code, "ok" or "quiet"; the whole refusal without its ids
PEOPLE = {"patient": "patient_123", **COLLEAGUES}
STRANGERS = {"patient": "test_user", **FOREIGNERS}
MISSING = dict.fromkeys("ECNRM", NOWHERE) | {"U": NOBODY, "P": NOBODY, "H": "hospital_999"}
# Acknowledged whatever emergency they name, which then counts for nothing.
HARMLESS = {"locationUpdate", "callInitiate"}
ID_FIELDS = {"target", "participant_ids"}  # beside all that end in _id


@pytest.fixture(autouse=True)
def nobody_is_slowed(settings: Any) -> None:
    settings.HPLUS_MESSAGES_PER_MINUTE = 0


@contextlib.asynccontextmanager
async def owner_of_all(server: ThreadServer, role: str) -> AsyncIterator[tuple[Phone, dict[str, str]]]:
    """A person of this role with an emergency, a call, a room, a message and a notice: phone and ids."""
    user_id, peer_id = PEOPLE[role], "doctor_123" if role == "patient" else "patient_123"
    peer_role = "doctor" if role == "patient" else "patient"
    async with phone_of(server, user_id, role) as phone, phone_of(server, peer_id, peer_role) as peer:
        patient_id = user_id if role == "patient" else "walk-in"
        emergency = (await phone.ask("emergencyRequest", **HELP | {"patientId": patient_id}))["data"]
        talk = {"receiverId": peer_id, "hospitalId": HOSPITAL}
        message = (await phone.ask("sendMessage", **talk, message="private"))["data"]
        call = (await phone.ask("callInitiate", **talk, callType="audio"))["data"]["callId"]
        await peer.expect("callInitiate", callId=call)
        await in_db_thread(lambda: notify([user_id], category="shift", title="Shift", body="At nine"))
        notice = await Notification.objects.aget(recipient=user_id, category="shift")
        ids = {"E": emergency["emergencyId"], "C": call, "N": str(notice.pk)}
        ids |= {"R": message["chatRoomId"], "M": message["messageId"]}
        yield phone, ids | {"U": user_id, "P": peer_id, "H": HOSPITAL}


def phone_of(server: ThreadServer, user_id: str, role: str) -> Phone:
    hospital_id = "hospital_002" if user_id.endswith("_002") else HOSPITAL
    return server.phone(user_id, role, None if role == "patient" else hospital_id)


async def outcome_of(phone: Phone, row: Row, ids: dict[str, str]) -> Outcome:
    own = phone.established["hospitalId"] or HOSPITAL
    await phone.send(row.type, requestId="asked", **filled(row.fields, ids | {"O": own}))
    await phone.echo()
    answers = [frame for frame in phone.frames if frame.get("requestId") == "asked"]
    phone.frames.clear()
    return _outcome(answers, [*ids.values(), own])


def _outcome(answers: list[Frame], ids: list[str]) -> Outcome:
    refusals = [frame for frame in answers if frame["type"] == "error"]
    if refusals:
        return refusals[0]["code"], bare(refusals[0], *ids)
    return ("ok" if answers else "quiet"), ""


def rows_for(role: str) -> list[Row]:
    return ROWS if role == "patient" else [*ROWS, *BY_STAFF]


def expected(outcomes: Outcomes, role: str) -> str:
    return outcomes.get(role, outcomes["*"])


def differing(rows: list[Row], said: list[Outcome], wanted: list[str]) -> list[tuple[Row, Outcome, str]]:
    return [(row, got, want) for row, got, want in zip(rows, said, wanted, strict=True) if got[0] != want]


@pytest.mark.parametrize("role", PEOPLE)
async def test_owner_is_answered_by_the_table(server: ThreadServer, role: str) -> None:
    rows = rows_for(role)
    async with owner_of_all(server, role) as (phone, ids):
        said = [await outcome_of(phone, row, ids) for row in rows]
    assert differing(rows, said, [expected(row.own, role) for row in rows]) == []


@pytest.mark.parametrize("role", COLLEAGUES)
async def test_colleague_is_answered_by_the_table_and_about_what_is_hidden_as_about_nothing(
    server: ThreadServer, role: str
) -> None:
    rows = rows_for(role)
    async with (
        owner_of_all(server, "patient") as (_, ids),
        phone_of(server, COLLEAGUES[role], role) as colleague,
    ):
        said = [await outcome_of(colleague, row, ids) for row in rows]
        for row, got in zip(rows, said, strict=True):
            if got[0].endswith("_NOT_FOUND"):
                nothing = MISSING | {"P": ids["P"], "H": ids["H"]}
                assert got == await outcome_of(colleague, row, nothing), row
    assert differing(rows, said, [expected(row.same, role) for row in rows]) == []


@pytest.mark.parametrize("role", STRANGERS)
async def test_stranger_is_answered_as_about_nothing(server: ThreadServer, role: str) -> None:
    """In code, text and details. Whom a patient may write to, and where, is no secret from patients."""
    rows = rows_for(role)
    async with (
        owner_of_all(server, "patient") as (_, ids),
        phone_of(server, STRANGERS[role], role) as stranger,
    ):
        nothing = MISSING | ({"P": ids["P"], "H": ids["H"]} if role == "patient" else {})
        for row in rows:
            theirs = await outcome_of(stranger, row, ids)
            assert theirs == await outcome_of(stranger, row, nothing), row
            if row.type not in HARMLESS and set("ECNRM") & set(map(str, row.fields.values())):
                assert theirs[0] not in ("ok", "quiet"), row


async def test_person_of_another_hospital_is_answered_as_nobody(server: ThreadServer) -> None:
    naming = [
        ("emergencyReassign", {"emergencyId": "E", "assigneeId": "U", "reason": "because"}),
        ("callAddParticipant", {"callId": "C", "participantId": "U"}),
        ("callSignal", {"callId": "C", "targetUserId": "U", "signalType": "offer", "sdp": "v=0"}),
        ("callInitiate", {"receiverId": "U", "callType": "audio"}),
        ("locationRequest", {"targetUserId": "U"}),
        ("notification", {"target": {"userId": "U"}, "title": "Ward 3", "body": "Now"}),
    ]
    async with owner_of_all(server, "admin") as (admin, ids):
        for type_, fields in naming:
            row = Row(type_, fields, {}, {})
            theirs = await outcome_of(admin, row, ids | {"U": "doctor_002"})
            assert theirs == await outcome_of(admin, row, ids | {"U": NOBODY}), type_
            assert theirs[0] not in ("ok", "quiet"), type_


def test_every_request_of_the_socket_is_in_a_row_with_each_of_its_ids() -> None:
    named: dict[str, set[str]] = defaultdict(set)
    for row in [*ROWS, *BY_STAFF]:
        named[row.type] |= set(row.fields)
    for consumer in (ConnectionConsumer, *HPlusConsumer.domains):
        for request in (handler.request for handler in consumer.handlers):
            if request.type in WITHOUT_ID:
                continue
            fields = {name for name in request.model_fields if name.endswith("_id") or name in ID_FIELDS}
            wanted = {camel(name) for name in fields - {"request_id", "client_message_id"}}
            assert wanted <= named[request.type], request.type
            assert named[request.type], f"{request.type} is in no row"


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)
