"""Call records over HTTP and in the admin site, and the credentials for TURN."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import subprocess
import sys
import time
from typing import Any

import pytest
from django.conf import LazySettings
from django.test import Client

from calls import actions, messages
from calls.ice import credentials, ice_servers
from calls.models import Call
from calls.setup import initiate
from hplus.accounts.actions import issue_tokens
from hplus.accounts.models import Session, User
from tests.admin_site import admin_client_of
from tests.servers import ROOT

Users = dict[str, User]


def called(users: Users, caller: str, callee: str, **fields: Any) -> str:
    """A call that was taken, and ended."""
    request = messages.InitiateCall(receiver_id=callee, call_type="audio", **fields)
    call_id = str((initiate(users[caller], request, "one device").ack_data or {})["callId"])
    actions.accept(users[callee], messages.AcceptCall(call_id=call_id), "the other")
    actions.end(users[caller], messages.EndCall(call_id=call_id), "one device")
    return call_id


def get(path: str, user: User) -> Any:
    token = issue_tokens(Session.objects.create(user=user)).access
    return Client().get(path, headers={"Authorization": f"Bearer {token}"})


def test_call_records_are_own_calls_and_for_admins_the_hospitals(users: Users) -> None:
    first = called(users, "patient_123", "doctor_123", emergency_id="emergency-1")
    second = called(users, "doctor_123", "nurse_001")
    elsewhere = called(users, "patient_123", "doctor_002")
    seen = {
        "patient_123": [elsewhere, first],
        "doctor_123": [second, first],
        "nurse_001": [second],
        "doctor_456": [],
        "admin_001": [second, first],
        "admin_002": [elsewhere],
        "root": [elsewhere, second, first],
    }
    for user_id, calls in seen.items():
        found = get("/api/calls/", users[user_id]).json()
        assert [call["callId"] for call in found["calls"]] == calls, user_id
        for call_id in (first, second, elsewhere):
            answer = get(f"/api/calls/{call_id}/", users[user_id])
            assert answer.status_code == (200 if call_id in calls else 404)
            if answer.status_code == 404:
                assert answer.json()["code"] == "CALL_NOT_FOUND"

    record = get(f"/api/calls/{first}/", users["patient_123"]).json()
    assert (record["status"], record["emergencyId"], record["durationSeconds"]) == ("ended", "emergency-1", 0)
    assert record["participants"][1]["userId"] == "doctor_123"
    assert record == get("/api/calls/", users["doctor_123"]).json()["calls"][1]
    assert Client().get("/api/calls/").status_code == 401
    assert get("/api/calls/%00/", users["patient_123"]).status_code == 404


def test_call_records_are_paged(users: Users) -> None:
    calls = [called(users, "patient_123", "doctor_123") for _ in range(3)][::-1]
    page = get("/api/calls/?limit=2", users["patient_123"]).json()
    assert ([call["callId"] for call in page["calls"]], page["hasMore"]) == (calls[:2], True)
    rest = get(f"/api/calls/?limit=2&before={page['nextCursor']}", users["patient_123"]).json()
    assert [call["callId"] for call in rest["calls"]] == calls[2:]
    assert (rest["nextCursor"], rest["hasMore"]) == (None, False)
    assert get("/api/calls/?limit=0", users["patient_123"]).json()["code"] == "VALIDATION_ERROR"


def test_call_admin_is_read_only_and_of_the_own_hospital(users: Users) -> None:
    own = called(users, "patient_123", "doctor_123")
    foreign = called(users, "patient_123", "doctor_002")
    browser = admin_client_of(users["admin_001"])
    listed = browser.get("/admin/calls/call/").content.decode()
    assert own in listed
    assert foreign not in listed
    shown = browser.get(f"/admin/calls/call/{own}/change/")
    assert shown.status_code == 200
    assert "Dr. Dana Brook" in shown.content.decode()
    assert browser.get(f"/admin/calls/call/{foreign}/change/").status_code == 302  # as one that is not there
    for path in ("add/", f"{own}/delete/"):
        assert browser.get(f"/admin/calls/call/{path}").status_code == 403
    assert browser.post(f"/admin/calls/call/{own}/change/", {"status": "missed"}).status_code == 403
    assert Call.objects.get(pk=own).status == "ended"

    doctor = users["doctor_456"]
    doctor.is_staff = True
    doctor.save()
    browser.force_login(doctor)
    assert own not in browser.get("/admin/calls/call/").content.decode()
    assert browser.get(f"/admin/calls/call/{own}/change/").status_code == 403
    browser.force_login(users["patient_123"])
    assert browser.get("/admin/calls/call/").status_code == 302  # to the login


# TURN


def test_turn_credentials_are_those_coturn_expects(settings: LazySettings) -> None:
    settings.TURN_CREDENTIAL_SECONDS = 3600
    # echo -n '1700003600:patient_123' | openssl dgst -sha1 -hmac 'north' -binary | base64
    assert credentials("patient_123", "north", 1_700_000_000.9) == {
        "username": "1700003600:patient_123",
        "credential": "imUj8+oMpZVOUU+nHZw4bpx2vVY=",
    }


def test_each_participant_gets_own_ice_servers(settings: LazySettings) -> None:
    settings.TURN_URLS = ["stun:turn.test:3478", "turn:turn.test:3478", "turns:turn.test:5349"]
    settings.TURN_SECRET = "north"
    asked_at = int(time.time())
    stun, turn = ice_servers("Zoë")
    assert stun == {"urls": ["stun:turn.test:3478"]}
    assert turn["urls"] == ["turn:turn.test:3478", "turns:turn.test:5349"]
    expiry, _, user_id = turn["username"].partition(":")
    assert user_id == "Zoë"
    assert asked_at <= int(expiry) - settings.TURN_CREDENTIAL_SECONDS <= time.time()
    digest = hmac.new(b"north", turn["username"].encode(), hashlib.sha1).digest()
    assert base64.b64decode(turn["credential"]) == digest
    assert ice_servers("doctor_123")[1]["credential"] != turn["credential"]

    settings.TURN_SECRET = ""
    assert ice_servers("Zoë") == [stun]
    settings.TURN_URLS = []
    assert ice_servers("Zoë") == []


@pytest.mark.parametrize(
    ("urls", "secret", "named"),
    [("http://turn.test", "north", "TURN_URLS"), ("turn:turn.test", "", "TURN_SECRET")],
)
def test_wrong_turn_setting_stops_the_start(urls: str, secret: str, named: str) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=ROOT,
        env={**os.environ, "TURN_URLS": urls, "TURN_SECRET": secret},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert named in done.stderr.splitlines()[-1]
