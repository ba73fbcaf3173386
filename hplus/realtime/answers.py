"""What an action gives back to whoever asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hplus.accounts.models import User
from hplus.realtime.groups import Group
from hplus.realtime.parcels import Parcel
from hplus.wire import Event, Request


@dataclass(frozen=True)
class Answer:
    """`says` goes to the asking socket alone, events and letters told again in this order; `made` is
    what the ack names.

    With `repeats` letters come although this socket has had them: the client asked for that.
    `joins` are groups the socket listens to from now on, `close_code` ends it after the answer.
    `then` is done in a thread after the answer and before anything that has arrived meanwhile; it
    may say more, and nothing that goes wrong in it fails what was asked for.
    """

    says: Sequence[Event | Parcel] = ()
    made: dict[str, Any] | None = None
    is_duplicate: bool = False
    repeats: bool = False
    joins: Sequence[Group] = ()
    close_code: int | None = None
    then: Callable[[], Answer | None] | None = None


@dataclass(frozen=True)
class Wish:
    """A request in the hot lane, with who asks."""

    user: User
    request: Request
