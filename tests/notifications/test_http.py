"""Notices over HTTP and in the admin site: the same rules, and nobody else's rows."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from hplus.accounts.actions import issue_tokens
from hplus.accounts.models import Session, User
from hplus.notifications.actions import delete_old_notifications, notify
from hplus.notifications.models import Notification
from tests.admin_site import admin_client_of

NOTICE = {"category": "rota", "title": "Change of shift", "body": "At nine."}
URL = "/api/notifications/"


class Caller:
    """Somebody with a token."""

    def __init__(self, user: User) -> None:
        tokens = issue_tokens(Session.objects.create(user=user))
        self.client = Client(headers={"Authorization": f"Bearer {tokens.access}"})

    def get(self, query: str = "") -> dict[str, Any]:
        answer = self.client.get(URL + query)
        assert answer.status_code == 200, answer.content
        return dict(answer.json())

    def post(self, body: dict[str, Any], path: str = "") -> tuple[int, dict[str, Any]]:
        answer = self.client.post(URL + path, body, content_type="application/json")
        return answer.status_code, answer.json()


def test_notifications_are_paged_newest_first(users: dict[str, User]) -> None:
    for number in range(5):
        notify(["doctor_123", "doctor_456"], **{**NOTICE, "title": str(number)})
    doctor = Caller(users["doctor_123"])
    first = doctor.get("?limit=2")
    assert [notice["title"] for notice in first["notifications"]] == ["4", "3"]
    assert (first["unreadCount"], first["hasMore"]) == (5, True)
    second = doctor.get(f"?limit=2&before={first['nextCursor']}")
    last = doctor.get(f"?limit=2&before={second['nextCursor']}")
    assert [n["title"] for n in second["notifications"] + last["notifications"]] == ["2", "1", "0"]
    assert (last["hasMore"], last["nextCursor"]) == (False, None)


def test_notification_over_http_equals_the_frame(users: dict[str, User]) -> None:
    notify(["doctor_123"], **NOTICE, data={"id": "7"})
    row = Notification.objects.get()
    assert Caller(users["doctor_123"]).get()["notifications"] == [
        {
            "notificationId": row.pk,
            **NOTICE,
            "priority": "normal",
            "data": {"id": "7"},
            "timestamp": row.sent_at.isoformat().replace("+00:00", "Z"),
            "readAt": None,
        }
    ]


def test_mark_as_read_of_own_notifications_only(users: dict[str, User]) -> None:
    notify(["doctor_123", "doctor_456"], **NOTICE)
    doctor, other = Caller(users["doctor_123"]), Caller(users["doctor_456"])
    [notice] = doctor.get()["notifications"]
    own = {"notificationId": notice["notificationId"]}
    status, refused = other.post(own, "read/")
    assert (status, refused["code"]) == (404, "MESSAGE_NOT_FOUND")
    assert doctor.post(own, "read/") == (200, {"status": "ok", "data": {**own, "unreadCount": 0}})
    read_at = doctor.get()["notifications"][0]["readAt"]
    assert doctor.post({"action": "markRead", **own})[0] == 200
    assert doctor.get()["notifications"][0]["readAt"] == read_at
    assert doctor.get("?unread=true")["notifications"] == []
    assert other.get()["unreadCount"] == 1


def test_send_over_http_by_permission(users: dict[str, User]) -> None:
    request = {"target": {"role": "nurse"}, "title": "Tea", "body": "In the kitchen"}
    assert Caller(users["doctor_123"]).post(request) == (201, {"status": "ok", "data": {"recipients": 1}})
    row = Notification.objects.get()
    assert (row.recipient_id, row.sender_id, row.hospital_id) == ("nurse_001", "doctor_123", "hospital_001")
    status, refused = Caller(users["patient_123"]).post(request)
    assert (status, refused["code"]) == (403, "FORBIDDEN")


def test_invalid_query_is_refused(users: dict[str, User]) -> None:
    doctor = Caller(users["doctor_123"])
    assert Client().get(URL).status_code == 401
    assert doctor.client.get(URL + "?limit=0").json()["details"]["field"] == "limit"
    assert doctor.client.get(URL + "?before=no-such").status_code == 404
    assert doctor.post({}, "read/")[1]["details"]["field"] == "notificationId"


@pytest.mark.parametrize(
    ("user_id", "titles"),
    [
        ("root", {"here", "there", "to a patient"}),
        ("admin_001", {"here", "to a patient"}),
        ("admin_002", {"there"}),
    ],
)
def test_notification_admin_is_read_only_and_of_the_own_hospital(
    users: dict[str, User], user_id: str, titles: set[str]
) -> None:
    notify(["doctor_123"], **{**NOTICE, "title": "here"})
    notify(["doctor_002"], **{**NOTICE, "title": "there"})
    Notification.objects.create(
        recipient=users["patient_123"],
        sender=users["nurse_001"],
        hospital_id="hospital_001",
        **{**NOTICE, "title": "to a patient"},
    )
    client = admin_client_of(users[user_id])
    page = client.get("/admin/notifications/notification/", secure=True)
    assert {row.title for row in page.context["cl"].result_list} == titles
    for row in Notification.objects.all():
        found = client.get(f"/admin/notifications/notification/{row.pk}/change/", secure=True)
        assert (found.status_code == 200) == (row.title in titles)
        assert client.post(
            f"/admin/notifications/notification/{row.pk}/delete/", {"post": "yes"}, secure=True
        ).status_code in (302, 403)
    assert Notification.objects.count() == 3
    assert client.get("/admin/notifications/notification/add/", secure=True).status_code == 403


def test_doctor_is_refused_in_the_admin_site(users: dict[str, User]) -> None:
    client = admin_client_of(users["doctor_123"])
    assert client.get("/admin/notifications/notification/", secure=True).status_code == 302


def test_old_read_notifications_are_deleted_and_unread_kept(users: dict[str, User]) -> None:
    notify(["doctor_123", "doctor_456", "nurse_001"], **NOTICE)
    long_ago = timezone.now() - timedelta(days=91)
    Notification.objects.update(sent_at=long_ago)
    Notification.objects.filter(recipient="doctor_123").update(read_at=long_ago)
    Notification.objects.filter(recipient="doctor_456").update(read_at=timezone.now())
    assert delete_old_notifications() == 1
    left = set(Notification.objects.values_list("recipient", flat=True))
    assert left == {"doctor_456", "nurse_001"}
