"""One process of `serve --workers`; started by `serve`, not by people."""

from __future__ import annotations

import socket
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from hplus.operations.serving import serve


class Command(BaseCommand):
    help = "One process of `serve --workers`, on a socket it inherits."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file_number", type=int)

    def handle(self, *args: Any, **options: Any) -> None:
        serve(socket.socket(fileno=options["file_number"]))
