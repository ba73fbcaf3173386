"""What Prometheus reads of a server."""

from __future__ import annotations

import httpx

from tests.servers import ThreadServer
from tests.waiting import PATIENCE_SECONDS


def figures(server: ThreadServer) -> dict[str, float]:
    lines = httpx.get(f"{server.url}/metrics", timeout=PATIENCE_SECONDS).text.splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line[:1] != "#"}


async def test_sockets_frames_and_refusals_are_counted(server: ThreadServer) -> None:
    before = figures(server)
    async with server.phone("patient_123", "patient") as phone:
        await phone.ask("joinHospital", hospitalId="hospital_001")
        await phone.ask("joinHospital", hospitalId="nowhere")
        now = figures(server)
    grown = {name: value - before.get(name, 0) for name, value in now.items()}
    assert now["hplus_connections"] == 1
    assert grown['hplus_frames_in_total{type="joinHospital"}'] == 2
    assert grown['hplus_refusals_total{code="HOSPITAL_NOT_FOUND"}'] == 1
    assert grown["hplus_action_seconds_count"] == 2
    assert grown["hplus_frames_out_total"] >= 4
