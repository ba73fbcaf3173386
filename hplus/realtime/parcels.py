"""What travels from a deed to the sockets: a frame encoded once, and what a socket must know about it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

from hplus import wire


@dataclass(frozen=True, slots=True)
class Parcel:
    """One event on its way to one group.

    `seqs` are the places of a durable event in the mailboxes of those it is for; an ephemeral
    event has none and goes to everyone in the group but `but`.
    """

    word: str
    frame: str
    about: str = ""
    topic: str = ""
    author: str = ""
    event_id: str = ""
    seqs: dict[str, int] = field(default_factory=dict)
    but: tuple[str, ...] = ()

    def to_layer(self) -> dict[str, Any]:
        return {
            "word": self.word,
            "frame": self.frame,
            "about": self.about,
            "topic": self.topic,
            "author": self.author,
            "event_id": self.event_id,
            "seqs": list(self.seqs.items()),
            "but": list(self.but),
        }

    @classmethod
    def from_layer(cls, fields: dict[str, Any]) -> Self:
        return cls(**{**fields, "seqs": dict(fields["seqs"]), "but": tuple(fields["but"])})

    def letter_for(self, user_id: str, seq: int) -> Parcel:
        """The parcel as one recipient gets it."""
        return replace(self, frame=wire.stamped(self.frame, seq, self.event_id), seqs={user_id: seq})

    @property
    def seq(self) -> int | None:
        """Its place in the recipient's mailbox, once it is somebody's letter."""
        return next(iter(self.seqs.values()), None)


def to_layer(group: str, parcels: list[Parcel]) -> dict[str, Any]:
    """What the channel layer carries."""
    return {"type": "parcels", "group": group, "parcels": [parcel.to_layer() for parcel in parcels]}


def pack(event: wire.Event, *, event_id: str = "", but: tuple[str, ...] = ()) -> Parcel:
    """The event as a parcel for a group."""
    return Parcel(
        word=event.type,
        frame=event.frame(),
        about=event.about(),
        topic=event.topic(),
        author=event.author(),
        event_id=event_id,
        but=but,
    )
