"""An admin silences a phone: by itself, for the own hospital only, and not unnoticed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from hplus.accounts.models import Session, User
from hplus.audit.models import Record, Verb
from hplus.notifications.actions import notify
from hplus.push.actions import register, send_due_pushes
from hplus.push.models import PushDevice, PushOutbox
from tests.admin_site import admin_client_of

NOTICE = {"category": "shift", "title": "Change of shift", "body": "The ward round is at nine."}
LIST = "/admin/push/pushdevice/"
Device = Callable[..., PushDevice]
Sent = list[tuple[str, dict[str, str]]]


def page_of(device: PushDevice) -> str:
    return f"{LIST}{device.pk}/change/"


def revoke(client: Client, *devices: PushDevice, **more: str) -> Any:
    ids = [str(device.pk) for device in devices]
    return client.post(LIST, {"action": "revoke", "_selected_action": ids, **more}, follow=True)


def told(answer: Any) -> list[str]:
    return [str(message) for message in answer.context["messages"]]


def audited() -> list[tuple[str, str, str, Any]]:
    lines = Record.objects.filter(verb=Verb.CHANGE).order_by("number")
    return list(lines.values_list("actor_id", "object_type", "object_id", "details"))


def test_revoked_device_is_not_woken_and_others_are(
    users: dict[str, User], device: Device, sent_pushes: Sent
) -> None:
    phone, tablet = device("doctor_123", "phone", "pixel"), device("doctor_123", "tablet", "tab")
    notify(["doctor_123"], **NOTICE)  # what is on its way to it is not sent either
    answer = revoke(admin_client_of(users["admin_001"]), phone)
    assert told(answer) == ["1 of 1 revoked."]
    notify(["doctor_123"], **NOTICE)
    send_due_pushes()
    assert [token for token, _ in sent_pushes] == [tablet.token, tablet.token]
    left = PushOutbox.objects.get(device=phone)
    assert (left.state, left.last_error) == ("given up", "revoked")
    phone.refresh_from_db()
    assert (phone.token, phone.session.revoked_at) == ("", None)
    assert audited() == [("admin_001", "push.pushdevice", str(phone.pk), {"what": "Revoked."})]


def test_revoked_device_is_woken_again_after_a_new_login(users: dict[str, User], device: Device) -> None:
    phone = device("doctor_123", "token", "pixel")
    revoke(admin_client_of(users["admin_001"]), phone)
    for token in ("token", "a fresh one"):
        register(phone.session, token, platform="android")
    assert not PushDevice.objects.reachable().exists()
    register(Session.objects.create(user=users["doctor_123"], device_id="pixel"), "token")
    assert [one.token for one in PushDevice.objects.reachable()] == ["token"]


def test_revoke_button_on_device_page_revokes_once(users: dict[str, User], device: Device) -> None:
    admin_client, phone = admin_client_of(users["admin_001"]), device("nurse_001", "of-nurse", "pixel")
    assert 'name="action" value="revoke"' in admin_client.get(page_of(phone)).content.decode()
    answer = revoke(admin_client, phone, is_button="1")
    assert answer.redirect_chain == [(page_of(phone), 302)]
    assert told(answer) == ["1 of 1 revoked."]
    shown = answer.content.decode()
    assert 'name="action" value="revoke"' not in shown
    assert "revoked" in shown
    assert "of-nurse" not in shown
    assert told(revoke(admin_client, phone)) == ["0 of 1 revoked."]
    assert len(audited()) == 1


@pytest.mark.parametrize("more", [{}, {"is_button": "1"}, {"select_across": "1"}])
def test_devices_of_the_other_hospital_are_not_listed(
    users: dict[str, User], device: Device, more: dict[str, str]
) -> None:
    phone = device("doctor_123", "token", "pixel")
    other = admin_client_of(users["admin_002"])
    assert "pixel" not in other.get(LIST).content.decode()
    assert other.get(page_of(phone)).status_code == 302
    revoke(other, phone, **more)
    assert PushDevice.objects.reachable().get() == phone
    assert audited() == []
    revoke(admin_client_of(users["admin_001"]), phone, **more)
    assert not PushDevice.objects.reachable().exists()


@pytest.mark.parametrize("user_id", ["doctor_123", "patient_123"])
def test_other_role_cannot_revoke_even_with_staff_flag(
    users: dict[str, User], device: Device, user_id: str
) -> None:
    phone = device("doctor_123", "token", "pixel")
    User.objects.filter(pk=user_id).update(is_staff=True)
    assert revoke(admin_client_of(User.objects.get(pk=user_id)), phone).status_code == 403
    assert PushDevice.objects.reachable().get() == phone
