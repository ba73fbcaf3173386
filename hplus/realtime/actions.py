"""Actions: one transaction each, what it publishes, and the result it returns.

`publish` inside an action collects events. When the action is done, the mailbox entries of its durable
events are written, last thing before the commit, so that mailboxes are locked briefly and always in
the same order; beside them, the pushes for recipients without a connection. After the commit the
envelopes are delivered. A lost wake-up costs a moment: the other
servers find the entry at their next reconciliation.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, ParamSpec, TypeVar

from django.conf import settings
from django.db import transaction

from hplus.accounts.models import User
from hplus.protocol.wire import Event, Request
from hplus.realtime.groups import Group
from hplus.realtime.publishing.envelopes import Envelope
from hplus.realtime.publishing.outgoing import Outgoing

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Command:
    """A request in a batch, with the user who sent it."""

    user: User
    request: Request


ROWS_OF_A_CREDIT, BYTES_OF_A_CREDIT = 50, 64 * 1024


@dataclass(frozen=True)
class Result:
    """What an action returns to the connection whose request called it.

    `events` go to that connection alone, in this order; an envelope among them is an event rebuilt from
    the mailbox. `ack_data` is the `data` of the `ack`. `replayed` envelopes are written although this
    connection has had them, because the client asked for a replay. `subscribe` names groups the
    connection joins, `unsubscribe` groups it leaves; `close_code` closes it after the reply.
    `rows` have been read for it, and cost credits of the rate limit.
    `next_page` reads what follows, in a database thread, once the client has taken these events.
    `after_reply` runs in the event loop after the reply and before the next frame; its own result is
    written too, and an exception in it does not fail the request.
    """

    events: Sequence[Event | Envelope] = ()
    ack_data: dict[str, Any] | None = None
    is_duplicate: bool = False
    is_merged: bool = False  # added to what an earlier request has made
    replayed: bool = False
    subscribe: Sequence[Group] = ()
    unsubscribe: Sequence[Group] = ()
    close_code: int | None = None
    rows: int = 0
    next_page: Callable[[], Result | None] | None = None
    after_reply: Callable[[], Awaitable[Result | None]] | None = None

    @property
    def cost(self) -> int:
        """What it costs beside its request: one for each ROWS_OF_A_CREDIT or BYTES_OF_A_CREDIT."""
        if not self.rows:
            return 0
        size_bytes = sum(len(event.frame) for event in self.events if isinstance(event, Envelope))
        return max(self.rows // ROWS_OF_A_CREDIT, size_bytes // BYTES_OF_A_CREDIT)

    @property
    def status(self) -> Literal["ok", "duplicate", "merged"]:
        """The `status` of the `ack`."""
        return "duplicate" if self.is_duplicate else "merged" if self.is_merged else "ok"


READ_TOGETHER = 16  # events whose sizes are not known before


def in_pages(ids: Sequence[str], read: Callable[[Sequence[str]], Iterable[Envelope]]) -> Result:
    """Return a page of the events about these ids; the next one is read when the client has taken it."""
    page: list[Envelope] = []
    place = size_bytes = 0
    while place < len(ids) and len(page) < settings.PAGE_EVENTS and size_bytes < settings.PAGE_BYTES:
        found = list(read(ids[place : place + READ_TOGETHER]))
        place += READ_TOGETHER
        page += found
        size_bytes += sum(len(envelope.frame) for envelope in found)
    rest = ids[place:]
    return Result(events=page, next_page=functools.partial(in_pages, rest, read) if rest else None)


_outgoing: ContextVar[Outgoing | None] = ContextVar("outgoing", default=None)


def action(function: Callable[P, R]) -> Callable[P, R]:
    """Run the function in one transaction; what it publishes is delivered if, and only if, it commits.

    An action called by another action is part of its transaction.
    """

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        if _outgoing.get() is not None:
            return function(*args, **kwargs)
        token = _outgoing.set(outgoing := Outgoing())
        try:
            with transaction.atomic():
                result = function(*args, **kwargs)
                outgoing.write()
                return result
        finally:
            _outgoing.reset(token)

    return run


def publish(event: Event, *groups: Group, but: Iterable[str] = ()) -> None:
    """Deliver the event to these groups once the action has committed, in the order of the calls.

    A durable event is kept in the mailbox of every member; any other reaches who is connected then.
    `but` are userIds it is not for. Raises RuntimeError outside an action.
    """
    outgoing = _outgoing.get()
    if outgoing is None:
        raise RuntimeError(f"publish({event.type}) outside an action")
    outgoing.add(event, groups, frozenset(but))
