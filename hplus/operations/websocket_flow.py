"""When the server reads from a client, and when it lets it wait."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

SLICE_BYTES = 16 * 1024  # read at once; then the other connections have their turn
READ_WHILE_FULL_BYTES = 64 * 1024  # read of a client that does not read, so that it can call for help

EARLY_BYTES = 64 * 1024  # that a client may send before it is let in; then it has to wait

# Why nothing is read for now.
SLICED, SINK_IS_FULL, WRITE_BUFFER_IS_FULL, IS_CUT, IS_EARLY = 1, 2, 4, 8, 16


class FlowProtocol(WebSocketsSansIOProtocol):
    """uvicorn's own, which reads what has come slice by slice, and nothing while somebody has enough to do.

    A client that reads nothing of what it is written is not read from either, but for READ_WHILE_FULL_BYTES.
    """

    _is_direct = False  # handed over to the direct line
    _unread = b""  # what has come beyond one slice
    _early = b""  # what came before the handshake was over
    _holds = 0  # why nothing is read
    _is_read_on_scheduled = False
    _read_while_full = 0
    is_writable = True  # the transport's buffer is under its high-water mark

    def _read(self, data: bytes) -> None:
        raise NotImplementedError

    def _keep_early(self, data: bytes) -> None:
        """Keep what a client sends before it is let in: the library could not even refuse it yet."""
        self._early += data
        if len(self._early) > EARLY_BYTES:
            self._hold(IS_EARLY)

    async def send(self, message: Any) -> None:
        await super().send(message)
        if self._early and self.handshake_complete and not self.close_sent:
            early, self._early = self._early, b""
            self._release(IS_EARLY)
            self.data_received(early)

    def _hold(self, reason: int) -> None:
        if not self.transport.is_closing():
            self.transport.pause_reading()
        self._holds |= reason

    def _release(self, reason: int) -> None:
        if not self._holds & reason:
            return
        self._holds &= ~reason
        if self.transport.is_closing():
            return
        if not self._holds:
            self.transport.resume_reading()
        elif self._holds == SLICED:
            self._read_on_soon()

    def _read_later(self, data: bytes) -> None:
        if not self._holds & IS_CUT:
            self._unread += data
            self._hold(SLICED)
            self._read_on_soon()

    def _read_on_soon(self) -> None:
        if not self._is_read_on_scheduled:
            self._is_read_on_scheduled = True
            self.loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        """Read one slice more, unless somebody has enough to do with what was read."""
        self._is_read_on_scheduled = False
        is_queue_full = self.read_paused and not self._is_direct  # uvicorn's, before the direct line
        if self._holds != SLICED or is_queue_full or self.transport.is_closing():
            return
        data, self._unread = self._unread[:SLICE_BYTES], self._unread[SLICE_BYTES:]
        self._read(data)
        if self._unread:
            self._read_on_soon()
        else:
            self._release(SLICED)

    def resume_reading(self) -> None:
        self._release(SINK_IS_FULL)

    def _note_read_while_full(self, count: int) -> None:
        self._read_while_full += count
        if self._read_while_full > READ_WHILE_FULL_BYTES:
            self._hold(WRITE_BUFFER_IS_FULL)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.is_writable, self._read_while_full = False, 0

    def resume_writing(self) -> None:
        super().resume_writing()
        self.is_writable = True
        self._release(WRITE_BUFFER_IS_FULL)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unread = self._early = b""
