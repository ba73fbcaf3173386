"""Run the periodic jobs."""

from __future__ import annotations

import signal
from typing import Any

from django.core.management.base import BaseCommand

from hplus.operations.readiness import refuse_unless_ready, schema_fault
from hplus.realtime.scheduler import Worker
from hplus.routing import JOBS


class Command(BaseCommand):
    help = "Run the periodic jobs (presence, escalation, ringing, retention, ...). Several may run."

    def handle(self, *args: Any, **options: Any) -> None:
        refuse_unless_ready(schema_fault)
        worker = Worker(JOBS)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: worker.stop())
        names = ", ".join(job.function.__name__ for job in JOBS)
        self.stdout.write(f"The worker runs: {names}. Ctrl-C stops it.")
        self.stdout.flush()
        worker.run()
