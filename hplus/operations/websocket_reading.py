"""How the server reads a client's frames, with limits for what is no message."""

from __future__ import annotations

import asyncio
from typing import Any

from websockets.frames import Frame, Opcode
from websockets.protocol import State

from hplus.api.token_buckets import Bucket
from hplus.operations.cut_connections import note_cut
from hplus.operations.websocket_flow import IS_CUT, SINK_IS_FULL, SLICE_BYTES, SLICED, FlowProtocol
from hplus.operations.websocket_frames import MASKED, PING, PONG, TEXT, FrameBoundary, newest_pong
from hplus.protocol.wire import MAX_MESSAGE_BYTES
from hplus.realtime.connection.transport import TOO_LARGE, Sink

try:
    from websockets.speedups import apply_mask
except ImportError:  # a platform without the compiled part
    from websockets.utils import apply_mask

READ_ON_BYTES = 1024 * 1024  # a longer message closes with 1009, a shorter one gets MESSAGE_TOO_LARGE
READ_AFTER_CLOSE_BYTES = 4 * 1024 * 1024  # and thrown away, until the client has read the close frame
LONG_HEAD_BYTES = 1024  # that are kept of a message which is too long
FRAME_HEAD_BYTES = 6
MESSAGE_SECONDS = 10  # for a message that has begun
REFUSED_CLOSE_SECONDS = 2.0  # for the answer to a close frame, of a client that was cut or never identified
ABUSE = 4101


def _frames_of_a_stranger() -> Bucket:
    return Bucket(per_second=2, burst=32)


def _frames_of_a_client() -> Bucket:
    return Bucket(per_second=20, burst=500)


