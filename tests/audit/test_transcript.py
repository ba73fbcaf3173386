"""A conversation in the admin site: readable, searchable, held; and opening it is recorded."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from chat import actions as chat
from chat import attachments
from chat.messages import DeleteMessage, EditMessage, SendMessage
from chat.models import ChatRoom, Message
from hplus.accounts.models import User
from hplus.audit.models import Record, Verb
from hplus.management.commands.seed_demo import seed_people
from tests.admin_site import admin_client_of

EVIL = '<script>alert("x")</script><img src=x onerror=alert(1)>'


@pytest.fixture(autouse=True)
def users(db: None) -> dict[str, User]:
    seed_people()
    return User.objects.in_bulk()


def say(users: dict[str, User], sender: str, receiver: str, text: str, **more: Any) -> Message:
    hospital = users[receiver].hospital_id or users[sender].hospital_id
    request = SendMessage(receiver_id=receiver, hospital_id=hospital, message=text, **more)
    made = chat.send(users[sender], request).ack_data
    assert made is not None
    return Message.objects.select_related("room").get(message_id=made["messageId"])


def page(room: ChatRoom, rest: str = "change/") -> str:
    return f"/admin/chat/chatroom/{room.pk}/{rest}"


def test_transcript_shows_messages_in_order(users: dict[str, User], admin_client: Client) -> None:
    first = say(users, "patient_123", "doctor_123", "My arm hurts")
    reply = say(users, "doctor_123", "patient_123", "Since when?", reply_to=first.message_id)
    request = EditMessage(message_id=reply.message_id, message="Since when exactly?")
    chat.edit(users["doctor_123"], request)
    shown = admin_client.get(page(first.room)).content.decode()
    for part in ("My arm hurts", "Since when exactly?", "until", "Since when?", "Pat Meadow", "· sent"):
        assert part in shown
    assert "<blockquote>My arm hurts</blockquote>" in shown
    read = Record.objects.get(verb=Verb.READ)
    assert (read.actor_id, read.object_id, read.hospital_id) == ("admin_001", first.room_id, "hospital_001")
    assert "arm" not in str(vars(read))


def test_deleted_message_is_shown_with_permission_only(users: dict[str, User], admin_client: Client) -> None:
    message = say(users, "patient_123", "doctor_123", "My PIN is 7391")
    chat.delete(users["patient_123"], DeleteMessage(message_id=message.message_id))
    shown = admin_client.get(page(message.room)).content.decode()
    assert "Deleted by" in shown
    assert "7391" not in shown
    assert "7391" in admin_client_of(users["root"]).get(page(message.room)).content.decode()
    right = Permission.objects.get(codename="view_deleted_original")
    users["admin_001"].user_permissions.add(right)
    assert "7391" in admin_client.get(page(message.room)).content.decode()


def test_markup_in_a_message_is_escaped(users: dict[str, User], admin_client: Client) -> None:
    User.objects.filter(pk="patient_123").update(name=EVIL)
    message = say(users, "patient_123", "doctor_123", EVIL)
    for url in (page(message.room), "/admin/chat/message/", "/admin/chat/chatroom/", "/admin/accounts/user/"):
        shown = admin_client.get(url).content.decode()
        assert "<script>alert" not in shown
        assert "<img src=x" not in shown
        assert "&lt;script&gt;alert" in shown


def test_files_are_served_from_their_own_room_only(users: dict[str, User], admin_client: Client) -> None:
    room = say(users, "patient_123", "doctor_123", "Look").room
    stored = attachments.store(users["patient_123"], room, SimpleUploadedFile("arm.txt", b"red and swollen"))
    url = f"http://testserver/api/chat/attachments/{stored.pk}/"
    files = [{"url": url, "name": "arm.txt"}, {"url": "https://evil.example/x", "name": "foreign.txt"}]
    say(users, "patient_123", "doctor_123", "Here", attachments=files)
    shown = admin_client.get(page(room)).content.decode()
    assert page(room, f"attachments/{stored.pk}/") in shown
    assert "evil.example" not in shown

    given = admin_client.get(page(room, f"attachments/{stored.pk}/"))
    assert given.content == b"red and swollen"
    assert given["Content-Disposition"].startswith("attachment")
    other = admin_client_of(users["admin_002"])
    assert other.get(page(room, f"attachments/{stored.pk}/")).status_code == 404
    assert other.get(page(room)).status_code == 302


def test_deleted_file_is_served_with_permission_only(users: dict[str, User], admin_client: Client) -> None:
    room = say(users, "patient_123", "doctor_123", "Look").room
    stored = attachments.store(users["patient_123"], room, SimpleUploadedFile("arm.txt", b"red and swollen"))
    files = [{"url": f"/api/chat/attachments/{stored.pk}/", "name": "arm.txt"}]
    message = say(users, "patient_123", "doctor_123", "Here", attachments=files)
    url = page(room, f"attachments/{stored.pk}/")
    assert admin_client.get(url).status_code == 200
    chat.delete(users["patient_123"], DeleteMessage(message_id=message.message_id))
    say(users, "doctor_123", "patient_123", "This one?", attachments=files)
    assert admin_client.get(url).status_code == 404
    assert url not in admin_client.get(page(room)).content.decode()  # no link that leads nowhere
    root = admin_client_of(users["root"])
    assert root.get(page(room)).content.decode().count(url) == 2
    assert root.get(url).content == b"red and swollen"


def test_legal_hold_shows_who_when_and_why(users: dict[str, User], admin_client: Client) -> None:
    room = say(users, "patient_123", "doctor_123", "My arm hurts").room
    admin_client.post(page(room, "hold/"), {"reason": " "})
    room.refresh_from_db()
    assert room.held_at is None
    assert admin_client_of(users["admin_002"]).post(page(room, "hold/"), {"reason": "x"}).status_code == 404
    admin_client.post(page(room, "hold/"), {"reason": "Case 17"})
    room.refresh_from_db()
    assert (room.held_by_id, room.hold_reason) == ("admin_001", "Case 17")
    assert "Case 17" in admin_client.get(page(room)).content.decode()
    admin_client.get(page(room, "release/"))  # only a form ends it
    assert ChatRoom.objects.get(pk=room.pk).held_at
    admin_client.post(page(room, "release/"))
    assert ChatRoom.objects.get(pk=room.pk).held_at is None
    held = Record.objects.filter(verb=Verb.HOLD).order_by("number").values_list("details", flat=True)
    assert list(held) == [{"what": "begins"}, {"what": "ends"}]


# A hundred thousand

FILL = """
INSERT INTO chat_message (message_id, room_id, sender_id, receiver_id, text, message_type, priority,
    fingerprint, sent_at, delete_reason)
