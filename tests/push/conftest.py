from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytest_django.fixtures import Settings

from hplus.accounts.models import Session, User
from hplus.push import actions, senders
from hplus.push.models import PushDevice
from tests.push import drawer, fcm


@pytest.fixture
def push_drawer(settings: Settings) -> list[tuple[str, dict[str, str]]]:
    """The test's sender: (token, content) of everything sent."""
    settings.HPLUS_PUSH_BACKEND = "tests.push.drawer.Drawer"
    drawer.sent.clear()
    drawer.is_open.set()
    drawer.is_waiting.clear()
    return drawer.sent


@pytest.fixture
def fake_fcm(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[fcm.Fcm]:
    settings.HPLUS_PUSH_BACKEND = "hplus.push.senders.FcmPush"
    senders._sender.cache_clear()
    with fcm.running(tmp_path, monkeypatch) as service:
        yield service
    senders._sender.cache_clear()


@pytest.fixture
def device(people: dict[str, User]) -> Callable[..., PushDevice]:
    """A device of somebody, as a login leaves it."""

    def register(user_id: str, token: str, device_id: str = "") -> PushDevice:
        session = Session.objects.create(user=people[user_id], device_id=device_id)
        actions.register(session, token, platform="android")
        return PushDevice.objects.get(token=token)

    return register
