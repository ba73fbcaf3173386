"""Reconciliation: every two seconds a server compares itself with the database, which is the truth."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from uuid import UUID

from django.db.models import F, Q, QuerySet
from django.db.models.functions import Coalesce
from django.utils import timezone

from hplus import errors
from hplus.accounts.admin_sessions import signed_in
from hplus.accounts.models import User
from hplus.realtime.execution import prepared
from hplus.realtime.hub.listener import Listener
from hplus.realtime.hub.server_registration import ServerRegistration
from hplus.realtime.models import Connection, Mailbox, ServerProcess

GHOST_AFTER_SECONDS = 10  # a handshake is over by then, one way or the other
COMPLETE_EVERY = 30  # looks: once a minute


@dataclass(frozen=True)
class Findings:
    """What the database says."""

    was_taken_for_dead: bool
    has_neighbours: bool
    last_seqs: list[tuple[str, int]]
    expelled: dict[str, errors.Refusal]
    admin_users: dict[str, User]  # session key of the admin site → its user, while signed in
    now: datetime

    def refusal_for(self, client: Listener) -> errors.Refusal | None:
        if client.expires_at is not None and client.expires_at <= self.now:
            return errors.AuthenticationFailed("The token has expired.", reason="expired")
        expelled = self.expelled.get(client.connection_id)
        if isinstance(expelled, errors.AccountDisabled):
            return expelled
        return self._signed_out(client) or expelled

    def _signed_out(self, client: Listener) -> errors.Refusal | None:
        """Signed out of the admin site, or no longer the superuser that opened this connection."""
        key = client.admin_session_key
        user = self.admin_users.get(key)
        is_same = user is not None and user.is_superuser == client.user.is_superuser
        return errors.SessionRevoked() if key and not is_same else None


@dataclass(frozen=True)
class _Look:
    """What stands in the database for one server; of mailboxes those that may have changed."""

    is_registered: bool
    has_neighbours: bool
    older_rows: int  # of connections old enough for a ghost
    last_seqs: list[tuple[str, int]]
    unwelcome: list[str]  # ids of connections that are no longer allowed


class Reconciliation:
    """Looks into the database for one server; with prepared statements in one round trip.

    A look sees the mailboxes that have changed since the one before; one of COMPLETE_EVERY sees all, and
    counts no rows, in case that anything was missed.
    """

    def __init__(self, server: ServerRegistration) -> None:
        self._server = server
        self._since: str | None = None  # the oldest transaction that the last look may not have seen
        self._looks = 0

    def reconcile(self, connections: list[Connection], admin_session_keys: set[str]) -> Findings:
        """Compare these connections with the database; in a thread. Raises django.db.Error."""
        self._server.register()
        self._looks += 1
        now = timezone.now()
        ghosts_before = now - timedelta(seconds=GHOST_AFTER_SECONDS)
        seen = self._look(now, ghosts_before)
        was_taken_for_dead = not seen.is_registered
        if was_taken_for_dead:
            self._server.register_again(connections)
        mine = Connection.objects.filter(server=self._server.server_id)
        living = sum(connection.connected_at < ghosts_before for connection in connections)
        if seen.older_rows > living or self._is_complete:
            _delete_ghosts(mine.filter(connected_at__lt=ghosts_before), connections)
        expelled = mine.select_related("user", "session").filter(pk__in=seen.unwelcome)
        return Findings(
            was_taken_for_dead,
            seen.has_neighbours,
            seen.last_seqs,
            {row.pk: _why_not(row) for row in expelled} if seen.unwelcome else {},
            signed_in(admin_session_keys),
            now,
        )

    @property
    def _is_complete(self) -> bool:
        return self._looks % COMPLETE_EVERY == 0

    def see_all_again(self) -> None:
        """Forget the last look, because what it saw has not been used."""
        self._since = None

    def _look(self, now: datetime, ghosts_before: datetime) -> _Look:
        if not prepared.is_available():
            return _look_by_queries(self._server.server_id, now, ghosts_before)
        since, me = None if self._is_complete else self._since, self._server.server_id
        rows = prepared.statements.fetch(_statement(), now, me, me, ghosts_before, since, me)
        values = {kind: (text, number) for kind, text, number in rows}
        self._since = values["snapshot"][0]
        return _Look(
            is_registered=values["seen"][1] > 0,
            has_neighbours=values["servers"][1] > values["seen"][1],
            older_rows=values["rows"][1],
            last_seqs=[(user_id, last_seq) for kind, user_id, last_seq in rows if kind == "mailbox"],
            unwelcome=[connection_id for kind, connection_id, _ in rows if kind == "unwelcome"],
        )


def _look_by_queries(server_id: UUID, now: datetime, ghosts_before: datetime) -> _Look:
    mine = Connection.objects.filter(server=server_id)
    boxes = Mailbox.objects.filter(user__connections__server=server_id).distinct()
    return _Look(
        is_registered=ServerProcess.objects.filter(pk=server_id).update(seen_at=now) > 0,
        has_neighbours=ServerProcess.objects.exclude(pk=server_id).exists(),
        older_rows=mine.filter(connected_at__lt=ghosts_before).count(),
        last_seqs=list(boxes.values_list("user_id", "last_seq")),
        unwelcome=list(_no_longer_allowed(mine).values_list("pk", flat=True)),
    )


@cache
def _statement() -> str:
    no_longer_allowed = _no_longer_allowed(Connection.objects.filter(server=UUID(int=0))).order_by()
    unwelcome, _ = no_longer_allowed.values("connection_id").query.sql_with_params()
    return f"""
    WITH
    -- This server lives.
    seen AS (
      UPDATE realtime_serverprocess SET seen_at = %s::timestamptz WHERE server_id = %s RETURNING server_id
    ),
    mine AS MATERIALIZED (
      SELECT user_id, connected_at FROM realtime_connection WHERE server_id = %s
    )
    SELECT 'seen' AS kind, NULL AS text, count(*) AS number FROM seen
    UNION ALL SELECT 'servers', NULL, count(*) FROM realtime_serverprocess
    UNION ALL SELECT 'rows', NULL, count(*) FROM mine WHERE connected_at < %s::timestamptz
    -- What a transaction before this one did was seen by this look.
    UNION ALL SELECT 'snapshot', pg_snapshot_xmin(pg_current_snapshot())::xid::text, NULL
    UNION ALL
    SELECT 'mailbox', box.user_id, box.last_seq
    FROM (SELECT DISTINCT user_id FROM mine) person
    JOIN realtime_mailbox box USING (user_id), (SELECT %s::xid AS since) last_look
    WHERE since IS NULL OR age(box.xmin) <= age(since)
    UNION ALL SELECT 'unwelcome', connection_id, NULL FROM ({unwelcome}) no_longer_allowed
    """


def _delete_ghosts(rows: QuerySet[Connection], connections: list[Connection]) -> None:
    """Delete rows of connections that are not here: their departure was not recorded.

    `expire_dead_servers` takes their users for absent.
    """
    living = {connection.pk for connection in connections}
    if ghosts := set(rows.values_list("pk", flat=True)) - living:
        Connection.objects.filter(pk__in=ghosts).delete()


def _no_longer_allowed(connections: QuerySet[Connection]) -> QuerySet[Connection]:
    hospital_now = Coalesce("user__hospital_id", "hospital")
    return connections.alias(hospital_now=hospital_now).filter(
        Q(session__revoked_at__isnull=False)
        | Q(session=None, user__signed_out_at__gt=F("connected_at"))
        | Q(user__is_active=False)
        | ~Q(user__rights_version=F("rights_version"))
        | ~Q(user__role=F("role"))
        | ~Q(hospital_now=F("hospital"))
    )


def _why_not(connection: Connection) -> errors.Refusal:
    if not connection.user.is_active:
        return errors.AccountDisabled()
    if connection.is_signed_out:
        return errors.SessionRevoked()
    user = connection.user
    if (user.role, user.hospital_id or connection.hospital) != (connection.role, connection.hospital):
        message, reason = "Role or hospital of this account has changed.", "identityMismatch"
    else:
        message, reason = "The rights of this account have changed.", "expired"
    return errors.AuthenticationFailed(message, reason=reason)
