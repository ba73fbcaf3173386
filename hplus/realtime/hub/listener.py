"""What the hub needs of a connection to deliver to it; the connection itself lies in a higher room."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence
from datetime import datetime
from typing import Protocol

from hplus import errors
from hplus.accounts.models import User
from hplus.realtime.models import Connection
from hplus.realtime.publishing.envelopes import Envelope

Audience = tuple[str, str]  # a group, and within it perhaps one person


class Listener(Protocol):
    """One connection, as the hub sees it."""

    connection_id: str
    user_id: str
    connection: Connection | None  # its row, while it is registered
    group_names: set[str]

    @property
    def user(self) -> User: ...
    @property
    def expires_at(self) -> datetime | None: ...
    @property
    def admin_session_key(self) -> str: ...
    @property
    def audiences(self) -> Iterable[Audience]: ...
    @property
    def is_listening(self) -> bool: ...
    @property
    def has_room(self) -> bool: ...

    def deliver(self, envelope: Envelope, seq: int | None = None) -> None: ...
    def write_many(self, frames: Sequence[bytes]) -> None: ...
    def wait_for_room(self) -> Awaitable[bool]: ...
    async def expel(self, refusal: errors.Refusal) -> None: ...
    async def finish(self, code: int, grace_seconds: float) -> None: ...
