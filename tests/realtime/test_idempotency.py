"""One rule for messages, calls and emergencies that a client sends twice."""

from __future__ import annotations

from typing import Any

import pytest
from django.apps import apps
from django.core.exceptions import FieldDoesNotExist
from django.db.models import UniqueConstraint

from calls import setup
from calls.messages import InitiateCall
from chat import sending
from chat.messages import SendMessage
from emergency import call_for_help
from emergency.messages import RequestHelp
from hplus.protocol.wire import Request
from hplus.realtime.idempotency import Idempotency, IdempotentRow
from tests.servers import ThreadServer

SENT = {"requestId": "r1", "clientMessageId": "c1", "timestamp": "2026-01-01T00:00:00Z"}
TO_DOCTOR = {"receiverId": "doctor_123", "hospitalId": "hospital_001"}
MESSAGE = {**TO_DOCTOR, "message": "Grüße"}
CALL = {**TO_DOCTOR, "callType": "video", "offer": {"type": "offer", "sdp": "v=0"}}
HELP = {
    "patientId": "patient_123",
    "hospitalId": "hospital_001",
    "condition": "Chest pain",
    "priority": "critical",
    "location": {"lat": 50.1, "lng": 8.6, "address": "Römer 1"},
    "patientAge": "?",
}
KINDS: list[tuple[Idempotency[Any], type[Request], dict[str, Any], str]] = [
    (
        sending.IDEMPOTENCY, SendMessage, MESSAGE,
        "23f5d96c8cd96cb0558529b6cd39f0465d52fc750f273a3925bc7ccf0a3623ec",
    ),
    (
        setup.IDEMPOTENCY, InitiateCall, CALL,
        "08b69df7f52438d1e55139cbb5ad441e5b01b13e8e2d1022afeeba8968a14ad3",
    ),
    (
        call_for_help.IDEMPOTENCY, RequestHelp, HELP,
        "6b668f8a78cf97a612b970a45949b2e4340bb874fec6637c39af56eef5f047af",
    ),
    (
        call_for_help.REPEATED, RequestHelp, HELP,
        "6b668f8a78cf97a612b970a45949b2e4340bb874fec6637c39af56eef5f047af",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "kind", "fields", "stored"), KINDS)
def test_fingerprint_equals_the_one_stored_by_earlier_versions(
    rule: Idempotency[Any], kind: type[Request], fields: dict[str, Any], stored: str
) -> None:
    assert rule.fingerprint(kind.read({**fields, **SENT})) == stored
    assert rule.fingerprint(kind.read({**fields, **SENT, "requestId": "r2"})) == stored
    assert rule.fingerprint(kind.read({**fields, **SENT, "hospitalId": "hospital_002"})) != stored
    assert rule.fingerprint(kind.read(fields)) == ""


def test_each_model_with_a_client_message_id_has_the_rule_and_its_constraint() -> None:
    kept = {model for model in apps.get_models() if _has_client_message_id(model)}
    assert kept == {rule.model for rule, *_ in KINDS}
    for rule, *_ in KINDS:
        assert issubclass(rule.model, IdempotentRow)
        unique = [one.fields for one in rule.model._meta.constraints if isinstance(one, UniqueConstraint)]
        assert (rule.requester, "client_message_id") in unique


def _has_client_message_id(model: Any) -> bool:
    try:
        return bool(model._meta.get_field("client_message_id"))
    except FieldDoesNotExist:
        return False


@pytest.mark.parametrize(
    ("event_type", "fields", "changed", "made"),
    [
        ("sendMessage", MESSAGE, {"message": "Another"}, "messageId"),
        ("callInitiate", CALL, {"callType": "audio"}, "callId"),
        ("emergencyRequest", HELP, {"condition": "Another"}, "emergencyId"),
    ],
)
async def test_repetition_is_a_duplicate_and_another_content_is_a_conflict(
    server: ThreadServer, event_type: str, fields: dict[str, Any], changed: dict[str, Any], made: str
) -> None:
    async with server.phone("patient_123", "patient") as patient:
        first = await patient.ask(event_type, **fields, clientMessageId="c1")
        again = await patient.ask(event_type, **fields, clientMessageId="c1")
        assert (first["status"], again["status"]) == ("ok", "duplicate")
        assert first["data"][made] == again["data"][made]
        conflict = await patient.ask(event_type, **{**fields, **changed}, clientMessageId="c1")
        assert (conflict["code"], conflict["details"]["field"]) == ("IDEMPOTENCY_CONFLICT", "clientMessageId")