class ReadingProtocol(FlowProtocol):
    """uvicorn's own, with a faster and a more careful way to read.

    On the direct line a whole text frame goes to the sink at once; everything else (fragments, close, what
    breaks the protocol) is left to the library. Messages are limited by who takes them. What is no message
    (pings, pongs, fragments) is limited here: by number, fewer before the client is identified, and by the
    time a message may take. Of pings that came together only the newest is answered (RFC 6455 §5.5.3), and
    none while the client does not read.
    """

    _sink: Sink | None = None
    _is_plain = False  # the direct line reads; else the library is in the middle of something
    _rest = b""  # the beginning of a frame on the direct line
    _skipped = 0  # bytes still to come of a message that is too long to be kept
    _long_head = b""  # its beginning, which may say what it is and under which id
    _pong: bytes | None = None  # the answer to the newest ping
    _odd = 0  # frames just read that are no messages
    _read_after_close = 0
    _bucket: Bucket | None = None  # that limits those, made when needed
    _message_timer: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.close_timeout = REFUSED_CLOSE_SECONDS
        self._boundary = FrameBoundary()

    def attach(self, sink: Sink) -> None:
        self._sink = sink

    def data_received(self, data: bytes) -> None:
        if self.handshake_initiated and not self.handshake_complete:
            self._keep_early(data)
        elif (self._holds or len(data) > SLICE_BYTES) and self.handshake_initiated:
            self._read_later(data)
        else:
            self._read(data)

    def _read(self, data: bytes) -> None:
        if self._is_plain:
            self._read_frames(self._rest + data if self._rest else data)
        else:
            self._read_by_library(data)
        if self._odd:
            self._limit_odd_frames()
        if self._pong is not None:
            self._answer_ping()
        if not self.is_writable:
            self._note_read_while_full(len(data))
        if self._rest or self._skipped or self._message_timer is not None or not self._is_plain:
            self._watch_message()

    def _read_by_library(self, data: bytes) -> None:
        if self.handshake_initiated:
            self._boundary.feed(data)
            self._odd, self._boundary.odd_frames = self._boundary.odd_frames, 0
            if not self._limit_odd_frames():
                return
        super().data_received(data)
        self._is_plain = self._is_direct and self._library_is_idle
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.transport.write(b"".join(self.conn.data_to_send()))  # 414 or 431
            self.transport.close()

    @property
    def _library_is_idle(self) -> bool:
        """Whether it has read whole messages only."""
        return self._boundary.is_reached and not self.frames

    def _read_frames(self, data: bytes) -> None:
        position, end, self._rest = self._skip(data) if self._skipped else 0, len(data), b""
        while end - position >= 6:
            opcode, length = data[position], data[position + 1] - MASKED
            if length < 0 or (opcode != TEXT and (opcode not in (PING, PONG) or length > 125)):
                self._read_by_library(data[position:])
                return
            start = position + 6
            if length > 125:
                start += 2 if length == 126 else 8
                if end < start:
                    break
                length = int.from_bytes(data[position + 2 : start - 4])
                if length > MAX_MESSAGE_BYTES:
                    self._read_long_frame(data[position:], start - position, length)
                    return
            if end < start + length:
                break
            payload = apply_mask(data[start : start + length], data[start - 4 : start])
            position = start + length
            if not self._take(opcode, payload):
                return
        self._rest = data[position:]

    def _read_long_frame(self, data: bytes, start: int, length: int) -> None:
        if length > READ_ON_BYTES:
            self._read_by_library(data)  # ends the connection
        else:
            self._skipped = length
            self._long_head = apply_mask(data[start : start + LONG_HEAD_BYTES], data[start - 4 : start])
            self._read_frames(data[start:])

    def _skip(self, data: bytes) -> int:
        """Pass over a message that is too long to be kept. Returns how many of these bytes belong to it."""
        taken = min(self._skipped, len(data))
        self._skipped -= taken
        if not self._skipped:
            head, self._long_head = self._long_head.decode("utf-8", "ignore"), b""
            self._give(head.encode() + TOO_LARGE)
        return taken

    def _take(self, opcode: int, payload: bytes) -> bool:
        """Returns False where the connection has ended."""
        if opcode == TEXT and not self.close_sent:
            self._give(payload)
        elif opcode == TEXT:
            self._note_read_after_close(len(payload))
        else:
            self._take_control_frame(opcode, payload)
        return not self.disconnected and not self.transport.is_closing()

    def _take_control_frame(self, opcode: int, payload: bytes) -> None:
        self._odd += 1
        if opcode == PING:
            self._pong = bytes((PONG, len(payload))) + payload
        else:
            self.handle_pong(Frame(Opcode.PONG, payload))

    def _give(self, message: bytes | None) -> None:
        assert self._sink is not None
        if self._pong is not None:
            self._answer_ping()
        if self._message_timer is not None:
            self._stop_message_timer()
        try:
            wants_more = self._sink.take(message)
        except UnicodeDecodeError:
            self._end_as_unreadable()
            return
        if not wants_more:
            self._hold(SINK_IS_FULL)

    def send_receive_event_to_app(self) -> None:
        """As uvicorn's, but a text that is not UTF-8 ends the connection without a traceback in the log."""
        text = self.curr_msg_data_type == "text" and not self.close_sent and b"".join(self.frames)
        try:
            str(text or b"", "utf-8")
        except UnicodeDecodeError:
            self.frames = []
            self._end_as_unreadable()
            return
        super().send_receive_event_to_app()

    def _end_as_unreadable(self) -> None:
        self.conn.send_close(1007)
        self.handle_parser_exception()

    # Limits

    def _limit_odd_frames(self) -> bool:
        """Returns False where too many frames came that are no messages."""
        odd, self._odd = self._odd, 0
        if self._boundary.has_too_many_fragments:
            self._cut("too many fragments of one message")
            return False
        if odd and self._bucket is None:
            self._bucket = _frames_of_a_client() if self._is_direct else _frames_of_a_stranger()
        if odd and self._bucket is not None and self._bucket.take(odd):
            self._cut("too many frames that are no messages")
            return False
        return True

    def _answer_ping(self) -> None:
        if not self.is_writable or not self.handshake_complete:
            return
        pong, self._pong = self._pong, None
        if pong is not None and not self.close_sent and not self.transport.is_closing():
            self.transport.write(pong)

    def handle_ping(self) -> None:
        pong, rest = newest_pong(self.conn.data_to_send())
        self._pong = pong or self._pong
        if rest:
            self.transport.write(rest)

    def _note_read_after_close(self, count: int) -> None:
        """Who floods is told the close code, but not waited for however long it goes on."""
        self._read_after_close += count + FRAME_HEAD_BYTES
        if self._read_after_close > READ_AFTER_CLOSE_BYTES:
            self.transport.abort()

    def _watch_message(self) -> None:
        is_under_way = bool(self._rest or self._skipped) or not self._library_is_idle
        if not is_under_way:
            self._stop_message_timer()
        elif self._message_timer is None and self.handshake_initiated:
            self._message_timer = self.loop.call_later(MESSAGE_SECONDS, self._on_unfinished_message)

    def _stop_message_timer(self) -> None:
        timer, self._message_timer = self._message_timer, None
        if timer is not None:
            timer.cancel()

    def _on_unfinished_message(self) -> None:
        self._message_timer = None
        if self._holds or (self.read_paused and not self._is_direct):  # it is not the client that waits
            self._watch_message()
        else:
            self._cut("a message was not finished in time")

    def _cut(self, reason: str) -> None:
        """Close as on abuse; what comes until the client has read that is thrown away."""
        note_cut(reason, self.client[0] if self.client else "")
        self._unread, self._rest, self._holds = b"", b"", self._holds | IS_CUT
        if self.close_sent or self.conn.state is not State.OPEN:
            self.transport.abort()
            return
        self.queue.put_nowait({"type": "websocket.disconnect", "code": ABUSE})
        self._send_close(ABUSE, REFUSED_CLOSE_SECONDS)
        self.transport.resume_reading()

    def _send_close(self, code: int, seconds: float) -> None:
        self.conn.send_close(code)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.close_timer = self.loop.call_later(seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._answer_ping()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_message_timer()
        self._rest = b""

    def _begin_direct_line(self) -> None:
        """Read on it from now on, and as a client that is identified."""
        self._is_direct, self._is_plain, self._bucket = True, self._library_is_idle, None
        self._answer_ping()
        if self._holds == SLICED:
            self._read_on_soon()
        elif self.read_paused and not self._holds:
            self.transport.resume_reading()
        self.read_paused = True  # so that uvicorn does not stop reading after each frame
