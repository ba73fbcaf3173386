"""Reconciliation: every two seconds a server compares itself with the database, which is the truth."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import F, Q, QuerySet
from django.db.models.functions import Coalesce
from django.utils import timezone

from hplus import errors
from hplus.accounts.admin_sessions import signed_in
from hplus.accounts.models import User
from hplus.realtime.hub.listener import Listener
from hplus.realtime.hub.server_registration import ServerRegistration
from hplus.realtime.models import Connection, Mailbox, ServerProcess

GHOST_AFTER_SECONDS = 10  # a handshake is over by then, one way or the other


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
            return errors.AuthenticationFailed("The token has expired.")
        return self.expelled.get(client.connection_id) or self._signed_out(client)

    def _signed_out(self, client: Listener) -> errors.Refusal | None:
        """Signed out of the admin site, or no longer the superuser that opened this connection."""
        key = client.admin_session_key
        user = self.admin_users.get(key)
        is_same = user is not None and user.is_superuser == client.user.is_superuser
        return errors.SessionRevoked() if key and not is_same else None


def reconcile(
    server: ServerRegistration, connections: list[Connection], admin_session_keys: set[str]
) -> Findings:
    """Read the database: four queries for any number of connections, two more for pages of the admin site."""
    server.register()
    was_taken_for_dead = server.heartbeat(connections)
    mine = Connection.objects.filter(server=server.server_id)
    _delete_ghosts(mine, connections)
    boxes = Mailbox.objects.filter(user__connections__server=server.server_id).distinct()
    expelled = {connection.pk: _why_not(connection) for connection in _no_longer_allowed(mine)}
    last_seqs = list(boxes.values_list("user_id", "last_seq"))
    has_neighbours = ServerProcess.objects.exclude(pk=server.server_id).exists()
    return Findings(
        was_taken_for_dead, has_neighbours, last_seqs, expelled, signed_in(admin_session_keys), timezone.now()
    )


def _delete_ghosts(mine: QuerySet[Connection], connections: list[Connection]) -> None:
    """Delete rows of connections that are not here: their departure was not recorded.

    `expire_dead_servers` takes their users for absent.
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
