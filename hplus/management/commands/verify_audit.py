"""Verify that nobody has changed, removed or inserted a row of the audit."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand

from hplus.audit.actions import verify


class Command(BaseCommand):
    help = "Check the audit's chain of hashes; exit 1 where a row was changed, removed or inserted."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="for scripts")

    def handle(self, *args: Any, **options: Any) -> None:
        head, faults = verify()
        if options["json"]:
            report = {"rows": head.count, "head": head.digest, "faults": [asdict(fault) for fault in faults]}
            self.stdout.write(json.dumps(report))
        else:
            for fault in faults:
                self.stdout.write(self.style.ERROR(f"row {fault.number}: {fault.what}"))
            verdict = f"{len(faults)} faults" if faults else "The audit is whole"
            self.stdout.write(f"{verdict}: {head.count} rows, ends with {head.digest}")
        if faults:
            sys.exit(1)
