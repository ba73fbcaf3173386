"""What a server looks up every two seconds, whatever the channel layer did: the database is the truth."""

from __future__ import annotations

import os
import socket as network
import uuid
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.db.models import F, Q, QuerySet
from django.db.models.functions import Coalesce
from django.utils import timezone

from hplus import errors
from hplus.accounts.browsers import signed_in
from hplus.accounts.models import User
from hplus.realtime.models import Connection, Letter, Mailbox, ServerProcess
from hplus.realtime.parcels import Parcel, pack
from hplus.wire import Durable, subclasses

if TYPE_CHECKING:
    from hplus.realtime.socket import Socket

LETTERS_AT_ONCE = 500
GHOST_AFTER_SECONDS = 10  # a handshake is over by then, one way or the other


class Server:
    """This process's row, which tells the others that its connections are alive."""

    def __init__(self) -> None:
        self.server_id = uuid.uuid4()
        self._is_registered = False

    def register(self) -> None:
        if self._is_registered:
            return
        ServerProcess.objects.get_or_create(
            server_id=self.server_id,
            defaults={"host": network.gethostname()[:200], "pid": os.getpid()},
        )
        self._is_registered = True

    def beat(self, connections: list[Connection]) -> bool:
        """Still here. Where another process took us for dead, come back with all our connections: True."""
        beaten = ServerProcess.objects.filter(pk=self.server_id).update(seen_at=timezone.now())
        if beaten or not self._is_registered:
            return False
        self._is_registered = False
        self.register()
        Connection.objects.bulk_create(connections, ignore_conflicts=True)
        return True

    def retire(self) -> None:
        ServerProcess.objects.filter(pk=self.server_id).delete()


@dataclass(frozen=True)
class Found:
    """What the database says."""

    was_taken_for_dead: bool
    last_seqs: list[tuple[str, int]]
    expelled: dict[str, errors.Refusal]
    browsers: dict[str, User]  # those still signed in to the admin site, and as whom
    now: datetime

    def refusal_for(self, socket: Socket) -> errors.Refusal | None:
        if socket.expires_at is not None and socket.expires_at <= self.now:
            return errors.AuthenticationFailed("The token has expired.")
        return self.expelled.get(socket.connection_id) or self._signed_out(socket)

    def _signed_out(self, socket: Socket) -> errors.Refusal | None:
        """Signed out of the admin site, or no longer the superuser whose socket this was."""
        key = socket.identity.browser_session
        user = self.browsers.get(key)
        is_same = user is not None and user.is_superuser == socket.user.is_superuser
        return errors.SessionRevoked() if key and not is_same else None


def look(server: Server, connections: list[Connection], browser_sessions: set[str]) -> Found:
    """One round: four queries, however many sockets are here; two more for pages of the admin site."""
    server.register()
    was_taken_for_dead = server.beat(connections)
    mine = Connection.objects.filter(server=server.server_id)
    _forget_ghosts(mine, connections)
    boxes = Mailbox.objects.filter(user__connections__server=server.server_id).distinct()
    expelled = {connection.pk: _why_not(connection) for connection in _no_longer_allowed(mine)}
    last_seqs = list(boxes.values_list("user_id", "last_seq"))
    return Found(was_taken_for_dead, last_seqs, expelled, signed_in(browser_sessions), timezone.now())


def _forget_ghosts(mine: QuerySet[Connection], connections: list[Connection]) -> None:
    """Rows of sockets that are not here: their handshake was given up, or their departure not recorded.

    Their users are taken for absent by the duty that looks after servers which died.
    """
    before = timezone.now() - timedelta(seconds=GHOST_AFTER_SECONDS)
    living = {connection.pk for connection in connections}
    rows = set(mine.filter(connected_at__lt=before).values_list("pk", flat=True))
    if ghosts := rows - living:
        Connection.objects.filter(pk__in=ghosts).delete()


def _no_longer_allowed(connections: QuerySet[Connection]) -> QuerySet[Connection]:
    hospital_now = Coalesce("user__hospital_id", "hospital")
    return (
        connections.select_related("user", "session")
        .alias(hospital_now=hospital_now)
        .filter(
            Q(session__revoked_at__isnull=False)
            | Q(session=None, user__signed_out_at__gt=F("connected_at"))
            | Q(user__is_active=False)
            | ~Q(user__role=F("role"))
            | ~Q(hospital_now=F("hospital"))
        )
    )


def _why_not(connection: Connection) -> errors.Refusal:
    if not connection.user.is_active:
        return errors.AccountDisabled()
    if connection.is_signed_out:
        return errors.SessionRevoked()
    return errors.AuthenticationFailed("Role or hospital of this account has changed.")


def letters(
    user_id: str, after: int, up_to: int = 2**62, most: int = LETTERS_AT_ONCE
) -> list[tuple[int, Parcel | None]]:
    """The letters of a mailbox, told again; None in place of one whose row is gone."""
    rows = list(Letter.objects.between(user_id, after, up_to)[:most])
    parcels = retold(rows)
    return [(row.seq, parcels.get(row.seq)) for row in rows]


def retold(rows: Iterable[Letter]) -> dict[int, Parcel]:
    """seq → parcel for letters of one mailbox, made from their rows as they are now."""
    return {row.seq: pack(event, event_id=str(row.event_id)) for row, event in events_of(rows)}


def events_of(rows: Iterable[Letter]) -> list[tuple[Letter, Durable]]:
    """The events of these letters, told again word by word; without those whose row is gone."""
    by_word = defaultdict(list)
    for row in rows:
        by_word[row.word].append(row)
    words = {word.type: word for word in subclasses(Durable)}
    told: list[tuple[Letter, Durable]] = []
    for name, of_word in by_word.items():
        if word := words.get(name):
            events = word.retell({row.subject for row in of_word})
            told += [(row, events[row.subject]) for row in of_word if row.subject in events]
    return told


def letters_about(user: User, word: str, subjects: Iterable[str]) -> list[Parcel]:
    """The newest letter this user has about each subject, told again, oldest first."""
    rows = Letter.objects.filter(user=user, word=word, subject__in=list(subjects)).order_by("seq")
    newest = sorted({row.subject: row for row in rows}.values(), key=lambda row: row.seq)
    told = retold(newest)
    return [told[row.seq].letter_for(user.pk, row.seq) for row in newest if row.seq in told]
