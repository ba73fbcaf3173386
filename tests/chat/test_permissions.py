"""A patient and the staff of a hospital, both ways; staff among themselves; nobody else."""

from __future__ import annotations

from typing import Any

from chat.models import ChatRoom
from hplus.accounts.models import User
from tests.api import Api, refused
from tests.servers import ThreadServer

ONE, TWO = "hospital_001", "hospital_002"
PATIENT, OTHER_PATIENT = "patient_123", "test_user"
STAFF = [
    "doctor_123", "nurse_001", "paramedic_456", "admin_001",
    "receptionist_001", "technician_001", "pharmacist_001",
]  # fmt: skip
OK = None
# Who asks, for whom, in which hospital, and the refusal.
PAIRS: list[tuple[str, str, str, str | None]] = [
    *((PATIENT, member, ONE, OK) for member in STAFF),
    *((member, PATIENT, ONE, OK) for member in STAFF),
    *((member, "doctor_456", ONE, OK) for member in STAFF),
    *((member, "doctor_002", ONE, "USER_NOT_FOUND") for member in STAFF),
    *((member, "doctor_002", TWO, "HOSPITAL_MISMATCH") for member in STAFF),
    *((member, PATIENT, TWO, "HOSPITAL_MISMATCH") for member in STAFF),
    *((PATIENT, member, TWO, "USER_NOT_FOUND") for member in STAFF),
    (PATIENT, "doctor_002", TWO, OK),
    (PATIENT, OTHER_PATIENT, ONE, "USER_NOT_FOUND"),
    (PATIENT, PATIENT, ONE, "VALIDATION_ERROR"),
    ("doctor_123", "doctor_123", ONE, "VALIDATION_ERROR"),
    (PATIENT, "nobody", ONE, "USER_NOT_FOUND"),
    (PATIENT, "doctor_123", "nowhere", "HOSPITAL_NOT_FOUND"),
    ("doctor_123", PATIENT, "nowhere", "HOSPITAL_MISMATCH"),
    (PATIENT, "root", ONE, "USER_NOT_FOUND"),
    (PATIENT, "gone", ONE, "USER_NOT_FOUND"),
]


async def test_joinChatRoom_and_sendMessage_permission_for_every_pair(
    server: ThreadServer, settings: Any
) -> None:
    settings.HPLUS_MESSAGES_PER_MINUTE = 0
    await User.objects.acreate(user_id="gone", role="doctor", hospital_id=ONE, is_active=False)
    phones = {}
    for user_id in (PATIENT, *STAFF):
        role = "patient" if user_id == PATIENT else user_id.partition("_")[0]
        phone = server.phone(user_id, role, None if user_id == PATIENT else ONE)
        phones[user_id] = await phone.__aenter__()
    for asker, other, hospital, code in PAIRS:
        pair = {"receiverId": other, "hospitalId": hospital}
        for type_, more in (("joinChatRoom", {}), ("sendMessage", {"message": "Hello"})):
            answer = await phones[asker].ask(type_, **pair, **more)
            assert answer.get("code") == code, (asker, other, hospital, type_)
    # The same room whoever opens it: each pair above has one, and refused pairs have none.
    allowed = {(*sorted((asker, other)), hospital) for asker, other, hospital, code in PAIRS if code is None}
    assert await ChatRoom.objects.acount() == len(allowed)
    for phone in phones.values():
        await phone.hang_up()


async def test_permission_over_http_is_the_same(server: ThreadServer) -> None:
    async with Api(server, PATIENT) as patient, Api(server, "doctor_123") as doctor, Api(server) as nobody:
        for who, other, hospital, status, code in [
            (patient, "doctor_123", ONE, 200, None),
            (doctor, PATIENT, ONE, 200, None),
            (patient, OTHER_PATIENT, ONE, 404, "USER_NOT_FOUND"),
            (patient, "doctor_123", TWO, 404, "USER_NOT_FOUND"),
            (doctor, "doctor_002", TWO, 403, "HOSPITAL_MISMATCH"),
            (nobody, "doctor_123", ONE, 401, "AUTHENTICATION_FAILED"),
        ]:
            answer = await who.post("chat/rooms/", json={"receiverId": other, "hospitalId": hospital})
            if code:
                refused(answer, status, code)
            else:
                assert answer.json()["type"] == "chatRoomJoined"
