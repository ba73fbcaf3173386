"""Who is connected right now, and how to show somebody out."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db.models import QuerySet
from django.utils import timezone

from hplus.accounts.models import Session, User
from hplus.protocol.wire import rfc3339
from hplus.realtime.hub.presence import DEAD_AFTER_SECONDS
from hplus.realtime.models import Connection

COLUMNS = ("user", "role", "hospital", "device", "since", "server", "address")


class Command(BaseCommand):
    help = "List the live sockets, or close those of one user."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--hospital", metavar="ID", help="only those of one hospital")
        parser.add_argument("--json", action="store_true", help="for scripts")
        parser.add_argument("--close", metavar="USER", help="end all sessions of a user, and so the sockets")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["close"] is not None:
            self._close(options["close"], options["json"])
        elif options["json"]:
            self.stdout.write(json.dumps([row(connection) for connection in live(options["hospital"])]))
        else:
            self._list([row(connection) for connection in live(options["hospital"])])

    def _list(self, rows: list[dict[str, str]]) -> None:
        if not rows:
            self.stdout.write("Nobody is connected.")
            return
        for line in table([COLUMNS, *([printable(row[name]) for name in COLUMNS] for row in rows)]):
            self.stdout.write(line)

    def _close(self, user_id: str, as_json: bool) -> None:
        """Raises CommandError where a socket came in without a session, which could be ended."""
        if not User.objects.filter(pk=user_id).exists():
            raise CommandError(f"There is no user {user_id!r}.")
        sockets = live().filter(user=user_id)
        closing, staying = sockets.exclude(session=None).count(), sockets.filter(session=None).count()
        ended = Session.objects.filter(user=user_id).revoke("closed by an operator")
        if as_json:
            said = {"userId": user_id, "sessionsEnded": ended, "closing": closing, "staying": staying}
            self.stdout.write(json.dumps(said))
        else:
            self.stdout.write(f"Sessions ended: {ended}. Sockets that close within seconds: {closing}.")
        if staying:
            raise CommandError(
                f"{staying} of the sockets came in by name alone (demo mode), so there is no session to end. "
                "Deactivate the account in the admin site to close them."
            )


def live(hospital_id: str | None = None) -> QuerySet[Connection]:
    """The sockets of servers that are alive."""
    alive_since = timezone.now() - timedelta(seconds=DEAD_AFTER_SECONDS)
    found = Connection.objects.select_related("server").filter(server__seen_at__gte=alive_since)
    return found if hospital_id is None else found.filter(hospital=hospital_id)


def row(connection: Connection) -> dict[str, str]:
    return {
        "user": connection.user_id,
        "role": connection.role,
        "hospital": connection.hospital,
        "device": connection.device_id,
        "since": rfc3339(connection.connected_at),
        "server": str(connection.server),
        "address": connection.address or "",
    }


def table(rows: Iterable[Iterable[str]]) -> Iterable[str]:
    """Aligned; an empty cell is a dash, so that a line still has all its columns."""
    filled = [[cell or "-" for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*filled, strict=True)]
    for row in filled:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def printable(text: str) -> str:
    """Ids come from phones: what a terminal would obey is shown, not done."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
