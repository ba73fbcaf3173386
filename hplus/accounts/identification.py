"""Looking up the hospital and the token of connecting clients: of one, or of many in one statement.

`actions.identify` judges both alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import DEFAULT_DB_ALIAS, models

from hplus.accounts.models import Hospital, Session, Token, TokenKind, User
from hplus.protocol.wire import is_storable

Fetch = Callable[..., list[tuple[Any, ...]]]  # runs a prepared statement with its parameters
OPENING = (TokenKind.ACCESS, TokenKind.TICKET)


@dataclass(frozen=True, slots=True)
class Lookup:
    """Whether the hospital exists, and the token with its session and its user."""

    has_hospital: bool
    token: Token | None


def look_up(hospital_id: str, secret: str) -> Lookup:
    """Look a hospital and a token up; a blank one is missing."""
    has_hospital = bool(hospital_id) and find_hospital(hospital_id) is not None
    return Lookup(has_hospital, find_token(secret) if secret else None)


def find_hospital(hospital_id: str) -> Hospital | None:
    found: Hospital | None = Hospital.objects.with_id(hospital_id).first()
    return found


def find_token(secret: str) -> Token | None:
    """Return the access token or ticket with this secret, with its session and its user."""
    opening = Token.objects.filter(digest=Token.digest_of(secret), kind__in=OPENING)
    return opening.select_related("session__user").first()


# Many in one statement


def _fields(model: type[models.Model], *, but: str = "") -> tuple[str, ...]:
    return tuple(field.attname for field in model._meta.concrete_fields if field.attname != but)


TOKEN_FIELDS, SESSION_FIELDS = _fields(Token), _fields(Session)
USER_FIELDS = _fields(User, but="password")  # which is read when somebody needs it


def _columns(table: str, fields: Sequence[str]) -> str:
    return ", ".join(f"{table}.{field}" for field in fields)


LOOK_UP = f"""
SELECT hospital.hospital_id IS NOT NULL,
  {_columns("token", TOKEN_FIELDS)}, {_columns("session", SESSION_FIELDS)}, {_columns("person", USER_FIELDS)}
-- Each hospital and the digest of each token, in the order they were asked for; null is missing.
FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS asked(hospital_id, digest, place)
LEFT JOIN accounts_hospital hospital ON hospital.hospital_id = asked.hospital_id
-- A refresh token opens nothing.
LEFT JOIN accounts_token token ON token.digest = asked.digest AND token.kind IN ('access', 'ticket')
LEFT JOIN accounts_session session ON session.session_id = token.session_id
LEFT JOIN accounts_user person ON person.user_id = session.user_id
ORDER BY asked.place
"""


def look_up_all(asked: Sequence[tuple[str, str]], fetch: Fetch) -> list[Lookup]:
    """Like `look_up` for each hospital and token, in one statement."""
    hospital_ids = [hospital_id if is_storable(hospital_id) else None for hospital_id, _ in asked]
    digests = [Token.digest_of(secret) if secret else None for _, secret in asked]
    return [_found_in(row) for row in fetch(LOOK_UP, hospital_ids, digests)]


def _found_in(row: Sequence[Any]) -> Lookup:
    """Make the instances of one row."""
    has_hospital, values = row[0], row[1:]
    of_token, values = values[: len(TOKEN_FIELDS)], values[len(TOKEN_FIELDS) :]
    of_session, of_user = values[: len(SESSION_FIELDS)], values[len(SESSION_FIELDS) :]
    if of_token[0] is None:
        return Lookup(has_hospital, None)
    token = _loaded(Token, TOKEN_FIELDS, of_token)
    token.session = _loaded(Session, SESSION_FIELDS, of_session)
    token.session.user = _loaded(User, USER_FIELDS, of_user)
    return Lookup(has_hospital, token)


def _loaded(model: type[models.Model], fields: Sequence[str], values: Sequence[Any]) -> Any:
    return model.from_db(DEFAULT_DB_ALIAS, fields, values)
