"""List the open connections, or close those of one user."""

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
from hplus.protocol.texts import nfc
from hplus.protocol.wire import rfc3339
from hplus.realtime.hub.presence import DEAD_AFTER_SECONDS
from hplus.realtime.models import Connection

COLUMNS = ("user", "role", "hospital", "device", "since", "server", "address")


class Command(BaseCommand):
    help = "List the open connections, or close those of one user."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--hospital", metavar="ID", help="only those of one hospital")
        parser.add_argument("--json", action="store_true", help="for scripts")
        parser.add_argument(
            "--close", metavar="USER", help="end all sessions of a user, and so the connections"
        )

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
        """End the user's sessions. Raises CommandError where a connection has none that could be ended."""
        user_id = nfc(user_id)
        if not User.objects.filter(pk=user_id).exists():
            raise CommandError(f"There is no user {user_id!r}.")
        open_now = live().filter(user=user_id)
        closing, staying = open_now.exclude(session=None).count(), open_now.filter(session=None).count()
        ended = Session.objects.filter(user=user_id).revoke("closed by an operator")
        if as_json:
            report = {"userId": user_id, "sessionsEnded": ended, "closing": closing, "staying": staying}
            self.stdout.write(json.dumps(report))
        else:
            self.stdout.write(f"Sessions ended: {ended}. Connections that close within seconds: {closing}.")
        if staying:
            raise CommandError(
                f"{staying} of the connections cannot be closed: demo mode opened them without a session. "
                "Deactivate the account in the admin site to close them."
            )


def live(hospital_id: str | None = None) -> QuerySet[Connection]:
    """Return the connections of servers that are alive."""
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
    """Align the columns; an empty cell becomes a dash, so that each line keeps all columns."""
    filled = [[cell or "-" for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*filled, strict=True)]
    for row in filled:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def printable(text: str) -> str:
    """Escape control characters: ids come from clients, and a terminal would execute them."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
