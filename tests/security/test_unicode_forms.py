"""The same text in other code points is the same id, the same password and the same search."""

from __future__ import annotations

import unicodedata

from django.test import Client
from hypothesis import given
from hypothesis import strategies as st

from hplus.accounts.models import User
from hplus.management.commands.seed_demo import PASSWORD
from hplus.protocol import texts, wire
from tests.admin_site import page
from tests.api import Api, refused
from tests.servers import ThreadServer

COMPOSED, APART = (unicodedata.normalize(form, "zoé_müller") for form in ("NFC", "NFD"))
SECRET = "Größe-Ångström-7"
FORMS = ("NFC", "NFD")


async def make_nurse(user_id: str, password: str) -> User:
    nurse = User(user_id=user_id, name=user_id, role="nurse", hospital_id="hospital_001")
    nurse.set_password(password)
    await nurse.asave()
    return nurse


async def test_sign_in_takes_user_id_and_password_in_either_form(server: ThreadServer) -> None:
    for made in FORMS:
        name = unicodedata.normalize(made, f"é{made.lower()}")
        await make_nurse(name, unicodedata.normalize(made, SECRET))
        for typed in FORMS:
            async with Api(server) as api:
                given_ = {
                    "userId": unicodedata.normalize(typed, name),
                    "password": unicodedata.normalize(typed, SECRET),
                }
                answer = await api.post("auth/token/", json=given_)
                assert answer.status_code == 200, (made, typed, answer.text)
                wrong = await api.post("auth/token/", json={**given_, "password": SECRET + "x"})
                refused(wrong, 401, "AUTHENTICATION_FAILED")


async def test_ids_are_found_in_either_form(server: ThreadServer) -> None:
    await make_nurse(APART, PASSWORD)
    async with (
        server.phone(APART, "nurse", "hospital_001") as nurse,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
        Api(server, "doctor_123") as api,
    ):
        assert nurse.established["userId"] == COMPOSED
        for receiver in (COMPOSED, APART):
            sent = await doctor.ask(
                "sendMessage", receiverId=receiver, hospitalId="hospital_001", message=receiver
            )
            assert sent["type"] == "ack", sent
            heard = await nurse.expect("newMessage")
            assert heard["message"] == receiver  # what is not compared stays as it was sent
        rooms = (await api.get("chat/rooms/")).json()["rooms"]
        assert len([room for room in rooms if room["peer"]["userId"] == COMPOSED]) == 1


def test_admin_finds_names_in_either_form(admin_client: Client) -> None:
    for name in (COMPOSED, APART):
        User.objects.filter(pk="nurse_001").update(name=name)
        for typed in (COMPOSED, APART):
            found = admin_client.get(page(User, "changelist"), {"q": typed})
            assert "nurse_001" in found.content.decode(), (name, typed)


@given(text=st.text(max_size=30).filter(wire.is_storable))
def test_every_form_of_a_text_is_compared_as_one(text: str) -> None:
    assert texts.nfc(unicodedata.normalize("NFD", text)) == texts.nfc(text) == texts.nfc(texts.nfc(text))
