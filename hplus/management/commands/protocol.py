"""Write the published protocol from the message classes, or check that the files are current."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from hplus.protocol.asyncapi import as_asyncapi, as_yaml
from hplus.protocol.document import as_markdown


class Command(BaseCommand):
    help = "Write the protocol to docs/: protocol.md for people, asyncapi.yaml for machines."

    def add_arguments(self, parser: ArgumentParser) -> None:
        instead = parser.add_mutually_exclusive_group()
        instead.add_argument("--check", action="store_true", help="only tell whether both files are current")
        instead.add_argument("--json", action="store_true", help="print the AsyncAPI document as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["json"]:
            self.stdout.write(json.dumps(as_asyncapi(), indent=2, ensure_ascii=False))
        elif options["check"]:
            self._check()
        else:
            self._write()

    def _check(self) -> None:
        stale = [_shown(path) for path in _stale(documents())]
        if stale:
            verb = "is" if len(stale) == 1 else "are"
            raise CommandError(f"{' and '.join(stale)} {verb} not current: run `manage.py protocol`.")
        self.stdout.write("The protocol in docs/ is current.")

    def _write(self) -> None:
        written = documents()
        stale = _stale(written)
        for path in stale:
            path.parent.mkdir(exist_ok=True)
            path.write_text(written[path], encoding="utf-8", newline="\n")
            self.stdout.write(f"Wrote {_shown(path)}.")
        if not stale:
            self.stdout.write("The protocol in docs/ was current already.")


def documents() -> dict[Path, str]:
    """Return each file with the content it should have."""
    docs = settings.BASE_DIR / "docs"
    return {docs / "protocol.md": as_markdown(), docs / "asyncapi.yaml": as_yaml()}


def _stale(wanted: dict[Path, str]) -> list[Path]:
    return [path for path, text in wanted.items() if not path.is_file() or _read(path) != text]


def _read(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "replace")


def _shown(path: Path) -> str:
    return str(path.relative_to(settings.BASE_DIR))