WITH RECURSIVE n(i) AS (SELECT CAST(%s AS integer) UNION ALL SELECT i + 1 FROM n WHERE i < %s)
SELECT 'message-' || i, %s, 'patient_123', 'doctor_123', 'What number ' || i || ' said', 'text', 'normal',
    '', %s, '' FROM n
"""


@pytest.fixture
def long_talk(users: dict[str, User]) -> ChatRoom:
    message = say(users, "patient_123", "doctor_123", "Hello")
    with connection.cursor() as cursor:
        for first in range(1, 100_001, 10_000):
            cursor.execute(FILL, [first, first + 9_999, message.room_id, message.sent_at])
            connection.check_constraints()  # in portions, as no statement may take longer than 4 s
    return message.room


def queries(admin_client: Client, url: str, **query: Any) -> int:
    with CaptureQueriesContext(connection) as captured:
        assert admin_client.get(url, query).status_code == 200
    return len(captured)


def test_hundred_thousand_messages_take_no_more_queries_than_one(
    users: dict[str, User], admin_client: Client, long_talk: ChatRoom
) -> None:
    short = say(users, "nurse_001", "doctor_123", "The ECG room is free").room
    queries(admin_client, page(short))  # the first request of the session writes when it began
    few = queries(admin_client, page(short))
    assert queries(admin_client, page(long_talk)) == few <= 18
    assert queries(admin_client, page(long_talk), before=50_000) == few

    there = "/admin/chat/message/"
    few = queries(admin_client, there, room__exact=short.pk)
    assert queries(admin_client, there, room__exact=long_talk.pk) == queries(admin_client, there) == few <= 18
    found = admin_client.get(there, {"q": "number 99000 said"})
    assert [row.message_id for row in found.context["cl"].result_list] == ["message-99000"]


def test_search_by_user_and_date(users: dict[str, User], admin_client: Client) -> None:
    say(users, "patient_123", "doctor_123", "My arm hurts")
    say(users, "nurse_001", "doctor_123", "The ECG room is free")
    today = Message.objects.latest("sent_at").sent_at

    def found(**query: str) -> int:
        return len(admin_client.get("/admin/chat/message/", query).context["cl"].result_list)

    assert (found(q="meadow"), found(q="ECG"), found(q="meadow ECG")) == (1, 1, 0)
    assert found(sent_at_from=f"{today:%Y-%m-%d}", sent_at_to=f"{today:%Y-%m-%d}") == 2
    assert found(sent_at_to="2020-01-01") == 0
    search = Record.objects.filter(verb=Verb.SEARCH).order_by("number").first()
    assert search is not None
    assert search.details == {"asked": ["q"]}
