"""What a server shows to strangers, to caches and to the next owner of a browser."""

from __future__ import annotations

import argparse
import re
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.sessions.models import Session as AdminSession
from django.test import Client
from django.urls import get_resolver
from django.utils import timezone

from hplus.accounts import admin_sessions
from hplus.accounts.models import User
from hplus.accounts.passwords import DEMO_PASSWORD, check_new
from hplus.errors import ValidationFailed
from hplus.management.commands.serve import Command
from hplus.operations.moving import move
from tests.admin_site import admin_client_of
from tests.api import Api
from tests.security.test_care_data_isolation import routes_of
from tests.servers import ThreadServer

PLACE = {"location": {"lat": 37.0, "lng": -122.0}, "condition": "Chest pain", "priority": "critical"}


async def test_no_cache_keeps_what_the_api_says_about_people(server: ThreadServer) -> None:
    async with Api(server, "doctor_123") as doctor:
        for path in ("chat/rooms/", "emergencies/", "calls/", "notifications/", "sync/?since=0"):
            answer = await doctor.get(path)
            assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store"), path
        for answer in (
            await doctor.post("auth/refresh/", json={"refresh": doctor.tokens["refresh"]}),
            await doctor.post("auth/token/", json={"userId": "doctor_123", "password": "wrong"}),
            await doctor.get("calls/no-such-call/"),
        ):
            assert answer.headers["cache-control"] == "no-store"


# What says nothing about people, and is told to everybody.
PUBLIC = ("api/schema/", "api/docs/")
IDS = {"hospital_id": "hospital_001", "user_id": "patient_123"}


async def test_every_address_of_the_api_is_kept_by_no_cache(server: ThreadServer) -> None:
    """By whatever method and with whatever answer; a cache may keep a file only if it asks each time."""
    routes = [route for route in routes_of(get_resolver().url_patterns) if route.startswith("api/")]
    private = [route for route in routes if not route.startswith(PUBLIC)]
    assert len(private) > 30
    async with Api(server, "doctor_123") as doctor, Api(server) as stranger:
        for route in private:
            path = re.sub(r"<(?:\w+:)?(\w+)>", lambda found: IDS.get(found[1], "nothing"), route)
            for client in (doctor, stranger):
                for method in ("GET", "POST", "OPTIONS"):
                    answer = await client.request(method, f"{server.url}/{path}", json={})
                    kept = answer.headers["cache-control"]
                    assert kept in ("no-store", "private, no-cache"), (method, path, answer.status_code)


async def test_pages_with_personal_data_are_kept_by_no_cache(users: dict[str, User]) -> None:
    for user_id in ("admin_001", "root"):
        client = await sync_to_async(admin_client_of)(user_id)
        for path in ("/admin/", "/admin/accounts/user/", "/admin/accounts/user/nurse_001/change/"):
            answer = await sync_to_async(client.get)(path)
            assert "no-store" in answer["Cache-Control"], path


async def test_foreign_and_unknown_hospital_are_refused_alike(server: ThreadServer) -> None:
    """Staff can't count out other hospitals, whatever they ask for."""
    async with (
        Api(server, "doctor_123") as http,
        server.phone("doctor_123", "doctor", "hospital_001") as doctor,
    ):
        there = [
            ("joinHospital", {}),
            ("joinChatRoom", {"receiverId": "patient_123"}),
            ("sendMessage", {"receiverId": "patient_123", "message": "Hello"}),
            ("callInitiate", {"receiverId": "patient_123", "callType": "audio"}),
            ("emergencyRequest", {"patientId": "patient_123", **PLACE}),
            ("watchLocations", {"on": True}),
            ("notification", {"target": {"hospitalId": None}, "title": "t", "body": "b"}),
        ]
        for type_, fields in there:
            said = []
            for hospital_id in ("hospital_002", "hospital_999"):
                given: dict[str, Any] = {**fields, "hospitalId": hospital_id}
                if "target" in given:
                    given["target"] = {"hospitalId": hospital_id}
                answer = await doctor.ask(type_, **given)
                said.append({k: v for k, v in answer.items() if k not in ("timestamp", "requestId")})
            assert said[0] == said[1], type_
            assert said[0]["type"] == "error", type_
        bodies = [
            (
                await http.post("emergencies/", json={"patientId": "p", "hospitalId": hospital_id, **PLACE})
            ).json()
            for hospital_id in ("hospital_002", "hospital_999")
        ]
        assert bodies[0] == bodies[1]


@pytest.mark.django_db
def test_metrics_are_for_who_has_the_token_or_for_this_machine(settings: Any) -> None:
    settings.DEBUG = False
    assert Client(REMOTE_ADDR="127.0.0.1").get("/metrics").status_code == 200
    assert Client(REMOTE_ADDR="192.0.2.1").get("/metrics").status_code == 401
    settings.HPLUS_METRICS_TOKEN = "for-prometheus"
    stranger = Client(REMOTE_ADDR="127.0.0.1")
    assert stranger.get("/metrics").status_code == 401
    assert stranger.get("/metrics", headers={"Authorization": "Bearer guess"}).status_code == 401
    shown = {"Authorization": "Bearer for-prometheus"}
    assert Client(REMOTE_ADDR="192.0.2.1").get("/metrics", headers=shown).status_code == 200


@pytest.mark.parametrize("is_demo", [True, False])
def test_server_listens_on_this_machine_only_unless_told(settings: Any, is_demo: bool) -> None:
    settings.HPLUS_DEMO = is_demo
    parser = argparse.ArgumentParser()
    Command().add_arguments(parser)
    assert parser.parse_args([]).host == "127.0.0.1"
    assert parser.parse_args(["--host", "0.0.0.0"]).host == "0.0.0.0"


@pytest.mark.django_db
def test_expired_admin_sessions_are_deleted() -> None:
    now = timezone.now()
    for key, ago in (("over", 60), ("living", -60)):
        AdminSession.objects.create(session_key=key, expire_date=now - timedelta(seconds=ago))
    assert admin_sessions.delete_expired() == 1
    assert [row.session_key for row in AdminSession.objects.all()] == ["living"]


@pytest.mark.parametrize(
    "password",
    [
        DEMO_PASSWORD,
        "HPlus-Demo",
        "nurse_0017",
        "Florence.Ward",
        "florence ward",
        "password1",
        "12345678901",
        "q1",
    ],
)
def test_password_that_is_common_or_says_who_it_is_is_refused(password: str) -> None:
    nurse = User(user_id="nurse_0017", name="Florence Ward", role="nurse")
    with pytest.raises(ValidationFailed) as refused:
        check_new(nurse, password)
    assert refused.value.details["field"] == "password"
    check_new(nurse, "Lantern-Orbit-42")


def test_staff_are_not_moved_to_no_hospital(users: dict[str, User]) -> None:
    with pytest.raises(ValidationFailed):
        move(None, users["nurse_001"], role="nurse", hospital_id=None)
    assert User.objects.get(pk="nurse_001").hospital_id == "hospital_001"
