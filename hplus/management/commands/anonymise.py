"""Anonymise what is past its retention."""

from __future__ import annotations

import json
from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from hplus.operations import retention

MOST_DAYS = 36_500


def days(text: str) -> int:
    number = int(text)
    if number > MOST_DAYS:
        raise ArgumentTypeError(f"must be at most {MOST_DAYS}")
    return number


class Command(BaseCommand):
    help = (
        "Replace texts, names, positions and attachments older than the retention, except under legal hold."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--days", type=days, default=settings.HPLUS_RETENTION_DAYS, help="instead of HPLUS_RETENTION_DAYS"
        )
        how = parser.add_mutually_exclusive_group()
        how.add_argument("--dry-run", action="store_true", help="only count (what happens without --apply)")
        how.add_argument("--apply", action="store_true", help="do it; it cannot be undone")
        parser.add_argument("--json", action="store_true", help="for scripts")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["days"] <= 0:
            raise CommandError("Everything is kept: set HPLUS_RETENTION_DAYS, or name the --days.")
        before = retention.cutoff(options["days"])
        counts = retention.anonymise(before) if options["apply"] else retention.expired(before)
        if options["json"]:
            self.stdout.write(json.dumps({"applied": options["apply"], **counts}))
            return
        done = "Replaced" if options["apply"] else "Would replace (nothing is changed without --apply)"
        summary = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        self.stdout.write(f"{done}, older than {options['days']} days: {summary}")
