"""A wrong value stops the start with a sentence that names it, and tells no secret."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import traceback
from collections.abc import Callable
from secrets import token_hex, token_urlsafe

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management.utils import get_random_secret_key

from hplus.settings.environment import SECRET_KEY_PLACEHOLDERS, is_strong_key
from tests.fault_report import note
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
    ("SECRET_KEY", "  "),
    ("SECRET_KEY", "short"),
    ("SECRET_KEY_FALLBACKS", "s3cret"),
    ("SECRET_KEY", "hospital" * 10),
    ("SECRET_KEY", "abcdefghij" * 6),
    ("SECRET_KEY", "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    ("SECRET_KEY", "a-key-for-tests-only" * 3),
    ("SECRET_KEY", "changeme-3xq8Zr5vKd0LwTn7YbGh2sPfJm9cUa4eRi6oQy1t3xq8Zr5vKd0L"),
    ("SECRET_KEY", "my-secret-key-3xq8Zr5vKd0LwTn7YbGh2sPfJm9cUa4eRi6oQy1t3xq8Zr5"),
    ("SECRET_KEY", "insecure-key-for-development-only-and-much-longer-0123456789"),
    ("ALLOWED_HOSTS", ""),
    ("ALLOWED_HOSTS", "https://hplus.example"),
    ("ALLOWED_HOSTS", "hplus.example www.hplus.example"),
    ("ALLOWED_HOSTS", "hplus.example:443"),
    ("DATABASE_URL", "mysql://hplus:s3cret@host/name"),
    ("DATABASE_URL", "hplus:s3cret"),
    ("DATABASE_URL", "postgres://hplus:s3cret@host:port/name"),
    ("DATABASE_URL", "postgres://hplus:s3cret@host"),
    ("DATABASE_URL", "sqlite:///"),
    ("DATABASE_URL", "sqlite:////dev/null/hplus.sqlite3"),
    ("DATABASE_URL", "sqlite:////tmp"),
    ("REDIS_URL", "redis://"),
    ("REDIS_URL", "redis://:s3cret@host/first"),
    ("REDIS_URL", "http://:s3cret@host"),
    ("REDIS_URL", "redis://:s3cret@host:port/0"),
    ("HPLUS_DEMO", "2"),
    ("HPLUS_REQUIRE_TLS", "often"),
    ("HPLUS_DEMO", "1"),
    ("HPLUS_MESSAGES_PER_MINUTE", "many"),
    ("HPLUS_MESSAGES_PER_MINUTE", "-1"),
    ("HPLUS_MAX_SOCKETS_PER_USER", "1.5"),
    ("HPLUS_MAX_SOCKETS_PER_IP", "none"),
    ("HPLUS_ESCALATION_SECONDS", "critical"),
    ("HPLUS_ESCALATION_SECONDS", "critical=30,high=60"),
    ("HPLUS_ESCALATION_SECONDS", "critical=soon,high=60,medium=120,low=300"),
    ("HPLUS_ESCALATION_SECONDS", "critical=0,high=60,medium=120,low=300"),
    ("HPLUS_ESCALATION_SECONDS", "critical=30,high=60,medium=120,low=99999999999999"),
    ("HPLUS_ESCALATION_SECONDS", "critical=30,critical=40,high=60,medium=120,low=300"),
    ("HPLUS_STALL_SECONDS", "acknowledge=60,turnout=120"),
    ("HPLUS_STALL_SECONDS", "acknowledge=60,turnout=0,unreachable=60"),
    ("HPLUS_STALL_SECONDS", "critical=30,high=60,medium=120,low=300"),
    ("HPLUS_RING_SECONDS", "-5"),
    ("HPLUS_RING_SECONDS", "0"),
    ("HPLUS_RING_SECONDS", "99999999999999"),
    ("HPLUS_RETENTION_DAYS", "-1"),
    ("HPLUS_SESSION_HOURS", "720"),
    ("HPLUS_SESSION_HOURS", "patient=720"),
    ("HPLUS_SESSION_HOURS", "patient=720,staff=0"),
    ("HPLUS_SESSION_IDLE_HOURS", "patient=720,staff=24,surgeon=2"),
    ("HPLUS_SESSION_IDLE_HOURS", "patient=720,staff=24,staff=2"),
    ("HPLUS_ADMIN_IDLE_MINUTES", "1"),
    ("HPLUS_RETENTION_DAYS", "99999999999999"),
    ("HPLUS_WORKER_INSIDE", "maybe"),
    ("TURN_URLS", "https://turn.example"),
    ("TURN_SECRET", ""),
    ("TURN_URLS", "turn:"),
    ("MAP_TILE_URL", "tiles"),
    ("MAP_TILE_URL", "https://t.example"),
    ("MAP_TILE_URL", "https:///{z}/{x}/{y}.png"),
]


@pytest.mark.parametrize("make", [lambda: token_hex(25), lambda: token_urlsafe(40), get_random_secret_key])
def test_random_secret_key_is_taken(make: Callable[[], str]) -> None:
    """None of a thousand is taken for a weak one; a placeholder in one of them is as likely as a guess."""
    weak = [key for key in (make() for _ in range(1000)) if not is_strong_key(key)]
    assert [key for key in weak if not any(known in key.lower() for known in SECRET_KEY_PLACEHOLDERS)] == []
    assert len(weak) < 10


def start(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *(command or ("-c", "import hplus.settings"))],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **PRODUCTION, **environment},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    "right",
    [
        {"MAP_TILE_URL": "https://{s}.t.example/{z}/{x}/{y}.png"},
        {"MAP_TILE_URL": "/tiles/{z}/{x}/{y}.png"},
        {"ALLOWED_HOSTS": ".hplus.example, 127.0.0.1, [::1], *"},
        {"DATABASE_URL": "postgres://hplus@%2Frun%2Fpostgresql/hplus", "REDIS_URL": "unix:///run/redis.sock"},
        {"REDIS_URL": "rediss://:s3cret@redis.example:6380/15"},
        {"HPLUS_SESSION_HOURS": "patient=24,staff=12.5,admin=8", "HPLUS_ADMIN_IDLE_MINUTES": "30"},
        {"HPLUS_ESCALATION_SECONDS": "low=9, medium=3, high=2, critical=1", "HPLUS_RING_SECONDS": "1"},
    ],
    ids=lambda right: ",".join(right),
)
def test_valid_settings_start(right: dict[str, str]) -> None:
    ended = start(**right)
    assert ended.returncode == 0, ended.stderr


def test_invalid_setting_ends_the_process_and_is_named() -> None:
    ended = start(PORT="http")
    assert ended.returncode == 1, "it started"
    sentence = ended.stderr.strip().splitlines()[-1]
    assert "ImproperlyConfigured" in sentence
    assert "PORT" in sentence


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_invalid_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """The settings are read anew, in this process: twenty-six starts would take long."""
    for given in set(os.environ) - {"PATH"}:
        monkeypatch.delenv(given)
    for given, right in (PRODUCTION | {name: value}).items():
        monkeypatch.setenv(given, right)
    with pytest.raises(ImproperlyConfigured) as refused:
        runpy.run_path(str(ROOT / "hplus" / "settings" / "__init__.py"))
    said = "".join(traceback.format_exception(refused.value))
    note("wrong settings", let_in=0)
    assert name in str(refused.value)
    assert "s3cret" not in said


@pytest.mark.parametrize(("secret", "is_clean"), [(PRODUCTION["SECRET_KEY"], True), ("short", False)])
def test_django_deployment_check_is_clean(secret: str, is_clean: bool) -> None:
    check = ("manage.py", "check", "--deploy", "--fail-level", "WARNING")
    ended = start(*check, SECRET_KEY=secret)
    assert (ended.returncode == 0) is is_clean, ended.stderr
    if is_clean:
        note("warnings of check --deploy", let_in=ended.returncode)
