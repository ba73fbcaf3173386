"""Coming and going for a long time leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import random
import time
from dataclasses import dataclass

import psutil
import pytest
import redis

from tests.fault_report import note
from tests.faults.deployment import Deployment
from tests.faults.reconnecting_client import HOSPITAL
from tests.servers import ProcessServer
from tests.waiting import until

pytestmark = pytest.mark.faults
SOAK_SECONDS = int(os.environ.get("SOAK_SECONDS", "5"))
WARM_SECONDS = 30
MIB = 1024 * 1024


@dataclass
class Usage:
    rss_bytes: int
    files: int
    sessions: int
    keys: int
    connections: int

    def __str__(self) -> str:
        return (
            f"{self.rss_bytes / MIB:.0f} MiB, {self.files} files, {self.sessions} sessions, {self.keys} keys"
        )

    @classmethod
    def of(cls, deployment: Deployment, server: ProcessServer) -> Usage:
        process = psutil.Process(server.process.pid)
        [(sessions,)] = deployment.query(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
        )
        [(connections,)] = deployment.query("SELECT count(*) FROM realtime_connection")
        with redis.Redis.from_url(deployment.redis.url) as client:
            keys = int(client.dbsize())
        return cls(process.memory_info().rss, process.num_fds(), sessions, keys, connections)


async def test_memory_files_sessions_and_redis_keys_stay_bounded(deployment: Deployment) -> None:
    [server] = deployment.serve()
    sent = await _churn(server, min(SOAK_SECONDS / 2, WARM_SECONDS))  # pools are filled, modules loaded
    before = Usage.of(deployment, server)
    sent += await _churn(server, SOAK_SECONDS)
    await until(lambda: not Usage.of(deployment, server).connections)
    after = Usage.of(deployment, server)
    [(stored,)] = deployment.query("SELECT count(*) FROM chat_message WHERE sender_id LIKE 'soak.%%'")
    remark = f"{sent} messages; {before} -> {after}"
    note(
        "soak with churn (seconds)",
        rounds=SOAK_SECONDS,
        lost=max(0, sent - stored),
        duplicated=max(0, stored - sent),
        remark=remark,
    )
    assert stored == sent > 0
    assert after.files <= before.files + 5
    assert after.sessions <= before.sessions + 2
    assert after.keys == before.keys == 0
    assert after.rss_bytes < before.rss_bytes + 30 * MIB, remark


async def _churn(server: ProcessServer, seconds: float) -> int:
    """Eight who come, say something and go, or vanish; how many messages were acknowledged."""
    until = time.monotonic() + seconds

    async def visit(number: int) -> int:
        sent = 0
        while time.monotonic() < until:
            async with server.phone(f"soak.{number}", "patient") as phone:
                room = {"receiverId": "doctor_123", "hospitalId": HOSPITAL}
                await phone.send("joinChatRoom", **room)
                for _ in range(3):
                    answer = await phone.ask("sendMessage", **room, message="still here")
                    assert answer["type"] == "ack", answer
                    sent += 1
                await phone.send("typing", **room, isTyping=True)
                if random.random() < 0.3:
                    await phone.vanish()
        return sent

    return sum(await asyncio.gather(*(visit(number) for number in range(8))))
