"""Check everything HPlus needs, and tell what to do about what is missing."""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from hplus.operations.doctor.configuration import examine_settings
from hplus.operations.doctor.database import examine_database
from hplus.operations.doctor.findings import TIMEOUT_SECONDS, Examination, Finding
from hplus.operations.doctor.layer import examine_layer

EXAMINATIONS = {"settings": examine_settings, "database": examine_database, "layer": examine_layer}


class Command(BaseCommand):
    help = "Check the database, the channel layer and the settings, and tell what to do."
    requires_system_checks: list[str] = []  # runs also where a system check fails

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="for scripts")

    def handle(self, *args: Any, **options: Any) -> None:
        findings = examine_everything()
        if options["json"]:
            self.stdout.write(json.dumps([asdict(finding) for finding in findings]))
        else:
            self._print(findings)
        if bad := sum(finding.status == "wrong" for finding in findings):
            raise CommandError(f"{bad} of {len(findings)} things are wrong.")

    def _print(self, findings: list[Finding]) -> None:
        style = {"ok": self.style.SUCCESS, "warning": self.style.WARNING, "wrong": self.style.ERROR}
        width = max(len(finding.check) for finding in findings)
        for finding in findings:
            status = style[finding.status](f"{finding.status:<8}")
            self.stdout.write(f"{status} {finding.check:<{width}}  {finding.message}")
        self.stdout.flush()


def examine_everything() -> list[Finding]:
    """Return all findings, within TIMEOUT_SECONDS."""
    until = time.monotonic() + TIMEOUT_SECONDS
    examinations = [Examination(name, examine) for name, examine in EXAMINATIONS.items()]
    for examination in examinations:
        examination.start()
    return [finding for examination in examinations for finding in examination.findings(until)]
