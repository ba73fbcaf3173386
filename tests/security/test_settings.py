"""A wrong value stops the start with a sentence that names it, and tells no secret."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.ledger import note
from tests.servers import ROOT

PRODUCTION = {
    "DEBUG": "0",
    "HPLUS_DEMO": "0",
    "SECRET_KEY": "3xq8Zr5vKd0LwTn7YbGh2sPfJm9cUa4eRi6oQy1t3xq8Zr5vKd0L",
    "ALLOWED_HOSTS": "hplus.example",
    "DATABASE_URL": "postgres://hplus@127.0.0.1/hplus",
    "REDIS_URL": "redis://127.0.0.1/0",
    "TURN_URLS": "turn:turn.example:3478",
    "TURN_SECRET": "s3cret",
}
WRONG = [
    ("DEBUG", "perhaps"),
    ("PORT", "http"),
    ("PORT", "0"),
    ("PORT", "70000"),
    ("SECRET_KEY", ""),
    ("ALLOWED_HOSTS", ""),
    ("ALLOWED_HOSTS", "https://hplus.example"),
    ("DATABASE_URL", "mysql://hplus:s3cret@host/name"),
    ("DATABASE_URL", "hplus:s3cret"),
    ("DATABASE_URL", "postgres://hplus:s3cret@host:port/name"),
    ("REDIS_URL", "http://:s3cret@host"),
    ("REDIS_URL", "redis://:s3cret@host:port/0"),
    ("HPLUS_DEMO", "2"),
    ("HPLUS_DEMO", "1"),
    ("HPLUS_MESSAGES_PER_MINUTE", "many"),
    ("HPLUS_MESSAGES_PER_MINUTE", "-1"),
    ("HPLUS_MAX_SOCKETS_PER_USER", "1.5"),
    ("HPLUS_MAX_SOCKETS_PER_IP", "none"),
    ("HPLUS_ESCALATION_SECONDS", "critical"),
    ("HPLUS_ESCALATION_SECONDS", "critical=30,high=60"),
    ("HPLUS_ESCALATION_SECONDS", "critical=soon,high=60,medium=120,low=300"),
    ("HPLUS_RING_SECONDS", "-5"),
    ("HPLUS_WORKER_INSIDE", "maybe"),
    ("TURN_URLS", "https://turn.example"),
    ("TURN_SECRET", ""),
    ("MAP_TILE_URL", "tiles"),
]


def start(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "import hplus.settings"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **PRODUCTION, **environment},
        capture_output=True,
        text=True,
    )


def test_the_right_values_start() -> None:
    ended = start(MAP_TILE_URL="https://t.example/{z}/{x}/{y}.png")
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_value_is_named(name: str, value: str) -> None:
    ended = start(**{name: value})
    note("wrong settings", let_in=int(ended.returncode == 0))
    assert ended.returncode == 1, "it started"
    sentence = ended.stderr.strip().splitlines()[-1]
    assert "ImproperlyConfigured" in sentence
    assert name in sentence
    assert "s3cret" not in ended.stderr
