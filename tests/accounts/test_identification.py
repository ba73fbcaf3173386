"""Who a client is: found for many in one statement, and judged as for one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django.db import connection
from pytest_django import Settings

from hplus.accounts import actions
from hplus.accounts.actions import Claim, Identity
from hplus.accounts.models import Session, Token, TokenKind, User
from hplus.realtime.execution import prepared

DOCTOR = Claim(user_id="doctor_123", role="doctor", hospital_id="hospital_001")
PATIENT = Claim(user_id="patient_123", role="patient")

pytestmark = pytest.mark.skipif(connection.vendor != "postgresql", reason="one statement is PostgreSQL's")


def token_of(user_id: str, kind: str = TokenKind.ACCESS, *, lifetime_seconds: float = 60) -> str:
    session = Session.objects.create(user_id=user_id, device_id="phone")
    return Token.issue(session, kind, lifetime_seconds)[0]


def revoked(user_id: str) -> str:
    secret = token_of(user_id)
    Session.objects.filter(tokens__digest=Token.digest_of(secret)).revoke("stolen")
    return secret


def used_ticket() -> str:
    secret = token_of("doctor_123", TokenKind.TICKET)
    assert Token.objects.get(digest=Token.digest_of(secret)).use_up()
    return secret


def admin_session(user_id: str) -> str:
    user, store = User.objects.get(pk=user_id), SessionStore()
    store[SESSION_KEY], store[HASH_SESSION_KEY] = user.pk, user.get_session_auth_hash()
    store[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    store.create()
    assert store.session_key
    return store.session_key


def with_token(claim: Claim, kind: str = TokenKind.ACCESS, **options: Any) -> Callable[[], Claim]:
    return lambda: replace(claim, token=token_of(claim.user_id, kind, **options))


CASES: list[tuple[str, Callable[[], Claim]]] = [
    ("no token", lambda: DOCTOR),
    ("a token", with_token(DOCTOR)),
    ("a patient's token", with_token(PATIENT)),
    ("a patient names a hospital", with_token(replace(PATIENT, hospital_id="hospital_002"))),
    ("a patient names no hospital there is", with_token(replace(PATIENT, hospital_id="hospital_999"))),
    ("unknown", lambda: replace(DOCTOR, token="x")),
    ("not even text", lambda: replace(DOCTOR, token="\ud7ff\x00")),
    ("expired", with_token(DOCTOR, lifetime_seconds=0)),
    ("a refresh token", with_token(DOCTOR, TokenKind.REFRESH)),
    ("a ticket", with_token(DOCTOR, TokenKind.TICKET)),
    ("an expired ticket", with_token(DOCTOR, TokenKind.TICKET, lifetime_seconds=0)),
    ("a used ticket", lambda: replace(DOCTOR, token=used_ticket())),
    ("revoked", lambda: replace(DOCTOR, token=revoked("doctor_123"))),
    ("deactivated", lambda: replace(DOCTOR, user_id="doctor_456", token=token_of("doctor_456"))),
    ("another user's", lambda: replace(DOCTOR, token=token_of("nurse_001"))),
    ("another role", lambda: replace(DOCTOR, role="nurse", token=token_of("doctor_123"))),
    ("another hospital", lambda: replace(DOCTOR, hospital_id="hospital_002", token=token_of("doctor_123"))),
    ("no hospital there is", lambda: replace(DOCTOR, hospital_id="hospital_999", token="x")),
    ("NUL in the hospital", lambda: replace(DOCTOR, hospital_id="a\x00b", token=token_of("doctor_123"))),
    ("no hospital", lambda: replace(DOCTOR, hospital_id="", token=token_of("doctor_123"))),
    ("no role", lambda: replace(DOCTOR, role="surgeon", token=token_of("doctor_123"))),
    ("no user", lambda: replace(DOCTOR, user_id="", token=token_of("doctor_123"))),
    ("nobody has this name", lambda: replace(PATIENT, user_id="new\N{SNOWMAN}")),
    ("a page of the admin site", lambda: Claim(admin_session_key=admin_session("admin_001"))),
    (
        "a page of the admin site for another hospital",
        lambda: Claim(hospital_id="hospital_002", admin_session_key=admin_session("admin_001")),
    ),
    ("no such admin session", lambda: Claim(admin_session_key="x")),
]


def told(outcome: Identity | BaseException | None) -> object:
    """All that is known of an outcome afterwards."""
    if isinstance(outcome, Identity):
        user, session = outcome.user, outcome.session
        seen = {field: getattr(user, field) for field in ("pk", "role", "hospital_id", "name", "department")}
        return seen, user.is_superuser, session and (session.user_id, session.device_id, session.revoked_at)
    return outcome and (type(outcome), str(outcome), vars(outcome))


def by_the_action(claim: Claim) -> Identity | BaseException | None:
    try:
        return actions.identify(claim)
    except Exception as refused:
        return refused


@pytest.mark.parametrize("is_demo", [False, True])
def test_batch_of_claims_gets_the_outcome_of_each_alone(
    users: dict[str, User], settings: Settings, is_demo: bool
) -> None:
    settings.HPLUS_DEMO = is_demo
    User.objects.filter(pk="doctor_456").update(is_active=False)
    alone = [(name, told(by_the_action(make()))) for name, make in CASES]
    User.objects.filter(pk="new\N{SNOWMAN}").delete()
    together = actions.identify_all([make() for _, make in CASES], prepared.statements.fetch)
    assert [(name, told(outcome)) for (name, _), outcome in zip(CASES, together, strict=True)] == alone
    # Each kind of outcome is among them.
    kinds = {type(outcome).__name__ for outcome in together}
    assert {"Identity", "AuthenticationFailed", "SessionRevoked", "AccountDisabled"} <= kinds
    assert {"HospitalNotFound", "InvalidRole"} <= kinds
    assert is_demo or "NoneType" in kinds


def test_identity_from_a_batch_expires_with_its_token(users: dict[str, User]) -> None:
    claim = replace(DOCTOR, token=token_of("doctor_123"))
    ticket = replace(DOCTOR, token=token_of("doctor_123", TokenKind.TICKET))
    [identity, by_ticket] = actions.identify_all([claim, ticket], prepared.statements.fetch)
    assert isinstance(identity, Identity)
    assert identity.expires_at == Token.objects.get(digest=Token.digest_of(claim.token)).expires_at
    assert isinstance(by_ticket, Identity)
    assert by_ticket.expires_at is None


def test_ticket_used_twice_at_once_is_accepted_once(users: dict[str, User]) -> None:
    claim = replace(DOCTOR, token=token_of("doctor_123", TokenKind.TICKET))
    first, second = actions.identify_all([claim, claim], prepared.statements.fetch)
    assert isinstance(first, Identity)
    assert str(second) == "The ticket has been used."


def test_password_hash_is_loaded_only_when_needed(users: dict[str, User]) -> None:
    claim = replace(DOCTOR, token=token_of("doctor_123"))
    [identity] = actions.identify_all([claim], prepared.statements.fetch)
    assert isinstance(identity, Identity)
    assert identity.user.get_deferred_fields() == {"password"}
    assert identity.user.check_password("hplus-demo")
