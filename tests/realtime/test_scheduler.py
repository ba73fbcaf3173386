"""What must happen on time does not wait for other houses."""

from __future__ import annotations

import threading

from hplus.realtime.scheduler import PeriodicJob, Worker
from tests.waiting import PATIENCE_SECONDS


def test_job_with_own_thread_does_not_delay_the_others() -> None:
    is_free, was_done = threading.Event(), threading.Event()

    def wait_for_a_push_service() -> int:
        is_free.wait(PATIENCE_SECONDS)
        return 0

    def escalate() -> int:
        was_done.set()
        return 1

    worker = Worker([PeriodicJob(wait_for_a_push_service, 1, own_thread=True), PeriodicJob(escalate, 1)])
    worker.start()
    try:
        assert was_done.wait(PATIENCE_SECONDS / 2)
    finally:
        is_free.set()
        worker.stop()
