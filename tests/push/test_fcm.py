"""Firebase Cloud Messaging, by Google's own library, to a push service of the test's own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from pytest_django.fixtures import Settings

from hplus.notifications.actions import notify
from hplus.push.actions import send_due_pushes
from hplus.push.models import PushDevice, PushOutbox
from hplus.push.senders import current_sender
from tests.fault_report import note
from tests.push import fcm_server

NOTICE = {"category": "emergencyEscalated", "title": "Ward 3", "body": "Pat Meadow has chest pain"}
Device = Callable[..., PushDevice]


def states() -> list[tuple[str, int, str]]:
    return list(PushOutbox.objects.order_by("pk").values_list("state", "attempts", "last_error"))


def test_push_carries_ids_and_category_and_no_content(fcm: fcm_server.FcmServer, device: Device) -> None:
    device("admin_001", "token-of-admin")
    notify(["admin_001"], **NOTICE)
    assert send_due_pushes() == 1
    row = PushOutbox.objects.get()
    said = str(fcm.received)
    note("words of a notice in a push", let_in=sum(NOTICE[part] in said for part in ("title", "body")))
    assert fcm.received == [
        {
            "token": "token-of-admin",
            "data": {
                "category": "emergencyEscalated",
                "id": row.subject,
                "eventId": str(row.event_id),
            },
            "android": {"priority": "high", "ttl": "86400s"},
            "apns": {
                "headers": {"apns-priority": "10", "apns-push-type": "alert"},
                "payload": {
                    "aps": {
                        "alert": {"loc-key": "emergencyEscalated"},
                        "sound": "default",
                        "content-available": 1,
                    }
                },
            },
        }
    ]
    assert (row.state, row.attempts) == ("sent", 1)
    assert send_due_pushes() == 0


@pytest.mark.parametrize("answer", [fcm_server.UNREGISTERED, fcm_server.OTHER_PROJECT])
def test_token_unknown_to_fcm_is_removed(
    fcm: fcm_server.FcmServer, device: Device, answer: tuple[int, dict[str, object]]
) -> None:
    gone, there = device("admin_001", "gone"), device("admin_001", "there")
    fcm.answers["gone"] = answer
    notify(["admin_001"], **NOTICE)
    send_due_pushes()
    gone.refresh_from_db()
    there.refresh_from_db()
    assert (gone.token, gone.disabled_at is None) == ("", False)
    assert (there.token, there.disabled_at) == ("there", None)
    assert dict(PushOutbox.objects.values_list("device", "state")) == {gone.pk: "given up", there.pk: "sent"}

    notify(["admin_001"], **NOTICE)
    send_due_pushes()
    assert sorted(message["token"] for message in fcm.received) == ["gone", "there", "there"]


def test_device_with_removed_token_is_registered_again_by_login(
    fcm: fcm_server.FcmServer, device: Device
) -> None:
    device("admin_001", "token").disable()
    device("admin_001", "token")
    notify(["admin_001"], **NOTICE)
    send_due_pushes()
    assert [message["token"] for message in fcm.received] == ["token"]


def test_overloaded_fcm_is_retried_later(fcm: fcm_server.FcmServer, device: Device) -> None:
    device("admin_001", "token")
    fcm.answers["token"] = fcm_server.TOO_MANY
    notify(["admin_001"], **NOTICE)
    assert send_due_pushes() == 1
    assert states() == [("waiting", 1, "QuotaExceededError RESOURCE_EXHAUSTED")]
    assert send_due_pushes() == 0

    fcm.answers.clear()
    PushOutbox.objects.update(due_at=PushOutbox.objects.get().created_at)
    assert send_due_pushes() == 1
    assert states() == [("sent", 2, "")]


def test_push_is_given_up_after_the_last_try(
    fcm: fcm_server.FcmServer, device: Device, settings: Settings
) -> None:
    settings.PUSH_TRIES, settings.PUSH_RETRY_SECONDS = 3, 0
    device("admin_001", "token")
    fcm.answers["token"] = fcm_server.TOO_MANY
    notify(["admin_001"], **NOTICE)
    send_due_pushes()
    assert states() == [("given up", 3, "QuotaExceededError RESOURCE_EXHAUSTED")]
    assert len(fcm.received) == 3
    assert PushDevice.objects.reachable().count() == 1


def test_invalid_push_is_given_up_at_once(fcm: fcm_server.FcmServer, device: Device) -> None:
    device("admin_001", "token")
    fcm.answers["token"] = fcm_server.INVALID
    notify(["admin_001"], **NOTICE)
    send_due_pushes()
    assert states() == [("given up", 1, "Refused INVALID_ARGUMENT")]
    assert PushDevice.objects.reachable().count() == 1


def test_unreachable_fcm_is_retried_later(
    fcm: fcm_server.FcmServer, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    device("admin_001", "token")
    notify(["admin_001"], **NOTICE)
    assert send_due_pushes() == 1
    [(state, attempts, error)] = states()
    assert (state, attempts) == ("waiting", 1)
    assert error


@pytest.mark.parametrize(
    "path",
    [
        "hplus.push.senders.PigeonPush",
        "hplus.push.senders",
        "hplus.push.senders.Rejected",
        "nowhere",
        ".",
        "hplus.push.senders.FcmPush",
    ],
)
def test_misconfigured_sender_stops_the_start(
    path: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.HPLUS_PUSH_BACKEND = path
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")
    with pytest.raises(ImproperlyConfigured, match="HPLUS_PUSH_BACKEND"):
        current_sender()
    with pytest.raises(SystemCheckError, match="HPLUS_PUSH_BACKEND"):
        call_command("check")
