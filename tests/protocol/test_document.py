"""The whole protocol is one published document, and it is what the classes say."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import fields
from html import unescape
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import CommandError, call_command
from django.test import Client
from jsonschema import Draft202012Validator
from pydantic.alias_generators import to_camel

from chat.messages import MessageNotification, NewMessage
from hplus import errors
from hplus.accounts.actions import Claim
from hplus.management.commands.protocol import documents
from hplus.protocol import rules, wire
from hplus.protocol.asyncapi import _message, as_yaml
from hplus.protocol.blocks import anchor_of
from hplus.protocol.document import as_markdown
from hplus.protocol.examples import example
from hplus.protocol.registry import PublishedMessage, published_messages, summary_of
from hplus.protocol.rules import COMMON_FIELDS
from hplus.protocol.schemas import Schemas
from hplus.realtime.consumers import ConnectionConsumer
from hplus.routing import HPlusConsumer
from tests.protocol.published import document, faults_of
from tests.servers import ThreadServer

MESSAGES = published_messages()
REQUESTS = [kind for message in MESSAGES if message.sender == "client" for kind in message.classes]
EVENTS = [kind for message in MESSAGES if message.sender == "server" for kind in message.classes]
SCHEMAS = Schemas.of(MESSAGES)
CODES = sorted(
    kind.code
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.Refusal) and kind is not errors.Refusal
)


class LampNotice(wire.Event):
    """The lamp in your room has been repaired."""

    type = "notification"
    lamp: int


def is_called(kind: type[Any]) -> str:
    return str(kind.__name__)


# The files


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_written_files_are_current(path: Path) -> None:
    written = path.read_text(encoding="utf-8") if path.exists() else ""
    assert written == documents()[path], "run `manage.py protocol`"


def test_check_names_outdated_files(tmp_path: Path, settings: Any) -> None:
    settings.BASE_DIR = tmp_path
    with pytest.raises(CommandError, match=r"docs/protocol\.md and docs/asyncapi\.yaml are not current"):
        call_command("protocol", "--check")
    call_command("protocol", stdout=StringIO())
    call_command("protocol", "--check", stdout=StringIO())
    (tmp_path / "docs" / "asyncapi.yaml").write_text("asyncapi: 2.0.0\n")
    with pytest.raises(CommandError, match=r"^docs/asyncapi\.yaml is not current"):
        call_command("protocol", "--check")


def test_document_is_printed_as_json() -> None:
    out = StringIO()
    call_command("protocol", "--json", stdout=out)
    assert json.loads(out.getvalue()) == document() == yaml.safe_load(as_yaml())


# Words


def test_every_handled_type_appears_once() -> None:
    consumers = [ConnectionConsumer, *HPlusConsumer.domains]
    handled = sorted(h.request.type for consumer in consumers for h in consumer.handlers)
    messages = document()["components"]["messages"]
    assert sorted(m["name"] for key, m in messages.items() if key.startswith("client.")) == handled
    assert sorted(re.findall(r"^### Client: (.+)$", as_markdown(), re.MULTILINE)) == handled


def test_every_event_type_appears_once() -> None:
    said = [kind for kind in wire.subclasses(wire.Event) if not kind.__module__.startswith("tests.")]
    public = sorted({kind.type for kind in said if not kind.internal})
    messages = document()["components"]["messages"]
    assert sorted(m["name"] for key, m in messages.items() if key.startswith("server.")) == public
    assert sorted(re.findall(r"^### Server: (.+)$", as_markdown(), re.MULTILINE)) == public
    assert "signedOut" not in public


def test_each_message_is_in_one_operation() -> None:
    operations = document()["operations"].values()
    spoken = [ref["$ref"].rpartition("/")[2] for o in operations for ref in o["messages"]]
    assert sorted(spoken) == sorted(document()["components"]["messages"])


@pytest.mark.parametrize("kind", [*REQUESTS, *EVENTS], ids=is_called)
def test_each_message_has_a_description(kind: type[Any]) -> None:
    assert summary_of(kind), f"{kind.__name__} has no docstring"


@pytest.mark.parametrize("kind", REQUESTS, ids=is_called)
def test_request_example_is_accepted_by_its_class(kind: type[wire.Request]) -> None:
    shown = example(kind, SCHEMAS)
    kind.read(shown)
    kind.read({"type": kind.type, "data": {k: v for k, v in shown.items() if k != "type"}})
    assert faults_of("client", shown) == []


@pytest.mark.parametrize("kind", EVENTS, ids=is_called)
def test_event_example_is_what_its_class_writes(kind: type[wire.Event]) -> None:
    shown = example(kind, SCHEMAS)
    assert faults_of("server", shown) == []
    place = {name: shown[name] for name in ("seq", "eventId") if issubclass(kind, wire.Durable)}
    written = {**made(kind, shown).fields(), **place}
    assert faults_of("server", written) == []
    assert shown.keys() <= written.keys()


def made(kind: type[wire.Event], frame: dict[str, Any]) -> wire.Event:
    """The event that this frame was made from."""
    aliases = {name: field.serialization_alias for name, field in kind.model_fields.items()}
    untold = {name: "an id that stays inside" for name, field in kind.model_fields.items() if field.exclude}
    return kind(**untold, **{name: frame[alias] for name, alias in aliases.items() if alias in frame})


def test_durable_event_carries_seq_and_event_id() -> None:
    shown = example(NewMessage, SCHEMAS)
    without = {k: v for k, v in shown.items() if k not in ("seq", "eventId")}
    assert [fault.rpartition(": ")[2] for fault in faults_of("server", without)] == [
        "'seq' is a required property",
        "'eventId' is a required property",
    ]


def test_flattened_fields_appear_under_data_and_at_top_level() -> None:
    shown = example(NewMessage, SCHEMAS)
    assert faults_of("server", {k: v for k, v in shown.items() if k != "senderId"})
    assert faults_of("server", {**shown, "data": {**shown["data"], "senderId": None}})


def test_two_domains_may_share_a_type() -> None:
    shared = PublishedMessage("notification", "server", (MessageNotification, LampNotice))
    schemas = Schemas.of([shared])
    message = _message(shared, schemas)
    judge = Draft202012Validator({**message["payload"], "components": {"schemas": schemas.shapes}})
    assert message["summary"] == f"{summary_of(MessageNotification)} / {summary_of(LampNotice)}"
    assert len(message["payload"]["anyOf"]) == len(message["examples"]) == 2
    for shown in message["examples"]:
        judge.validate(shown["payload"])
    assert not judge.is_valid({"type": "notification"})


def test_messages_declared_by_tests_are_not_published() -> None:
    assert LampNotice in wire.subclasses(wire.Event)
    assert LampNotice not in EVENTS
    assert "LampNotice" not in document()["components"]["schemas"]


async def test_frames_of_a_conversation_match_the_published_schemas(server: ThreadServer) -> None:
    room = {"receiverId": "doctor_123", "hospitalId": "hospital_001"}
    async with (
        server.phone("patient_123", "patient") as patient,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
    ):
        await patient.send("joinChatRoom", **room)
        await doctor.send("joinChatRoom", receiverId="patient_123", hospitalId="hospital_001")
        await patient.ask("typing", **room)
        await patient.ask("sendMessage", **room, message="Is the ECG ready?", clientMessageId="phone-17")
        message_id = (await doctor.expect("newMessage"))["messageId"]
        await doctor.ask("markAsRead", messageId=message_id)
        await patient.ask("editMessage", messageId=message_id, message="Is my ECG ready?")
        await patient.ask("sendMessage", **{**room, "receiverId": "nobody"}, message="?")
        await patient.ask("deleteMessage", messageId=message_id)
        await doctor.expect("messageDeleted")
        heard = [*patient.history, *doctor.history]
    assert {"newMessage", "typing", "messageRead", "messageEdited", "ack", "error"} <= {
        frame["type"] for frame in heard
    }
    assert [fault for frame in heard for fault in faults_of("server", frame)] == []


# What stands in no class


@pytest.mark.parametrize("code", CODES)
def test_every_error_code_appears_once(code: str) -> None:
    assert [error["code"] for error in document()["x-errors"]].count(code) == 1
    errors_table = as_markdown().partition("## Errors")[2].partition("## Close codes")[0]
    assert errors_table.count(f"| `{code}` |") == 1


def test_every_close_code_of_a_refusal_appears() -> None:
    closing = {e["closeCode"] for e in document()["x-errors"] if "closeCode" in e}
    listed = [end["closeCode"] for end in document()["x-closeCodes"]]
    assert closing <= set(listed)
    assert listed == sorted(listed)


def test_query_parameters_are_those_the_handshake_reads() -> None:
    from_the_cookie = {"adminSessionKey"}
    read = {to_camel(field.name) for field in fields(Claim)} - from_the_cookie | {"since", "epoch"}
    assert {parameter.name for parameter in rules.QUERY} == read


def test_common_request_fields_are_documented() -> None:
    carried = wire.Request.model_fields.items()
    assert {field.alias or to_camel(name) for name, field in carried} == set(COMMON_FIELDS)


# The document itself


def test_every_reference_resolves() -> None:
    for reference in set(references(document())):
        part = document()
        for step in reference.removeprefix("#/").split("/"):
            part = part[step]


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        own = part.get("$ref")
        yield from [own] if isinstance(own, str) else []
    inner = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    for value in inner:
        yield from references(value)


@pytest.mark.parametrize("name", SCHEMAS.shapes)
def test_every_schema_is_json_schema(name: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS.shapes[name])


def test_every_link_leads_to_a_heading() -> None:
    text = as_markdown()
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    anchors = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
    assert set(re.findall(r"\(#(.+?)\)", text)) <= set(anchors)
    assert len(anchors) == len(set(anchors))


@pytest.mark.urls("hplus.protocol.views")
def test_page_shows_every_type_and_loads_nothing_else(client: Client) -> None:
    page = client.get("/protocol/").content.decode()
    ids = re.findall(r' id="(.+?)"', page)
    assert {anchor_of(message.title) for message in MESSAGES} <= set(ids)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#(.+?)"', page)) <= set(ids)
    assert all(code in page for code in CODES)
    assert not re.search(r"<script|<style| style=| on\w+=|(src|href)=\"(https?:)?//", page)


@pytest.mark.urls("hplus.protocol.views")
def test_page_shows_what_the_markdown_file_has(client: Client) -> None:
    page = client.get("/protocol/").content.decode().replace("ws://testserver/", "ws://localhost:5000/")
    text = as_markdown()
    shown = [unescape(code) for code in re.findall(r"<pre[^>]*>(.*?)</pre>", page, re.DOTALL)]
    assert shown == re.findall(r"^```\w*\n(.*?)\n```$", text, re.MULTILINE | re.DOTALL)
    headings = [unescape(heading) for heading in re.findall(r"<h[123] [^>]*>(.*?)</h[123]>", page)]
    assert headings == re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    rows = re.findall(r"^\| (?!---)", text, re.MULTILINE)
    assert page.count("<tr>") == len(rows)


@pytest.mark.urls("hplus.protocol.views")
def test_document_is_served_as_json_and_yaml(client: Client) -> None:
    answer = client.get("/protocol/asyncapi.yaml")
    assert answer["Content-Type"] == "application/yaml; charset=utf-8"
    assert answer.content.decode() == as_yaml()
    assert client.post("/protocol/asyncapi.yaml").status_code == 405
