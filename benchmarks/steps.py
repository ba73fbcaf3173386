"""The steps of a message through a server process, told by the code that runs.

A sample of the call stack belongs to the first of its functions, from the inside out, that a rule of ANYWHERE
fits; else of INNERMOST, else of ELSEWHERE. A rule is the beginning of `path:function`.
"""

from __future__ import annotations

import dis
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import CodeType, FrameType

ROOT = Path(__file__).resolve().parent.parent
RESUME = dis.opmap["RESUME"]
LOOP = "event loop and kernel"
THREADS = "other threads"

CLIENT = "hplus/realtime/connection/client.py:Client"
READING = "hplus/operations/websocket_reading.py"
SERVING = "hplus/operations/websocket_protocol.py:WebSocketProtocol"
CHAT = "chat/consumers.py:ChatConsumer"
ANYWHERE: dict[str, tuple[str, ...]] = {
    "receipts": (
        "chat/fast_receipts.py",
        "chat/receipts.py",
        f"{CHAT}.on_delivered",
        "hplus/realtime/execution/hot_batch.py:MarkBatch",
    ),
    "connecting and leaving": (
        "hplus/realtime/connection/lifecycle.py",
        "hplus/realtime/connection/coming_and_going.py",
        "hplus/realtime/connection/admission",
        "hplus/realtime/hub/arrivals.py",
        "hplus/realtime/hub/departures.py",
    ),
    "reconciliation and periodic jobs": (
        "hplus/realtime/hub/reconciliation.py",
        "hplus/realtime/hub/hub.py:Hub.reconcile",
        "hplus/realtime/hub/presence.py",
        "hplus/realtime/scheduler.py",
    ),
    "Redis": (
        "hplus/realtime/publishing/publisher.py:Publisher._publish_waiting",
        "channels_redis/",
        "redis/",
    ),
    "the ordinary way": ("hplus/realtime/execution/batching.py", "hplus/realtime/execution/db_threads.py"),
}
INNERMOST: dict[str, tuple[str, ...]] = {
    "reading": (
        READING,
        "hplus/realtime/connection/inbound.py",
        "hplus/protocol/wire.py:parse",
        "hplus/protocol/wire.py:Request",
    ),
    "building statements": (
        "hplus/realtime/execution/hot_batch.py",
        "hplus/realtime/execution/batches.py",
        "chat/fast_sending.py:FastSending.row_of",
        "chat/fast_sending.py:FastSending.key_of",
    ),
    "database connection": ("hplus/realtime/execution/hot_connection.py",),
    "events": (
        "hplus/protocol/wire.py:encode",
        "chat/fast_sending.py",
        "hplus/realtime/publishing/envelopes.py",
    ),
    "delivery": (
        "hplus/realtime/publishing/",
        "hplus/realtime/hub/",
        f"{CLIENT}.deliver",
        f"{CLIENT}._taken_by_consumers",
        f"{CHAT}.on_event",
    ),
    "writing": (
        "hplus/realtime/connection/outbound.py",
        f"{SERVING}.write",
        f"{SERVING}.resume_writing",
    ),
    "handling and replying": (
        CLIENT,
        CHAT,
        "hplus/realtime/connection/",
        "hplus/realtime/consumers.py",
    ),
}
ELSEWHERE: dict[str, tuple[str, ...]] = {
    "elsewhere in HPlus": ("hplus/realtime/", "hplus/protocol/", "hplus/accounts/", "chat/")
}
RULES: dict[str, dict[str, tuple[str, ...]]] = {
    "anywhere": ANYWHERE,
    "innermost": INNERMOST,
    "elsewhere": ELSEWHERE,
}


def step_of(frame: FrameType | None) -> str:
    """The step to which the running code belongs.

    Python notices a signal at the beginning of a function, before it has done anything: what ran until then
    was its caller, and for a callback the loop.
    """
    if frame is not None and frame.f_lasti <= _beginning(frame.f_code):
        frame = frame.f_back
    names = list(_names(frame))
    found = (_rule_for(name, kind) for kind in RULES for name in names)
    return next((step for step in found if step), LOOP)


def _names(frame: FrameType | None) -> Iterator[str]:
    while frame is not None:
        yield _name(frame.f_code)
        frame = frame.f_back


@cache
def _name(code: CodeType) -> str:
    """`path:function`, below the project or the libraries."""
    path = code.co_filename
    for root in ("site-packages/", f"{ROOT}/"):
        path = path.rpartition(root)[2]
    return f"{path}:{code.co_qualname}"


@cache
def _rule_for(name: str, kind: str) -> str | None:
    return next((step for step, starts in RULES[kind].items() if name.startswith(starts)), None)


@cache
def _beginning(code: CodeType) -> int:
    """Where the body begins; before that is what makes the frame."""
    return max(0, code.co_code[::2].find(RESUME) * 2)
