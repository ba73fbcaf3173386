"""Play whole emergencies against a running server, like a fire drill."""

from __future__ import annotations

import asyncio
import json
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm
from websockets.exceptions import WebSocketException

from emergency.drill import Drill, PlayedEmergency, Player, Refused
from emergency.response_times import percentile
from hplus.accounts.models import Hospital, Session, Token, TokenKind, User

HOSPITAL = "drill_hospital"
STEPS = {"alert": "to alert", "accept": "to accept", "scene": "to scene"}


class Command(BaseCommand):
    help = (
        "Play whole emergencies with simulated patients and crews over real sockets, in a hospital of their "
        "own. Ends with response-time percentiles, and with exit code 1 where anything was lost."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--url", default=f"ws://localhost:{settings.PORT}", help="default: %(default)s")
        parser.add_argument("--emergencies", type=int, default=50, help="default: %(default)s")
        parser.add_argument("--patients", type=int, default=10, help="default: %(default)s")
        parser.add_argument("--crews", type=int, default=5, help="default: %(default)s")
        parser.add_argument("--patience", type=float, default=30, help="seconds until a frame counts as lost")
        parser.add_argument("--json", action="store_true", help="the result for a script")

    def handle(self, *args: Any, **options: Any) -> None:
        if min(options["emergencies"], options["patients"], options["crews"]) < 1:
            raise CommandError("A drill needs at least one emergency, one patient and one crew.")
        if not options["patience"] > 0:
            raise CommandError("A drill needs some --patience: seconds above 0.")
        patients = players("patient", options["patients"])
        crews = players("paramedic", options["crews"])
        with tqdm(total=options["emergencies"], desc="Emergencies", unit="") as bar:
            drill = Drill(options["url"], options["patience"], bar.update)
            try:
                played = asyncio.run(drill.play(patients, crews, options["emergencies"]))
            except (OSError, TimeoutError, WebSocketException) as failure:
                raise CommandError(
                    f"Nobody answers at {options['url']} ({failure}). Start a server on the same database "
                    "with `make run` or `manage.py serve`, or name another with --url."
                ) from None
            except Refused as refusal:
                raise CommandError(
                    f"The server at {options['url']} lets nobody of the drill in ({refusal}). Run the drill "
                    "with the server's own database and settings."
                ) from None
        self._report(summary(played), options["json"])

    def _report(self, found: dict[str, Any], as_json: bool) -> None:
        self.stdout.write(json.dumps(found) if as_json else table(found))
        if found["lost"]:
            raise CommandError("; ".join(found["lost"][:10]), returncode=1)


def players(role: str, count: int) -> list[Player]:
    """Return so many users of the drill's own hospital, created if missing; demo mode needs no tokens."""
    hospital, _ = Hospital.objects.get_or_create(pk=HOSPITAL, defaults={"name": "Drill"})
    return [_player(role, number, hospital) for number in range(1, count + 1)]


def _player(role: str, number: int, hospital: Hospital) -> Player:
    user_id = f"drill_{role}_{number}"
    user = User.objects.filter(pk=user_id).first() or User.objects.create_user(
        user_id, role=role, hospital=None if role == "patient" else hospital
    )
    return Player(user_id, role, hospital.pk, "" if settings.HPLUS_DEMO else _token(user))


def _token(user: User) -> str:
    session, _ = Session.objects.get_or_create(user=user, device_id="drill", revoked_at=None)
    return Token.issue(session, TokenKind.ACCESS, settings.ACCESS_TOKEN_SECONDS)[0]


def summary(played: list[PlayedEmergency]) -> dict[str, Any]:
    """Return the seconds of each step at the 50th, 90th and 99th percentile, and all that was lost."""
    steps = {}
    for step in STEPS:
        seconds = sorted(each.seconds[step] for each in played if step in each.seconds)
        ranks = {f"p{percent}": percentile(seconds, percent) for percent in (50, 90, 99)}
        steps[step] = {"count": len(seconds), **ranks}
    return {
        "emergencies": len(played),
        "steps": steps,
        "lost": [lost for each in played for lost in each.lost],
    }


def table(found: dict[str, Any]) -> str:
    lines = [f"{'seconds':10}{'count':>8}{'p50':>9}{'p90':>9}{'p99':>9}"]
    for step, name in STEPS.items():
        row = found["steps"][step]
        ranks = "".join("        –" if row[p] is None else f"{row[p]:9.3f}" for p in ("p50", "p90", "p99"))
        lines.append(f"{name:10}{row['count']:8}{ranks}")
    return "\n".join([*lines, f"{found['emergencies']} emergencies, {len(found['lost'])} lost"])
