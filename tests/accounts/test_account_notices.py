"""A new password, a new device and a token by command are in the audit, and the person hears of them."""

from __future__ import annotations

import getpass
import io

from asgiref.sync import sync_to_async
from django.core.management import call_command

from hplus.accounts import actions
from hplus.accounts.models import User
from hplus.audit.models import Record
from hplus.management.commands.seed_demo import PASSWORD
from hplus.notifications.models import Notification
from tests.servers import ThreadServer


def heard(user_id: str) -> list[str]:
    return list(Notification.objects.filter(recipient=user_id).values_list("category", flat=True))


def test_sign_in_on_a_device_not_seen_before_is_noticed_from_the_second_on(users: dict[str, User]) -> None:
    for device_id in ("phone", "phone", "tablet", "phone", "tablet"):
        actions.sign_in("nurse_001", PASSWORD, device_id)
    notice = Notification.objects.get(recipient="nurse_001")
    assert (notice.category, notice.data) == ("newDevice", {"deviceId": "tablet"})
    rows = Record.objects.filter(actor_id="nurse_001", verb="login").order_by("number")
    assert [row.details.get("newDevice") for row in rows] == [None, None, "tablet", None, None]
    actions.sign_in("nurse_001", PASSWORD)
    assert heard("nurse_001").count("newDevice") == 2, "a device without an id is one not seen before, too"
    assert heard("doctor_123") == []


async def test_new_password_is_audited_and_the_person_hears_of_it(server: ThreadServer) -> None:
    async with server.phone("nurse_001", "nurse", "hospital_001") as nurse:
        user = await User.objects.aget(pk="nurse_001")
        await sync_to_async(actions.set_password)(user, "a-new-and-long-one")
        await nurse.expect("notification", category="passwordChanged")
    row = await Record.objects.aget(object_type="accounts.user", object_id="nurse_001", verb="change")
    assert (row.details, row.hospital_id) == ({"what": "password"}, "hospital_001")


def test_token_by_command_is_audited_with_who_ran_it(users: dict[str, User]) -> None:
    call_command("token", "nurse_001", "--json", stdout=io.StringIO())
    row = Record.objects.get(object_id="nurse_001", verb="login")
    expected = {"where": "command line", "deviceId": "command line", "operator": getpass.getuser()}
    assert row.details == expected
