"""What travels between servers is opened once, by whoever has the key, on the channel it was sealed for."""

from __future__ import annotations

import logging

import pytest
from prometheus_client import REGISTRY

from hplus.realtime import sealing
from hplus.realtime.sealing import WINDOW, Alarm, Dropped, Opener, Seal

CHANNEL, MESSAGE = b"hplus:1:persons", b"an envelope"
OLD, NEW = "the old key" * 5, "the new key" * 5


class Clock:
    """In the place of `time` of the module."""

    def __init__(self) -> None:
        self.at = 1_000_000.0

    def time(self) -> float:
        return self.at

    monotonic = time


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(sealing, "time", clock)
    return clock


def reason_of(opener: Opener, sealed: bytes, channel: bytes = CHANNEL) -> str:
    with pytest.raises(Dropped) as dropped:
        opener.open(channel, sealed)
    return str(dropped.value)


def test_message_is_opened_once_and_hides_its_text() -> None:
    sealed, opener = Seal(OLD).seal(CHANNEL, MESSAGE), Opener([OLD])
    assert MESSAGE not in sealed
    assert opener.open(CHANNEL, sealed) == MESSAGE
    assert reason_of(opener, sealed) == "repeated"


def test_any_changed_byte_another_channel_and_another_key_are_forged() -> None:
    sealed, opener = Seal(OLD).seal(CHANNEL, MESSAGE), Opener([OLD])
    for place in range(len(sealed)):
        changed = bytes([*sealed[:place], sealed[place] ^ 1, *sealed[place + 1 :]])
        assert reason_of(opener, changed) == "forged"
    assert reason_of(opener, sealed, b"hplus:1:hospital") == "forged"
    assert reason_of(Opener([NEW]), sealed) == "forged"
    assert {reason_of(opener, sealed[:length]) for length in range(len(sealed))} == {"forged"}
    assert opener.open(CHANNEL, sealed) == MESSAGE


def test_both_keys_are_taken_while_the_key_is_changed() -> None:
    before, after = Opener([OLD, NEW]), Opener([NEW, OLD])
    for opener in (before, after):
        for secret in (OLD, NEW):
            assert opener.open(CHANNEL, Seal(secret).seal(CHANNEL, MESSAGE)) == MESSAGE


def test_late_messages_of_the_window_are_taken_once_and_older_ones_never() -> None:
    seal, opener = Seal(OLD), Opener([OLD])
    before, first, *later = [seal.seal(CHANNEL, MESSAGE) for _ in range(WINDOW + 3)]
    assert opener.open(CHANNEL, first) == MESSAGE
    assert reason_of(opener, before) == "repeated", "it may have been taken before this server started"
    for sealed in reversed(later[: WINDOW - 1]):
        assert opener.open(CHANNEL, sealed) == MESSAGE
    assert {reason_of(opener, sealed) for sealed in later[: WINDOW - 1]} == {"repeated"}
    skipped, last = later[-2:]
    for _ in range(WINDOW):
        last = seal.seal(CHANNEL, MESSAGE)
    assert opener.open(CHANNEL, last) == MESSAGE
    assert reason_of(opener, skipped) == "repeated"


@pytest.mark.parametrize("seconds", [sealing.FRESH_SECONDS + 1, -sealing.FRESH_SECONDS - 1])
def test_message_of_another_time_is_stale(clock: Clock, seconds: float) -> None:
    sealed, opener = Seal(OLD).seal(CHANNEL, MESSAGE), Opener([OLD])
    clock.at += seconds
    assert reason_of(opener, sealed) == "stale"
    clock.at -= seconds
    assert opener.open(CHANNEL, sealed) == MESSAGE


def test_message_from_before_the_start_of_the_receiver_is_stale(clock: Clock) -> None:
    """It may have been taken already, which a server that has just started does not know."""
    seal = Seal(OLD)
    before = seal.seal(CHANNEL, MESSAGE)
    clock.at += sealing.SKEW_SECONDS + 1
    opener = Opener([OLD])
    assert reason_of(opener, before) == "stale"
    assert opener.open(CHANNEL, seal.seal(CHANNEL, MESSAGE)) == MESSAGE


def test_opener_remembers_a_bounded_number_of_senders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "MOST_SENDERS", 3)
    opener = Opener([OLD])
    for _ in range(10):
        opener.open(CHANNEL, Seal(OLD).seal(CHANNEL, MESSAGE))
    assert len(opener._senders) == 3


@pytest.mark.django_db  # all metrics are collected, those of jobs from their rows
def test_alarm_is_in_the_log_once_a_minute_and_always_counted(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    def counted() -> float:
        return REGISTRY.get_sample_value("hplus_layer_dropped_total", {"reason": "forged"}) or 0.0

    alarm, before = Alarm(), counted()
    assert not alarm.is_recent
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            alarm.note("forged")
        clock.at += sealing.LOG_SECONDS
        alarm.note("forged")
    assert [record.getMessage().split(" of Redis")[0] for record in caplog.records] == [
        "1 messages",
        "3 messages",
    ]
    assert counted() == before + 4
    assert alarm.is_recent
    clock.at += sealing.WARN_SECONDS
    assert not alarm.is_recent
