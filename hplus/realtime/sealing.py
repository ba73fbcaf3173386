"""Sealing: what servers tell each other through Redis is read by nobody else, and taken from nobody else.

A message is encrypted and authenticated (AES-256-GCM), with its header and the channel it is for. Each sender
has a key of its own, derived from SECRET_KEY and its name, and counts its messages, so that no nonce is used
twice and no message is taken twice.
"""

from __future__ import annotations

import logging
import os
import struct
import time
from collections import OrderedDict
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.utils.crypto import salted_hmac
from prometheus_client import Counter

logger = logging.getLogger(__name__)
HEADER = struct.Struct(">B16sQd")  # version, name of the sender, count, Unix time
VERSION = 1
FRESH_SECONDS = 60.0  # older than that, or as far in the future, a message is not taken
SKEW_SECONDS = 2.0  # how long before the start of a receiver a message may seem to have been sent
WINDOW = 64  # how far behind the newest of its sender a message may come
MOST_SENDERS = 1_000  # that an opener remembers
LOG_SECONDS = 60.0  # between two warnings in the log
WARN_SECONDS = 600.0  # how long /health/ warns

dropped = Counter("hplus_layer_dropped_total", "Messages of the channel layer dropped, by reason", ["reason"])


class Dropped(Exception):
    """A message that is not taken: `forged`, `stale` or `repeated`."""


def _cipher(secret: str, sender: bytes) -> AESGCM:
    return AESGCM(salted_hmac(__name__, sender, secret, algorithm="sha256").digest())


def _nonce(count: int) -> bytes:
    return count.to_bytes(12, "big")


class Seal:
    """Seals the messages of one sender."""

    def __init__(self, secret: str) -> None:
        self._sender = os.urandom(16)
        self._cipher = _cipher(secret, self._sender)
        self._count = 0

    def seal(self, channel: bytes, message: bytes) -> bytes:
        """Return the message as it travels on this channel."""
        self._count += 1
        header = HEADER.pack(VERSION, self._sender, self._count, time.time())
        return header + self._cipher.encrypt(_nonce(self._count), message, header + channel)


class _Sender:
    """One sender, as a receiver knows it."""

    __slots__ = ("_newest", "_seen", "cipher")

    def __init__(self, cipher: AESGCM, count: int) -> None:
        self.cipher, self._newest = cipher, count - 1
        self._seen = (1 << WINDOW) - 1  # nothing from before the first message is taken

    def is_new(self, count: int) -> bool:
        """Whether this is the first message with this count; notes that it has come."""
        ahead = count - self._newest
        if ahead > 0:
            self._seen = (self._seen << min(ahead, WINDOW) | 1) & ((1 << WINDOW) - 1)
            self._newest = count
            return True
        bit = 1 << min(-ahead, WINDOW)
        if bit >> WINDOW or self._seen & bit:
            return False
        self._seen |= bit
        return True


class Opener:
    """Opens what has been sealed with any of these secrets."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._secrets = secrets
        self._senders: OrderedDict[bytes, _Sender] = OrderedDict()
        self._began_at = time.monotonic()  # what was sent before may have been taken already

    def open(self, channel: bytes, sealed: bytes) -> bytes:
        """Return the message. Raises Dropped."""
        try:
            version, name, count, at = HEADER.unpack_from(sealed)
        except struct.error:
            raise Dropped("forged") from None
        if version != VERSION:
            raise Dropped("forged")
        sender, message = self._authenticated(name, count, sealed, channel)
        if not -FRESH_SECONDS <= time.time() - at <= self._most_seconds():
            raise Dropped("stale")
        self._remember(name, sender)
        if not sender.is_new(count):
            raise Dropped("repeated")
        return message

    def _most_seconds(self) -> float:
        """Return how old a message may be."""
        return min(FRESH_SECONDS, time.monotonic() - self._began_at + SKEW_SECONDS)

    def _authenticated(self, name: bytes, count: int, sealed: bytes, channel: bytes) -> tuple[_Sender, bytes]:
        known = self._senders.get(name)
        candidates = [known] if known else [_Sender(_cipher(key, name), count) for key in self._secrets]
        bound, body = sealed[: HEADER.size] + channel, sealed[HEADER.size :]
        for sender in candidates:
            try:
                message = sender.cipher.decrypt(_nonce(count), body, bound)
            except InvalidTag:
                continue
            return sender, message
        raise Dropped("forged")

    def _remember(self, name: bytes, sender: _Sender) -> None:
        self._senders[name] = sender
        self._senders.move_to_end(name)
        if len(self._senders) > MOST_SENDERS:
            self._senders.popitem(last=False)


class Alarm:
    """Counts what was dropped, and tells of it in the log at most once a minute."""

    MEANING = (
        "Forged: a stranger writes to this Redis, or a server has another SECRET_KEY. Stale: clocks differ. "
        "Repeated: a stranger repeats, or Redis was slow."
    )

    def __init__(self) -> None:
        self._untold = 0
        self._told_at = self._dropped_at = float("-inf")

    def note(self, reason: str) -> None:
        dropped.labels(reason).inc()
        self._untold += 1
        self._dropped_at = now = time.monotonic()
        if now - self._told_at >= LOG_SECONDS:
            logger.warning(
                "%s messages of Redis dropped, the last as %s. %s", self._untold, reason, self.MEANING
            )
            self._told_at, self._untold = now, 0

    @property
    def is_recent(self) -> bool:
        """Whether anything was dropped within the last ten minutes."""
        return time.monotonic() - self._dropped_at < WARN_SECONDS


alarm = Alarm()
