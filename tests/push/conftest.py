from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytest_django.fixtures import Settings

from hplus.accounts.models import Session, Token, TokenKind, User
from hplus.push import actions, senders
from hplus.push.models import PushDevice
from tests.push import fcm_server, recording_sender


@pytest.fixture
def sent_pushes(settings: Settings) -> list[tuple[str, dict[str, str]]]:
    """The test's sender: (token, content) of everything sent."""
    settings.HPLUS_PUSH_BACKEND = "tests.push.recording_sender.RecordingSender"
    recording_sender.sent.clear()
    recording_sender.is_open.set()
    recording_sender.is_waiting.clear()
    return recording_sender.sent


@pytest.fixture
def fcm(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[fcm_server.FcmServer]:
    settings.HPLUS_PUSH_BACKEND = "hplus.push.senders.FcmPush"
    senders._sender.cache_clear()
    with fcm_server.running(tmp_path, monkeypatch) as service:
        yield service
    senders._sender.cache_clear()


@pytest.fixture
def device(users: dict[str, User]) -> Callable[..., PushDevice]:
    """A device of somebody, as a login leaves it."""

    def register(user_id: str, token: str, device_id: str = "") -> PushDevice:
        session = Session.objects.create(user=users[user_id], device_id=device_id)
        Token.issue(session, TokenKind.REFRESH, 3600)
        actions.register(session, token, platform="android")
        return PushDevice.objects.get(token=token)

    return register
