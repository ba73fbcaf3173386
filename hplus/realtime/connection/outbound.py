"""What a connection still has to write: in order, bounded, and no event twice."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from django.conf import settings

from hplus.operations import metrics
from hplus.realtime.connection.transport import Transport
from hplus.realtime.publishing import event_types
from hplus.realtime.publishing.envelopes import Envelope

REMEMBERED_EVENTS = 12_000


class WrittenEvents:
    """Which entries of the mailbox have been written to this connection.

    Live events come in the order of `seq`, so two numbers tell what came live: everything after `base` up
    to `live`, but those in `skipped`, which were left out or written as something else. What was written out
    of order (unread messages of a room, alerts at connecting) stands in `others`. Where too much would have
    to be remembered it is forgotten: an event twice is better than one lost.
    """

    __slots__ = ("_base", "_live", "_others", "_skipped")

    def __init__(self) -> None:
        self._base = self._live = 0
        self._others: set[int | str] | None = None
        self._skipped: set[int] | None = None

    def start_after(self, seq: int, had_up_to: int = 0) -> None:
        """Begin at this place of the mailbox: nothing before it has been written to this connection.

        What lies after it up to `had_up_to` the client has from an earlier connection: as good as written.
        """
        self._base = self._live = seq
        if had_up_to > seq:
            self._others = set(range(max(seq, had_up_to - REMEMBERED_EVENTS) + 1, had_up_to + 1))

    def add_live(self, seq: int) -> bool:
        """Note an event of the stream. Returns whether it has been written out of order already."""
        self._note_live(seq)
        if self._others and seq in self._others:
            self._others.discard(seq)
            return True
        return False

    def skip_live(self, seq: int) -> None:
        """Note an event of the stream that is not written as itself."""
        self._note_live(seq)
        if self._skipped is None:
            self._skipped = set()
        self._skipped.add(seq)
        if len(self._skipped) > REMEMBERED_EVENTS:
            self._base, self._skipped = self._live, None

    def _note_live(self, seq: int) -> None:
        self._live = max(self._live, seq)
        self._base = min(self._base, seq - 1)  # what was buffered while connecting may begin before it

    def add_other(self, seq: int) -> bool:
        """Note an event written out of order. Returns whether it has been written already."""
        came_live = self._base < seq <= self._live and not (self._skipped and seq in self._skipped)
        if came_live or (self._others is not None and seq in self._others):
            return True
        self._remember(seq)
        return False

    def add_unplaced(self, event_id: str) -> bool:
        """Note an event without a place in the mailbox. Returns whether it has been written already."""
        is_known = self._others is not None and event_id in self._others
        self._remember(event_id)
        return is_known

    def _remember(self, key: int | str) -> None:
        if self._others is None or len(self._others) >= REMEMBERED_EVENTS:
            self._others = set()
        self._others.add(key)


class Outbound:
    """Frames on their way to one client.

    A frame is written at once while the reader keeps up, else it waits; what is urgent waits before all
    other frames, without its `seq`, so that no cursor moves past those. A reader that takes nothing costs
    at most the bound; then `too_slow` is called, which must `clear` and `seal`. What can be left out is not
    put in without `has_room`. `on_written` is called for each durable event that has been written.
    """

    __slots__ = (
        "_bytes",
        "_drained",
        "_on_written",
        "_overtaking",
        "_taken",
        "_too_slow",
        "_transport",
        "_waiting",
        "is_closed",
        "is_sealed",
        "written",
    )

    def __init__(
        self, transport: Transport, on_written: Callable[[Envelope], None], too_slow: Callable[[], None]
    ) -> None:
        self._transport, self._on_written, self._too_slow = transport, on_written, too_slow
        self._waiting: deque[tuple[bytes, Envelope | None]] | None = None  # made when a reader lags
        self._bytes = 0
        self._overtaking = 0  # how many of those that wait have overtaken the others; they stand first
        self._taken = 0  # frames that waited and have been written
        self._drained: asyncio.Future[None] | None = None
        self.written = WrittenEvents()
        self.is_closed = False
        self.is_sealed = False

    def put(self, frame: bytes, envelope: Envelope | None = None) -> None:
        """Write a frame; with its envelope where it is a durable event."""
        if self.is_closed or self.is_sealed:
            return
        if not self._waiting and self._transport.is_writable:
            self._write(frame, envelope)
        else:
            self._enqueue(frame, envelope)

    def put_many(self, frames: Sequence[bytes]) -> None:
        """Write these frames together."""
        if self._waiting or not self._transport.is_writable:
            for frame in frames:
                self.put(frame)
        elif not self.is_closed and not self.is_sealed:
            self._transport.write_many(frames)
            metrics.frames_out.count += len(frames)

    def put_live(self, envelope: Envelope, seq: int) -> None:
        """Write an event of the stream, unless it has been written out of order."""
        if self.written.add_live(seq):
            return
        has_to_wait = self._waiting or not self._transport.is_writable
        if has_to_wait and envelope.event_type in event_types.overtaking():
            self.put_ahead(envelope.unplaced if self._waiting else envelope.stamped(seq), envelope)
        else:
            self.put(envelope.stamped(seq), envelope)

    def put_ephemeral(self, envelope: Envelope) -> None:
        """Write an event that has no place in the mailbox."""
        if self._waiting and envelope.event_type in event_types.overtaking():
            self.put_ahead(envelope.frame)
        else:
            self.put(envelope.frame)

    def put_ahead(self, frame: bytes, envelope: Envelope | None = None) -> None:
        """Write a frame before all that waits, but after those that have overtaken before it."""
        if self.is_closed or self.is_sealed:
            return
        if not self._waiting and self._transport.is_writable:
            self._write(frame, envelope)
            return
        self._waiting = self._waiting or deque()
        self._waiting.insert(self._overtaking, (frame, envelope))
        self._overtaking += 1
        self._note_waiting(frame)

    def put_once_ahead(self, envelope: Envelope, seq: int) -> None:
        """Write an event before all that waits and before those that are still to be read, once."""
        if not self.written.add_other(seq):
            self.put_ahead(envelope.unplaced, envelope)

    def put_other(self, envelope: Envelope, seq: int, *, again: bool = False) -> None:
        """Write an event out of order; one that was written already only where it was asked for again."""
        if not self.written.add_other(seq) or again:
            self.put(envelope.stamped(seq), envelope)

    def put_unplaced(self, envelope: Envelope) -> None:
        """Write an event whose entry is past keeping, once."""
        if not self.written.add_unplaced(envelope.event_id):
            self.put(envelope.frame, envelope)

    def _write(self, frame: bytes, envelope: Envelope | None) -> None:
        self._transport.write(frame)
        metrics.frames_out.count += 1
        if envelope is not None:
            self._on_written(envelope)

    def _enqueue(self, frame: bytes, envelope: Envelope | None) -> None:
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append((frame, envelope))
        self._note_waiting(frame)

    def _note_waiting(self, frame: bytes) -> None:
        self._bytes += len(frame)
        if self._is_full():
            self._too_slow()

    def clear(self) -> None:
        """Drop what waits."""
        self._waiting, self._bytes, self._overtaking = None, 0, 0

    def seal(self) -> None:
        """Take nothing any more; what waits is still written."""
        self.is_sealed = True

    def _is_full(self, share: float = 1) -> bool:
        too_many = self._waiting is not None and len(self._waiting) > settings.OUTBOUND_FRAMES * share
        return too_many or self._bytes > settings.OUTBOUND_BYTES * share

    def on_writable(self) -> None:
        """The reader keeps up again: write what waits."""
        while self._waiting and not self.is_closed and self._transport.is_writable:
            frame, envelope = self._waiting.popleft()
            self._bytes -= len(frame)
            self._overtaking = max(0, self._overtaking - 1)
            self._taken += 1
            self._write(frame, envelope)
        if not self._waiting:
            self._waiting = None
            if self._drained is not None and not self._drained.done():
                self._drained.set_result(None)

    @property
    def has_room(self) -> bool:
        """Whether the reader keeps up with what it is sent."""
        return self._waiting is None or not self._is_full(share=1 / 4)

    async def wait_for_room(self) -> bool:
        """Wait for the reader a while. Returns False where it takes nothing."""
        if not self.has_room:
            await self.drained(settings.SLOW_READER_SECONDS)
            return self.is_closed or not self._waiting
        return True

    async def wait_until_drained(self) -> bool:
        """Wait for the reader while it takes something. Returns False where it takes nothing any more."""
        taken = -1
        while self._waiting and not self.is_closed and taken != self._taken:
            taken = self._taken
            await self.drained(settings.SLOW_READER_SECONDS)
        return not self._waiting and not self.is_closed and not self.is_sealed

    async def drained(self, seconds: float) -> None:
        """Wait until everything has been written, or the time is over."""
        if not self._waiting or self.is_closed:
            return
        if self._drained is None or self._drained.done():
            self._drained = asyncio.get_running_loop().create_future()
        await asyncio.wait({self._drained}, timeout=seconds)

    def close(self) -> None:
        """Write nothing any more."""
        self.is_closed = True
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
