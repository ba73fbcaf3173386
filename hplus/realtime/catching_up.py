"""Catching up: the letters that came while somebody was away."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from hplus.accounts.models import User
from hplus.realtime import messages, rounds
from hplus.realtime.answers import Answer
from hplus.realtime.models import Epoch, Letter, Mailbox
from hplus.realtime.parcels import Parcel

REPLAY_MOST = 10_000


@dataclass(frozen=True)
class Replay:
    """What a mailbox holds after a cursor; not `recovered` where that is too old or of another epoch."""

    recovered: bool
    letters: list[tuple[int, Parcel | None]]
    since: int = 0
    has_more: bool = False

    def for_user(self, user_id: str) -> list[Parcel]:
        return [parcel.letter_for(user_id, seq) for seq, parcel in self.letters if parcel is not None]


def replay(user: User, since: int, epoch: str | None, up_to: int, most: int = REPLAY_MOST) -> Replay:
    """The letters after `since`, in order."""
    if (epoch and epoch != Epoch.current()) or since > up_to or not _reaches_back_to(user, since, up_to):
        return Replay(recovered=False, letters=[])
    found = rounds.letters(user.pk, since, up_to, most)
    last = found[-1][0] if found else up_to
    return Replay(recovered=True, letters=found, since=since, has_more=last < up_to)


def replay_all(user: User, since: int, epoch: str | None, up_to: int) -> Replay:
    """For a handshake: all of it, or it is not recovered; a gap that nobody hears of would be a loss."""
    found = replay(user, since, epoch, up_to)
    return Replay(recovered=False, letters=[]) if found.has_more else found


def _reaches_back_to(user: User, since: int, up_to: int) -> bool:
    """Whether the letter right after the cursor is still there."""
    return since == up_to or Letter.objects.filter(user=user, seq=since + 1).exists()


def sync(user: User, request: messages.Sync) -> Answer:
    box, _ = Mailbox.objects.get_or_create(pk=user.pk)
    found = replay(user, request.since, request.epoch, box.last_seq, request.limit)
    told = found.for_user(user.pk)
    to = found.letters[-1][0] if found.letters else box.last_seq
    complete = messages.SyncComplete(
        from_=request.since,
        to=to,
        recovered=found.recovered,
        has_more=found.has_more,
        epoch=Epoch.current(),
    )
    return Answer(says=[*told, complete], repeats=True)


def delete_old_letters() -> int:
    """Letters older than the retention; who was away longer reads the state by REST."""
    oldest = timezone.now() - timedelta(days=settings.LETTER_RETENTION_DAYS)
    return Letter.objects.filter(at__lt=oldest).delete()[0]
