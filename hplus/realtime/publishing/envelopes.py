"""What travels from an action to the connections: a frame encoded once, and what routing must know."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

from hplus.protocol import wire


@dataclass(frozen=True, slots=True)
class Envelope:
    """One event on its way to one group.

    `seqs` are the places of a durable event in the mailboxes of its recipients, by userId; an ephemeral
    event has none and goes to everyone in the group but `but`.
    """

    event_type: str
    frame: bytes
    subject: str = ""
    topic: str = ""
    author: str = ""
    event_id: str = ""
    seqs: dict[str, int] = field(default_factory=dict)
    but: tuple[str, ...] = ()

    def to_layer(self) -> dict[str, Any]:
        return {
            "event_type": self.event_type,
            "frame": self.frame,
            "subject": self.subject,
            "topic": self.topic,
            "author": self.author,
            "event_id": self.event_id,
            "seqs": list(self.seqs.items()),
            "but": list(self.but),
        }

    @classmethod
    def from_layer(cls, fields: dict[str, Any]) -> Self:
        return cls(**{**fields, "seqs": dict(fields["seqs"]), "but": tuple(fields["but"])})

    def for_recipient(self, user_id: str, seq: int) -> Envelope:
        """Return the envelope addressed to one recipient, at its place in that mailbox."""
        return replace(self, seqs={user_id: seq})

    def stamped(self, seq: int) -> bytes:
        """Return the frame with `seq` and `eventId`, as the recipient at this place gets it."""
        return b'%b,"seq":%d,"eventId":"%b"}' % (self.frame[:-1], seq, self.event_id.encode())

    @property
    def unplaced(self) -> bytes:
        """The frame without `seq`, as one gets it that overtakes; with `eventId` where it is durable."""
        return (
            b'%b,"eventId":"%b"}' % (self.frame[:-1], self.event_id.encode()) if self.event_id else self.frame
        )

    @property
    def seq(self) -> int | None:
        """The place in the recipient's mailbox, once it is addressed to one recipient."""
        return next(iter(self.seqs.values()), None)


@dataclass(frozen=True, slots=True)
class Delivery:
    """An envelope and its address: a group on the layer, and within it perhaps one person."""

    group: str
    person: str
    envelope: Envelope


def envelope_of(event: wire.Event, *, event_id: str = "", but: tuple[str, ...] = ()) -> Envelope:
    """Encode the event, once for all its recipients."""
    return Envelope(
        event_type=event.type,
        frame=event.frame(),
        subject=event.subject(),
        topic=event.topic(),
        author=event.author(),
        event_id=event_id,
        but=but,
    )
