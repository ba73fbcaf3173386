"""Guessing passwords is slowed down by account, address and network, and locks no colleague out."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from prometheus_client import REGISTRY

from hplus.accounts import login_throttle
from hplus.accounts.models import FailedSignIns
from hplus.api import throttling
from hplus.audit.models import Record, Verb
from hplus.management.commands.seed_demo import PASSWORD, seed_people
from tests.fault_report import note

HERE, ELSEWHERE = "198.51.100.1", "203.0.113.2"
FREE = login_throttle.FREE_FAILURES


class Clock:
    """In the place of `timezone` in the throttle: time passes when a test says so."""

    def __init__(self) -> None:
        self.at = timezone.now()

    def now(self) -> datetime:
        return self.at


@pytest.fixture(autouse=True)
def clock(db: None, monkeypatch: pytest.MonkeyPatch) -> Clock:
    seed_people()
    for limit in ("SIGN_INS_BURST", "SIGN_INS_OF_ONE_BURST"):  # those in front of this one
        monkeypatch.setattr(throttling, limit, 10_000)
    throttling.forget()
    stopped = Clock()
    monkeypatch.setattr(login_throttle, "timezone", stopped)
    return stopped


def ask(
    password: str, user_id: str = "doctor_123", address: str = HERE, device: str = ""
) -> tuple[int, dict[str, Any]]:
    response = Client(REMOTE_ADDR=address).post(
        "/api/auth/token/",
        {"userId": user_id, "password": password, "deviceId": device},
        "application/json",
    )
    return response.status_code, {"Retry-After": response.headers.get("Retry-After"), **response.json()}


def enter(browser: Client, password: str, user_id: str = "admin_001") -> Any:
    return browser.post("/admin/login/", {"username": user_id, "password": password})


def address(number: int) -> str:
    return f"192.0.{number // 200}.{1 + number % 200}"


def test_account_waits_longer_with_each_failure_from_wherever_it_is_guessed(clock: Clock) -> None:
    assert [ask("wrong", address=address(200 * n))[0] for n in range(FREE)] == [401] * FREE
    waits = []
    for number in range(12):
        status, said = ask("wrong", address=address(200 * (FREE + number)))
        assert (status, said["code"]) == (429, "RATE_LIMITED")
        assert int(said["Retry-After"]) >= said["retryAfter"]
        waits.append(said["retryAfter"])
        clock.at += timedelta(seconds=said["retryAfter"])
        assert ask("wrong", address=address(200 * (FREE + number)))[0] == 401
    assert waits == sorted(waits)
    assert waits[-1] > 100 * waits[0]
    assert max(waits) <= login_throttle.MOST_WAIT_SECONDS
    assert ask(PASSWORD, address=ELSEWHERE)[0] == 429  # a stranger's device waits even with the password
    clock.at += timedelta(seconds=login_throttle.MOST_WAIT_SECONDS)
    assert ask(PASSWORD, address=ELSEWHERE)[0] == 200
    assert ask("wrong", address=ELSEWHERE)[0] == 401  # and the count begins anew


def test_forty_addresses_on_one_account_are_held_up() -> None:
    answered = [ask("wrong", address=address(200 * n))[0] for n in range(40)].count(401)
    note("guesses of one account from 40 addresses", rounds=40, let_in=max(0, answered - FREE))
    assert answered == FREE


def test_known_device_is_never_locked_out() -> None:
    """A colleague behind the same address, or anybody else, guesses as much as they like."""
    assert ask(PASSWORD, device="phone-7f3a")[0] == 200
    for _ in range(60):
        ask("wrong")
    for number in range(40):
        ask("wrong", user_id=f"nobody.{number}")
    assert ask(PASSWORD)[0] == 429
    assert ask(PASSWORD, device="phone-unknown")[0] == 429
    assert ask(PASSWORD, device="phone-7f3a")[0] == 200
    # It waits for its own failures.
    assert [ask("wrong", device="phone-7f3a")[0] for _ in range(FREE)] == [401] * FREE
    assert ask(PASSWORD, device="phone-7f3a")[0] == 429
    assert ask(PASSWORD, user_id="nurse_001", device="phone-7f3a", address=ELSEWHERE)[0] == 200


def test_one_address_against_many_accounts_has_a_budget(clock: Clock) -> None:
    answered = [ask("wrong", user_id=f"nobody.{n}")[0] for n in range(150)].count(401)
    note("guesses of 150 accounts from one address", rounds=150, let_in=max(0, answered - 31))
    assert answered in (30, 31)
    assert ask(PASSWORD, user_id="nurse_001")[0] == 429
    assert ask(PASSWORD, user_id="nurse_001", address=ELSEWHERE)[0] == 200
    clock.at += timedelta(seconds=60)
    assert ask(PASSWORD, user_id="nurse_001")[0] == 200


@pytest.mark.parametrize(
    ("of_the_network", "most"), [("2001:db8:1:2::{0:x}", 31), ("198.51.100.{0}", 61)], ids=["/64", "/24"]
)
def test_one_network_has_a_budget(of_the_network: str, most: int) -> None:
    answered = [ask("wrong", f"nobody.{n}", of_the_network.format(n))[0] for n in range(1, 100)].count(401)
    note("guesses from all addresses of one network", rounds=100, let_in=max(0, answered - most))
    assert answered <= most
    assert ask(PASSWORD, address=of_the_network.format(200))[0] == 429
    assert ask(PASSWORD, address="2001:db8:1:3::1")[0] == 200


def test_right_passwords_use_no_budget() -> None:
    assert {ask(PASSWORD, user_id="nurse_001")[0] for _ in range(80)} == {200}


def test_message_limit_of_zero_leaves_the_throttle_on(settings: Any) -> None:
    settings.HPLUS_MESSAGES_PER_MINUTE = 0
    assert [ask("wrong")[0] for _ in range(FREE + 1)] == [401] * FREE + [429]


def test_admin_site_and_api_share_the_count_and_the_page_says_how_long() -> None:
    for _ in range(FREE + 3):
        assert enter(Client(REMOTE_ADDR=HERE), "wrong").status_code == 200
    said = enter(Client(REMOTE_ADDR=HERE), PASSWORD)
    assert "Too many attempts. Please try again in" in said.content.decode()
    assert ask(PASSWORD, user_id="admin_001", address=ELSEWHERE)[0] == 429


def test_known_browser_enters_the_admin_site_while_others_guess() -> None:
    known = Client(REMOTE_ADDR=HERE)
    assert enter(known, PASSWORD).status_code == 302
    known.cookies.pop("sessionid")
    for _ in range(FREE):
        enter(Client(REMOTE_ADDR=HERE), "wrong")
    assert enter(Client(REMOTE_ADDR=HERE), PASSWORD).status_code == 200
    # The cookie is one person's, and signed.
    [name] = [name for name in known.cookies if name.startswith("hplus_known_")]
    forged = Client(REMOTE_ADDR=HERE)
    forged.cookies[name] = known.cookies[name].value[:-2] + "xx"
    assert enter(forged, PASSWORD).status_code == 200
    assert known.cookies[name]["httponly"]
    assert enter(known, PASSWORD).status_code == 302


def test_failures_and_lockouts_are_in_the_audit_and_in_the_metrics(clock: Clock) -> None:
    def counted(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, labels) or 0.0

    failed, refused = (
        counted("hplus_sign_ins_total", outcome="failed"),
        counted("hplus_sign_ins_total", outcome="refused"),
    )
    for _ in range(14):
        assert ask("wrong", device="a phone")[0] == 401
        clock.at += timedelta(seconds=130)
    ask("my secret password", user_id="my secret password", address=ELSEWHERE)
    failures = Record.objects.filter(verb=Verb.LOGIN_FAILED, object_id="doctor_123")
    assert counted("hplus_sign_ins_total", outcome="failed") - failed == failures.count() + 1
    assert failures[0].hospital_id == "hospital_001"
    assert failures[0].details == {"where": "API", "address": HERE, "is_known_device": False}
    lockout = Record.objects.filter(verb=Verb.LOCKOUT, object_id="doctor_123").first()
    assert lockout is not None
    assert lockout.details["of"] == "account"
    assert lockout.details["seconds"] >= login_throttle.LOCKED_OUT_SECONDS
    assert counted("hplus_sign_in_lockouts_total", of="account") >= 1
    assert counted("hplus_sign_ins_total", outcome="refused") >= refused
    # What is typed into the wrong field is written nowhere.
    assert not [row for row in Record.objects.all() if "secret" in f"{row.object_id}{row.details}"]


def test_forgotten_failures_are_deleted(clock: Clock) -> None:
    ask("wrong")
    assert login_throttle.delete_forgotten() == 0
    clock.at += timedelta(days=1)
    assert login_throttle.delete_forgotten() == 3
    assert not FailedSignIns.objects.exists()
