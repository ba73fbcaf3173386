"""Files: taken by what they are, given to the room's two people and their hospital's admins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.conf import settings as django_settings
from django.contrib.auth.models import Permission

from chat.models import Attachment
from hplus.accounts.models import User
from hplus.management.commands.seed_demo import PASSWORD
from hplus.realtime.execution.db_threads import in_db_thread
from tests.api import Api, refused
from tests.servers import ThreadServer

HOSPITAL = "hospital_001"
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + b"\x01" * 17 + b"\x00\x00\x00\x00IEND\xae\x42\x60\x82"
PDF = b"%PDF-1.4\n" + b"1" * 100
HTML = b"<html><script>alert(1)</script></html>"
SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'
EXECUTABLE = b"\x7fELF" + b"\x02\x01\x01" + b"\x00" * 100


def lies_in_the_store(attachment: Attachment) -> bool:
    """Under MEDIA_ROOT by its id, and outside everything that is served as it lies there."""
    path, root = Path(attachment.file.path).resolve(), Path(django_settings.MEDIA_ROOT).resolve()
    is_static = path.is_relative_to(Path(django_settings.STATIC_ROOT).resolve())
    return path.is_relative_to(root) and path.name == attachment.pk and not is_static


async def test_attachment_is_for_its_room_only(server: ThreadServer, settings: Any) -> None:
    async with (
        Api(server, "patient_123") as patient,
        Api(server, "doctor_123") as doctor,
        Api(server, "admin_001") as admin,
        Api(server, "admin_002") as foreign_admin,
        Api(server, "nurse_001") as nurse,
        Api(server, "test_user") as other_patient,
        Api(server) as nobody,
    ):
        opened = await patient.post("chat/rooms/", json={"receiverId": "doctor_123", "hospitalId": HOSPITAL})
        room_id = opened.json()["chatRoomId"]

        async def upload(who: Api, name: str, content: bytes, room: str = room_id) -> Any:
            files = {"file": (name, content, "image/png")}  # what the client calls it counts for nothing
            return await who.post("chat/attachments/", data={"chatRoomId": room}, files=files)

        stored = (await upload(patient, "report.png", PNG)).json()
        assert (stored["name"], stored["size"], stored["type"]) == ("report.png", len(PNG), "image")
        for who in (patient, doctor, admin):
            given = await who.get(stored["url"])
            assert (given.status_code, given.content) == (200, PNG)
            assert given.headers["content-type"] == "image/png"
            assert given.headers["x-content-type-options"] == "nosniff"
            assert "sandbox" in given.headers["content-security-policy"]
            assert "report.png" in given.headers["content-disposition"]
        for who in (foreign_admin, nurse, other_patient):
            refused(await who.get(stored["url"]), 404, "MESSAGE_NOT_FOUND")
        refused(await nobody.get(stored["url"]), 401, "AUTHENTICATION_FAILED")
        # The hospital's admin may look, not take part; for others the room does not exist.
        for who in (admin, foreign_admin, nurse, other_patient):
            refused(await upload(who, "a.png", PNG), 404, "CHAT_ROOM_NOT_FOUND")
        refused(await upload(nobody, "a.png", PNG), 401, "AUTHENTICATION_FAILED")

        # Judged by content, not by name.
        assert (await upload(doctor, "picture.png", PDF)).json()["type"] == "file"
        assert (await upload(doctor, "notes.txt", "Übelkeit seit gestern".encode())).json()["type"] == "file"
        for name, content in [
            ("page.png", HTML),
            ("picture.svg", SVG),
            ("bom.txt", b"\xef\xbb\xbf" + HTML),
            ("space.txt", b"  \n" + HTML),
            ("run.png", EXECUTABLE),
            ("noise.txt", b"\x00\x01\x02\xff"),
        ]:
            error = refused(await upload(patient, name, content), 400, "VALIDATION_ERROR")
            assert error["details"]["field"] == "file", name
        # A served file is never what a browser would run in our name.
        pdf = await doctor.get((await upload(doctor, "x.html", PDF)).json()["url"])
        assert pdf.headers["content-disposition"].startswith("attachment")

        # Size: one byte too many.
        settings.ATTACHMENT_BYTES = len(PNG)
        assert (await upload(patient, "fits.png", PNG)).status_code == 201
        error = refused(await upload(patient, "big.png", PNG + b"1"), 413, "MESSAGE_TOO_LARGE")
        assert error["details"]["maxBytes"] == len(PNG)
        settings.ATTACHMENT_BYTES = 10 * 1024 * 1024
        big = PNG + b"1" * (settings.ATTACHMENT_BYTES - len(PNG))
        assert (await upload(patient, "large.png", big)).status_code == 201
        refused(await upload(patient, "larger.png", big + b"1"), 413, "MESSAGE_TOO_LARGE")

        # Nothing of a name reaches the disk, and nothing of an address either.
        for name in ("../../etc/passwd", "..\\..\\boot.ini", "a\r\nX-Evil: 1.png", '"; x=".png', "é" * 300):
            answer = await upload(patient, name, PNG)
            assert answer.status_code == 201, answer.text
            row = await Attachment.objects.aget(pk=answer.json()["url"].rstrip("/").rpartition("/")[2])
            assert lies_in_the_store(row)
            assert not set(answer.json()["name"]) & set('/\\\r\n"')
            given = await patient.get(answer.json()["url"])
            assert given.status_code == 200
            assert "x-evil" not in given.headers
        for path in ("..%2F..%2Fmanage.py", "%00", "x" * 200, "nothing"):
            answer = await patient.get(f"chat/attachments/{path}/")
            assert answer.status_code in (400, 404), path

        # What is wrong with the form.
        refused(await upload(patient, "a.png", PNG, "a\x00b"), 400, "VALIDATION_ERROR")
        refused(await upload(patient, "a.png", PNG, "nothing"), 404, "CHAT_ROOM_NOT_FOUND")
        refused(await upload(patient, "a.png", PNG, ""), 400, "VALIDATION_ERROR")
        refused(await upload(patient, "a.png", b""), 400, "VALIDATION_ERROR")
        missing = await patient.post("chat/attachments/", files={"chatRoomId": (None, room_id)})
        refused(missing, 400, "VALIDATION_ERROR")
        text = await patient.post(
            "chat/attachments/", files={"chatRoomId": (None, room_id), "file": (None, "text")}
        )
        refused(text, 400, "VALIDATION_ERROR")

        # And a message carries it, as the guide's client sends it.
        async with server.phone("doctor_123", "doctor", HOSPITAL) as phone:
            message = {
                "receiverId": "doctor_123",
                "hospitalId": HOSPITAL,
                "message": "",
                "messageType": "image",
                "attachments": [stored],
            }
            assert (await patient.post("chat/messages/", json=message)).status_code == 201
            heard = await phone.expect("newMessage")
            assert json.dumps(heard["data"]["attachments"], sort_keys=True) == json.dumps(
                [stored], sort_keys=True
            )


def somebody_who_may_read_originals() -> None:
    auditor = User.objects.create_user("auditor", PASSWORD, role="admin", hospital_id=HOSPITAL)
    auditor.user_permissions.add(Permission.objects.get(codename="view_deleted_original"))


async def test_attachment_is_deleted_with_its_last_message(server: ThreadServer) -> None:
    """For everybody but those who may read originals; what another message still shows stays."""
    await in_db_thread(somebody_who_may_read_originals)
    async with (
        Api(server, "patient_123") as patient,
        Api(server, "doctor_123") as doctor,
        Api(server, "admin_001") as admin,
        Api(server, "auditor") as reader,
        Api(server, "root") as root,
    ):
        to_doctor = {"receiverId": "doctor_123", "hospitalId": HOSPITAL}
        opened = await patient.post("chat/rooms/", json=to_doctor)

        async def upload(name: str) -> dict[str, Any]:
            data, files = {"chatRoomId": opened.json()["chatRoomId"]}, {"file": (name, PNG)}
            stored: dict[str, Any] = (await patient.post("chat/attachments/", data=data, files=files)).json()
            return stored

        async def send(who: Api, *files: dict[str, Any], text: str = "") -> str:
            to = to_doctor if who is patient else {**to_doctor, "receiverId": "patient_123"}
            body = {**to, "message": text, "messageType": "image", "attachments": list(files)}
            return str((await who.post("chat/messages/", json=body)).json()["data"]["messageId"])

        async def delete(who: Api, message_id: str, **more: Any) -> None:
            answer = await who.post("chat/messages/delete/", json={"messageId": message_id, **more})
            assert answer.status_code == 200, answer.text

        async def who_gets(file: dict[str, Any]) -> list[str]:
            there = []
            for who in (patient, doctor, admin, reader, root):
                answer = await who.get(file["url"])
                if answer.status_code == 200:
                    assert answer.content == PNG
                    there.append(who.user_id)
                else:
                    refused(answer, 404, "MESSAGE_NOT_FOUND")
            return there

        everyone = ["patient_123", "doctor_123", "admin_001", "auditor", "root"]
        only, both, kept, linked, unsent = [await upload(f"{number}.png") for number in range(5)]
        first = await send(patient, only, both)
        second = await send(patient, kept)
        answered = await send(doctor, {**both, "name": "again"})
        link = await send(patient, text=f"It is here: {linked['url']}")
        for file in (only, both, kept, linked, unsent):
            assert await who_gets(file) == everyone
        seen = await doctor.get(only["url"])
        assert seen.headers["cache-control"] == "private, no-cache"
        again = {"If-None-Match": seen.headers["etag"]}
        assert (await doctor.get(only["url"], headers=again)).status_code == 304

        await delete(patient, first)
        assert await who_gets(only) == ["auditor", "root"]
        refused(await doctor.get(only["url"], headers=again), 404, "MESSAGE_NOT_FOUND")
        assert await who_gets(both) == everyone  # the answer shows it
        await delete(admin, answered, reason="A third person is in the picture")
        await delete(patient, link)
        for file in (only, both, linked):
            assert await who_gets(file) == ["auditor", "root"]
        await send(doctor, only)  # an address does not bring it back
        assert await who_gets(only) == ["auditor", "root"]
        await delete(patient, second)
        assert await who_gets(kept) == ["auditor", "root"]
        assert await who_gets(unsent) == everyone
