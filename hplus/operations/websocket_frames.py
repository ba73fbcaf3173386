"""WebSocket frames (RFC 6455 §5.2): what their headers tell."""

from __future__ import annotations

# First bytes of whole frames, and the mask bit that stands above the length.
TEXT, PING, PONG = 0x81, 0x89, 0x8A
MASKED = 0x80
FRAGMENTS_A_MESSAGE = 64

_FIN, _OPCODE, _CONTROL, _LONGEST_HEAD = 0x80, 0x0F, 0x08, 14


def newest_pong(written: list[bytes]) -> tuple[bytes | None, bytes]:
    """Return the last of the pongs that the library made, and everything else that it wrote."""
    pongs = [data for data in written if data[:1] == bytes((PONG,))]
    return (pongs[-1] if pongs else None), b"".join(data for data in written if data[:1] != bytes((PONG,)))


class FrameBoundary:
    """Follows a client's frames, to know whether the stream stands between two of them, and counts those
    that are no message: control frames and fragments."""

    __slots__ = ("_fragments", "_head", "_payload", "has_too_many_fragments", "odd_frames")

    def __init__(self) -> None:
        self._head, self._payload = b"", 0  # of a header what has come, of a payload what is still to come
        self._fragments = 0  # of the message under way
        self.odd_frames = 0
        self.has_too_many_fragments = False

    def feed(self, data: bytes) -> None:
        position = 0
        while position < len(data):
            if self._payload:
                taken = min(self._payload, len(data) - position)
                self._payload -= taken
            else:
                taken = self._read_head(data[position : position + _LONGEST_HEAD])
            position += taken

    def _read_head(self, data: bytes) -> int:
        """Returns how many of these bytes belong to the header."""
        head = self._head + data
        if len(head) < 2 or len(head) < (size := _size_of(head[1])):
            self._head = head
            return len(data)
        taken, self._head = size - len(self._head), b""
        self._payload = _payload_of(head)
        self._count(head[0])
        return taken

    def _count(self, first: int) -> None:
        if first & _CONTROL:
            self.odd_frames += 1
            return
        is_continuation = not first & _OPCODE
        self._fragments = self._fragments + 1 if is_continuation else 1
        self.odd_frames += is_continuation or not first & _FIN
        self.has_too_many_fragments |= self._fragments > FRAGMENTS_A_MESSAGE

    @property
    def is_reached(self) -> bool:
        return not self._head and not self._payload


def _size_of(second: int) -> int:
    """The length of a header with this second byte."""
    return 2 + {126: 2, 127: 8}.get(second & 0x7F, 0) + (4 if second & MASKED else 0)


def _payload_of(head: bytes) -> int:
    code = head[1] & 0x7F
    extended = {126: 2, 127: 8}.get(code, 0)
    return int.from_bytes(head[2 : 2 + extended]) if extended else code
