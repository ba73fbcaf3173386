"""The direct line of frames past uvicorn, byte by byte, and what it relies on in uvicorn's private parts."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import re
import struct
import textwrap

import pytest
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.server import ServerProtocol

from hplus.operations import http_protocol, serving, websocket_flow, websocket_protocol, websocket_reading
from hplus.operations.websocket_frames import FrameBoundary
from tests.call_count import PACKAGES, ROOT
from tests.raw_client import BINARY, CONTINUATION, PING, PONG, TEXT, RawClient, frame
from tests.servers import ThreadServer


def heartbeat(mark: str) -> bytes:
    return json.dumps({"type": "heartbeat", "timestamp": mark}).encode()


async def server_has_read(server: ThreadServer) -> None:
    """Another client has been greeted: what was written before lies no longer in a socket."""
    async with RawClient(server) as other:
        await other.upgrade()
        await other.expect(lambda got: b"connection_established" in got[1])


async def test_frame_split_anywhere_is_one_message(server: ThreadServer) -> None:
    async with RawClient(server) as client:
        await client.upgrade(frame(TEXT, heartbeat("with the handshake")))
        await client.expect_heartbeat("with the handshake")
        for byte in frame(TEXT, heartbeat("byte by byte")):
            client.writer.write(bytes([byte]))
            await client.writer.drain()
            await asyncio.sleep(0)
        await client.expect_heartbeat("byte by byte")
        client.writer.write(b"".join(frame(TEXT, heartbeat(str(number))) for number in range(100)))
        for number in range(100):
            await client.expect_heartbeat(str(number))
        long = json.dumps({"type": "heartbeat", "timestamp": "long", "padding": "x" * 30_000}).encode()
        in_two = frame(TEXT, long)
        client.writer.write(in_two[:1000])
        await client.writer.drain()
        await server_has_read(server)
        client.writer.write(in_two[1000:])
        await client.expect_heartbeat("long")


async def test_fragments_and_pings_are_read_by_the_library(server: ThreadServer) -> None:
    async with RawClient(server) as client:
        await client.upgrade()
        await client.expect(lambda got: b"connection_established" in got[1])
        whole = heartbeat("in three parts")
        client.writer.write(frame(TEXT, whole[:5], fin=False))
        client.writer.write(frame(PING, b"between"))
        client.writer.write(frame(CONTINUATION, whole[5:9], fin=False) + frame(CONTINUATION, whole[9:]))
        await client.expect(lambda got: got == (PONG, b"between"))
        await client.expect_heartbeat("in three parts")
        client.writer.write(frame(PING, b"plain") + frame(TEXT, heartbeat("plain again")))
        await client.expect(lambda got: got == (PONG, b"plain"))
        await client.expect_heartbeat("plain again")
        client.writer.write(frame(BINARY, b"\x00\x01"))
        await client.expect(lambda got: b"INVALID_MESSAGE" in got[1])


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        (frame(TEXT, b"\xff\xfe"), 1007),
        (bytes([0x81, 0x05]) + b"hello", 1002),  # not masked
        (bytes([0xF1, 0x80, 0, 0, 0, 0]), 1002),  # reserved bits
        (frame(CONTINUATION, b"of nothing"), 1002),
    ],
    ids=["no UTF-8", "not masked", "reserved bits", "a fragment of nothing"],
)
async def test_protocol_violation_closes_the_connection(
    server: ThreadServer, broken: bytes, code: int
) -> None:
    async with RawClient(server) as client:
        await client.upgrade()
        await client.expect(lambda got: b"connection_established" in got[1])
        client.writer.write(broken)
        _, payload = await client.expect(lambda got: got[0] == 0x8)
        assert struct.unpack("!H", payload[:2]) == (code,)


def test_frame_boundary_is_found_wherever_the_pieces_end() -> None:
    stream = frame(TEXT, b"x" * 10) + frame(TEXT, b"y" * 300) + frame(PING, b"") + frame(TEXT, b"z" * 70_000)
    ends = []
    boundary = FrameBoundary()
    for position in range(len(stream)):
        boundary.feed(stream[position : position + 1])
        if boundary.is_reached:
            ends.append(position + 1)
    sizes = [len(frame(TEXT, b"x" * n)) for n in (10, 300, 0, 70_000)]
    assert ends == [sum(sizes[: n + 1]) for n in range(4)]
    at_once = FrameBoundary()
    at_once.feed(stream[:-1])
    assert not at_once.is_reached
    at_once.feed(stream[-1:])
    assert at_once.is_reached


# What HPlus relies on in uvicorn's private parts

OVERRIDDEN = [
    (
        http_protocol.HttpProtocol,
        H11Protocol,
        {"connection_lost", "connection_made", "data_received", "handle_websocket_upgrade"},
    ),
    (
        websocket_flow.FlowProtocol,
        WebSocketsSansIOProtocol,
        {"connection_lost", "pause_writing", "resume_writing"},
    ),
    (
        websocket_reading.ReadingProtocol,
        WebSocketsSansIOProtocol,
        {"connection_lost", "data_received", "handle_ping", "resume_writing"},
    ),
    (
        websocket_protocol.WebSocketProtocol,
        WebSocketsSansIOProtocol,
        {"handle_connect", "keepalive_timeout", "resume_writing", "run_asgi"},
    ),
    (serving.Server, uvicorn.Server, {"handle_exit", "shutdown"}),
]  # fmt: skip


@pytest.mark.parametrize(("subclass", "base", "overridden"), OVERRIDDEN)
def test_uvicorn_has_the_private_parts_that_a_subclass_uses(
    subclass: type, base: type, overridden: set[str]
) -> None:
    """An upgrade that moves them fails here, not in production."""
    assert issubclass(subclass, base)
    assert overridden <= vars(subclass).keys() & set(dir(base))
    missing = attributes_used_in(subclass) - attributes_of(base) - set(dir(subclass))
    assert missing == set()


def test_check_finds_a_part_that_an_upgrade_has_moved() -> None:
    class Upgraded(websocket_protocol.WebSocketProtocol):
        def resume_reading(self) -> None:
            self.read_paused_by_uvicorn = self.protocol_state_of_old

    assert attributes_used_in(Upgraded) - attributes_of(WebSocketsSansIOProtocol) == {
        "protocol_state_of_old",
        "read_paused_by_uvicorn",
    }


def test_only_the_server_knows_uvicorn() -> None:
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    knowing = [
        path for path in files if re.search(r"^\s*(import|from) uvicorn", path.read_text(), re.MULTILINE)
    ]
    assert {path.name for path in knowing} == {
        "http_protocol.py", "serving.py", "websocket_flow.py", "websocket_protocol.py",
    }  # fmt: skip


def test_websockets_has_the_attributes_that_the_direct_line_reads() -> None:
    assert {"handshake_exc", "close_sent", "send_close", "data_to_send", "state"} <= set(
        dir(ServerProtocol())
    )


def attributes_used_in(subclass: type) -> set[str]:
    """The names that its own methods read or write of `self`; those with an underscore are its own."""
    body = ast.parse(textwrap.dedent(inspect.getsource(subclass)))
    return {
        node.attr
        for node in ast.walk(body)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
        and not node.attr.startswith("_")
    }


def attributes_of(base: type) -> set[str]:
    """The names that a class has, and those that its methods read or write of any object."""
    methods = [method for one in base.__mro__ for method in vars(one).values() if inspect.isfunction(method)]
    return set(dir(base)).union(*(method.__code__.co_names for method in methods))
