"""Replay: the mailbox entries that a client has missed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from hplus.accounts.models import User
from hplus.realtime.models import Epoch, MailboxEntry
from hplus.realtime.publishing.envelopes import Envelope
from hplus.realtime.publishing.mailbox import entries_between

REPLAY_MOST = 10_000


@dataclass(frozen=True)
class Replay:
    """What a mailbox holds after a cursor; not `recovered` where that is too old or of another epoch."""

    recovered: bool
    entries: list[tuple[int, Envelope | None]]
    since: int = 0
    has_more: bool = False

    def for_user(self, user_id: str) -> list[Envelope]:
        return [
            envelope.for_recipient(user_id, seq) for seq, envelope in self.entries if envelope is not None
        ]


def replay(user: User, since: int, epoch: str | None, up_to: int, most: int = REPLAY_MOST) -> Replay:
    """Read the entries after `since`, in order."""
    if (epoch and epoch != Epoch.current()) or since > up_to or not _reaches_back_to(user, since, up_to):
        return Replay(recovered=False, entries=[])
    found = entries_between(user.pk, since, up_to, most)
    last = found[-1][0] if found else up_to
    return Replay(recovered=True, entries=found, since=since, has_more=last < up_to)


def replay_all(user: User, since: int, epoch: str | None, up_to: int) -> Replay:
    """For a handshake: all of it, or it is not recovered; a gap without notice would be a loss."""
    found = replay(user, since, epoch, up_to)
    return Replay(recovered=False, entries=[]) if found.has_more else found


def _reaches_back_to(user: User, since: int, up_to: int) -> bool:
    """Whether the entry right after the cursor is still there."""
    return since == up_to or MailboxEntry.objects.filter(user=user, seq=since + 1).exists()


def delete_old_entries() -> int:
    """Delete entries older than the retention; a client away for longer reads the state by REST."""
    oldest = timezone.now() - timedelta(days=settings.MAILBOX_RETENTION_DAYS)
    return MailboxEntry.objects.filter(at__lt=oldest).delete()[0]
