"""A diversion that is set on the hospital's page is heard by phones."""

from __future__ import annotations

from asgiref.sync import sync_to_async

from hplus.accounts.models import Hospital
from tests.admin_site import admin_client_of
from tests.board.test_emergency_admin import HOSPITAL, KEPT
from tests.servers import ThreadServer


@sync_to_async
def post(user_id: str, **fields: str) -> int:
    return admin_client_of(user_id).post(HOSPITAL, {**KEPT, **fields}).status_code


async def test_diversion_set_in_admin_site_reaches_phones_of_that_hospital(server: ThreadServer) -> None:
    async with (
        server.phone("nurse_001", "nurse", "hospital_001") as nurse,
        server.phone("nurse_002", "nurse", "hospital_002") as elsewhere,
    ):
        assert await post("admin_002", is_on_diversion="on") == 302
        assert await post("admin_001", is_on_diversion="on", diversion_reason="Power cut") == 302
        heard = await nurse.expect("hospitalStatus")
        assert (heard["onDiversion"], heard["reason"]) == (True, "Power cut")
        assert await post("admin_001") == 302
        assert not (await nurse.expect("hospitalStatus", onDiversion=False))["onDiversion"]
        await elsewhere.echo()
        assert elsewhere.heard("hospitalStatus") == []
        assert len(nurse.heard("hospitalStatus")) == 2
    hospital = await Hospital.objects.aget(pk="hospital_001")
    assert not hospital.is_on_diversion
