"""Signing in and out, identifying clients, and who may talk to whom."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth import authenticate
from django.db import IntegrityError, transaction
from django.http import HttpRequest
from django.utils import timezone

from hplus import errors
from hplus.accounts import admin_sessions, identification, notices, passwords, session_ends
from hplus.accounts.models import Hospital, Role, Session, Token, TokenKind, User
from hplus.audit.actions import record
from hplus.audit.models import Verb
from hplus.portions import delete_in_portions
from hplus.protocol.texts import nfc
from hplus.protocol.wire import is_storable

SESSIONS_AT_ONCE = 500  # each with its devices and their pushes


@dataclass(frozen=True)
class Claim:
    """Who a connecting client says it is. Blank is missing."""

    user_id: str = ""
    role: str = ""
    hospital_id: str = ""
    department: str = ""
    specialization: str = ""
    token: str = ""
    device_id: str = ""
    # The admin session, where a page of the admin site connects without a userId or token.
    admin_session_key: str = ""

    @property
    def shown(self) -> str:
        """What it shows of who it is: its token, its cookie of the admin site, or a userId."""
        return self.token or self.admin_session_key or self.user_id

    def __post_init__(self) -> None:
        """Bring what is compared into NFC."""
        for name in ("user_id", "hospital_id", "department", "specialization", "device_id"):
            object.__setattr__(self, name, nfc(getattr(self, name)))


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a client is: the account, and the session where it showed a token or a page's cookie."""

    user: User
    session: Session | None = None
    expires_at: datetime | None = None
    admin_session_key: str = ""
    is_by_ticket: bool = False


@dataclass(frozen=True)
class Tokens:
    access: str
    refresh: str
    expires_at: datetime
    user: User


def check_claim(claim: Claim) -> None:
    """Check what must hold before any identity is read from the database.

    Raises AuthenticationFailed, InvalidRole or MissingHospitalId, in the order of the contract.
    """
    if claim.admin_session_key:
        return
    if not claim.user_id or len(claim.user_id) > 150 or not is_storable(claim.user_id):
        raise errors.AuthenticationFailed("userId is missing or is not a text of up to 150 characters.")
    if claim.role not in Role.values:
        raise errors.InvalidRole()
    if claim.role != Role.PATIENT and not claim.hospital_id:
        raise errors.MissingHospitalId()


def identify(claim: Claim) -> Identity | None:
    """Return the account behind a claim; None where a token has yet to come by `login`.

    Raises AuthenticationFailed, InvalidRole, MissingHospitalId, HospitalNotFound,
    AccountDisabled or SessionRevoked.
    """
    return _identify(claim, identification.look_up(claim.hospital_id, claim.token))


def identify_all(
    claims: Sequence[Claim], fetch: identification.Fetch | None
) -> list[Identity | Exception | None]:
    """Like `identify` for each claim, or the exception; with `fetch` in one statement for all of them."""
    wanted = [(claim.hospital_id, claim.token) for claim in claims]
    known = (
        identification.look_up_all(wanted, fetch) if fetch else [identification.look_up(*w) for w in wanted]
    )
    return [_identity_or_exception(claim, found) for claim, found in zip(claims, known, strict=True)]


def _identity_or_exception(claim: Claim, found: identification.Lookup) -> Identity | Exception | None:
    try:
        return _identify(claim, found)
    except Exception as refused:
        return refused


def _identify(claim: Claim, found: identification.Lookup) -> Identity | None:
    """Judge a claim by what was found about it. Raises like `identify`."""
    check_claim(claim)
    if claim.hospital_id and not found.has_hospital:
        raise errors.HospitalNotFound()
    if claim.admin_session_key:
        return _identify_by_admin_session(claim)
    if claim.token:
        identity = _identity_behind(found.token)
    elif settings.HPLUS_DEMO:
        identity = Identity(_demo_account(claim))
    else:
        return None
    must_match(claim, identity.user)
    _must_be_active(identity.user)
    return identity


def identify_by_token(secret: str) -> Identity:
    """Return the account behind an access token or an unused ticket, which is used up.

    Raises AuthenticationFailed, SessionRevoked or AccountDisabled.
    """
    return _identity_behind(identification.find_token(secret))


def _identity_behind(token: Token | None) -> Identity:
    if token is None:
        raise errors.AuthenticationFailed("The token is unknown.", reason="unknown")
    if token.session.revoked_at:
        raise errors.SessionRevoked()
    if token.expires_at <= timezone.now():
        reason = "expired" if token.kind == TokenKind.ACCESS else "unknown"
        raise errors.AuthenticationFailed("The token has expired.", reason=reason)
    _must_be_active(token.session.user)
    if token.kind == TokenKind.ACCESS:
        if token.used_at is None:
            token.use_up()
        return Identity(token.session.user, token.session, token.expires_at)
    if not token.use_up():
        raise errors.AuthenticationFailed("The ticket has been used.", reason="unknown")
    return Identity(token.session.user, token.session, token.opens_until, is_by_ticket=True)


def _identify_by_admin_session(claim: Claim) -> Identity:
    """Return who is signed in to the admin site; a superuser may name any hospital, others only their own."""
    user = admin_sessions.signed_in([claim.admin_session_key]).get(claim.admin_session_key)
    if user is None:
        raise errors.AuthenticationFailed("This browser is not signed in to the admin site.")
    if claim.hospital_id and not user.is_superuser and claim.hospital_id != user.hospital_id:
        raise errors.AuthenticationFailed("hospitalId is not that of the account.")
    return Identity(user, admin_session_key=claim.admin_session_key)


def find_hospital(hospital_id: str) -> Hospital:
    """Return the hospital. Raises HospitalNotFound."""
    hospital = identification.find_hospital(hospital_id)
    if hospital is None:
        raise errors.HospitalNotFound()
    return hospital


def _demo_account(claim: Claim) -> User:
    """Demo mode: return the account, or make one with this role and hospital for an unknown userId."""
    known = User.objects.select_related("hospital").filter(pk=claim.user_id).first()
    if known:
        return known
    try:
        with transaction.atomic():
            return User.objects.create_user(
                claim.user_id,
                role=claim.role,
                hospital_id=claim.hospital_id or None,
                department=claim.department[:150],
                specialization=claim.specialization[:150],
            )
    except IntegrityError:  # another screen of the same phone was quicker
        return User.objects.select_related("hospital").get(pk=claim.user_id)


def must_match(claim: Claim, user: User) -> None:
    """Raise AuthenticationFailed where the query names another user, role or hospital than the account."""
    if (claim.user_id, claim.role) != (user.user_id, user.role):
        raise errors.AuthenticationFailed("userId or role is not that of the account.")
    if claim.hospital_id and user.hospital_id and claim.hospital_id != user.hospital_id:
        raise errors.AuthenticationFailed("hospitalId is not that of the account.")


def _must_be_active(user: User) -> None:
    if not user.is_active:
        raise errors.AccountDisabled()


def sign_in(user_id: str, password: str, device_id: str = "", request: HttpRequest | None = None) -> Tokens:
    """Open a session.

    Raises AuthenticationFailed, the same for an unknown user as for a wrong password, or RateLimited.
    """
    request = request or HttpRequest()
    user = authenticate(request, username=user_id, password=password, device_id=device_id)
    if user is None:
        raise errors.AuthenticationFailed("userId or password is wrong.")
    with transaction.atomic():
        is_new = _is_new_device(user, device_id)
        tokens = issue_tokens(Session.objects.create(user=user, device_id=device_id))
        record(user, Verb.LOGIN, user, where="API", **({"newDevice": device_id} if is_new else {}))
        if is_new:
            notices.new_device(user.pk, device_id)
    return tokens


def _is_new_device(user: User, device_id: str) -> bool:
    """Whether this person has signed in before, but never on this device, which may be one without an id."""
    before = Session.objects.filter(user=user)
    return before.exists() and not before.filter(device_id=device_id).exists()


@transaction.atomic
def issue_tokens(session: Session) -> Tokens:
    """Issue the first pair of a session. Raises AuthenticationFailed where the session is past its end."""
    return _issue_pair(session, lambda kind: "", used_at=timezone.now())


def _issue_pair(session: Session, secret_of: Callable[[str], str], **of_access: Any) -> Tokens:
    now, idle = timezone.now(), session_ends.idle_seconds(session)
    refresh_seconds = session_ends.seconds_left(session, now, at_most=idle)
    if refresh_seconds <= 0:
        raise errors.AuthenticationFailed("This session is over. Please sign in again.", reason="unknown")
    access_seconds = min(settings.ACCESS_TOKEN_SECONDS, refresh_seconds)
    kind = TokenKind.ACCESS
    access, expires_at = Token.issue(session, kind, access_seconds, secret_of(kind), **of_access)
    kind = TokenKind.REFRESH
    refresh, _ = Token.issue(session, kind, refresh_seconds, secret_of(kind))
    return Tokens(access, refresh, expires_at, session.user)


def refresh(secret: str) -> Tokens:
    """Return new tokens for a refresh token, which is used up; the session's access token ends with it.

    The same one again within REFRESH_AGAIN_SECONDS, while the new pair is unused, gets the same answer: the
    first may have been lost. Later a second use is theft and ends the session.

    Raises AuthenticationFailed, SessionRevoked or AccountDisabled.
    """
    tokens = _refresh(secret)
    if isinstance(tokens, Session):
        Session.objects.filter(pk=tokens.pk).revoke("refresh token used twice")
        raise errors.SessionRevoked("This token was used before, so the session has been ended.")
    return tokens


@transaction.atomic
def _refresh(secret: str) -> Tokens | Session:
    """Return the new tokens, or the session whose token was stolen."""
    digest = Token.digest_of(secret)
    found = Token.objects.filter(digest=digest, kind=TokenKind.REFRESH).select_for_update(of=("self",))
    token = found.select_related("session__user").first()
    if token is None:
        raise errors.AuthenticationFailed("The token is unknown or has expired.", reason="unknown")
    if token.session.revoked_at:
        raise errors.SessionRevoked()
    if token.expires_at <= timezone.now():
        raise errors.AuthenticationFailed("The token is unknown or has expired.", reason="unknown")
    _must_be_active(token.session.user)
    if token.used_at is not None:
        return _same_answer(token, secret) or token.session
    token.used_at, token.successor_salt = timezone.now(), secrets.token_hex(16)
    token.save(update_fields=["used_at", "successor_salt"])
    opened = token.session.tokens.filter(kind=TokenKind.ACCESS, expires_at__gt=token.used_at)
    opened.update(expires_at=token.used_at)
    return _issue_pair(token.session, lambda kind: token.successor(secret, kind))


def _same_answer(token: Token, secret: str) -> Tokens | None:
    """Return the pair that replaced this token, while it is fresh and nobody has shown either of it."""
    if not token.successor_salt or token.used_at is None:
        return None
    if timezone.now() - token.used_at > timedelta(seconds=settings.REFRESH_AGAIN_SECONDS):
        return None
    keys = (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
    return next(filter(None, (_unused_pair(token, secret, key) for key in keys)), None)


def _unused_pair(token: Token, secret: str, key: str) -> Tokens | None:
    """Return the pair that replaced this token, where it was made with this key and is unused."""
    access = token.successor(secret, TokenKind.ACCESS, key)
    refresh = token.successor(secret, TokenKind.REFRESH, key)
    digests = [Token.digest_of(access), Token.digest_of(refresh)]
    pair = Token.objects.filter(digest__in=digests, used_at=None, expires_at__gt=timezone.now())
    expires_at = {row.kind: row.expires_at for row in pair}
    if len(expires_at) < 2:
        return None
    return Tokens(access, refresh, expires_at[TokenKind.ACCESS], token.session.user)


def issue_ticket(identity: Identity) -> str:
    """Return a ticket for one handshake within TICKET_SECONDS, for clients that cannot set a header.

    What it opens ends when the token does that was shown. Raises AuthenticationFailed without a session.
    """
    if identity.session is None:
        raise errors.AuthenticationFailed("A ticket needs a session.")
    seconds, until = settings.TICKET_SECONDS, identity.expires_at
    return Token.issue(identity.session, TokenKind.TICKET, seconds, opens_until=until)[0]


def sign_out(identity: Identity, *, device_id: str = "", all_devices: bool = False) -> None:
    """End this session, that of one device, or all."""
    sessions = Session.objects.filter(user=identity.user)
    if all_devices:
        sign_out_everywhere([identity.user], "signed out everywhere")
    elif device_id:
        sessions.filter(device_id=device_id).revoke("signed out")
    if identity.session:
        sessions.filter(pk=identity.session.pk).revoke("signed out")


@transaction.atomic
def sign_out_everywhere(users: Sequence[User], reason: str) -> None:
    """End all sessions of these people at once, on their devices and in the admin site."""
    User.objects.filter(pk__in=[user.pk for user in users]).update(signed_out_at=timezone.now())
    Session.objects.filter(user__in=users).revoke(reason)
    admin_sessions.sign_out([user.pk for user in users if user.is_staff])


def set_password(user: User, password: str) -> None:
    """Change the password; `User.save` ends the sessions opened with the old one. Raises ValidationFailed."""
    passwords.check_new(user, password)
    user.set_password(password)
    user.save(update_fields=["password"])


def delete_expired_tokens() -> int:
    return delete_in_portions(Token.objects.filter(expires_at__lt=timezone.now()).order_by("expires_at"))


def delete_old_sessions() -> int:
    """Delete sessions without a token and without a connection that are older than the retention."""
    oldest = timezone.now() - timedelta(days=settings.SESSION_RETENTION_DAYS)
    over = Session.objects.filter(tokens=None, connection=None, created_at__lt=oldest)
    return delete_in_portions(over.exclude(revoked_at__gte=oldest), SESSIONS_AT_ONCE)


# Who may talk to whom: in chats as in calls


def counterpart(user: User, other_id: str, hospital_id: str) -> User:
    """Return the other side of a conversation in this hospital. Raises like `must_be_counterpart`."""
    other = User.objects.filter(pk=other_id).first()
    return must_be_counterpart(user, other, hospital_id)


def must_be_counterpart(user: User, other: User | None, hospital_id: str) -> User:
    """Check that these two may talk: a patient and the hospital's staff, or two of its staff.

    Raises HospitalMismatch, HospitalNotFound, UserNotFound (also for staff of another hospital, and for a
    patient whom a patient names) or ValidationFailed (oneself).
    """
    if not user.is_patient and user.hospital_id != hospital_id:
        raise errors.HospitalMismatch()
    if other is not None and other.pk == user.pk:
        raise errors.ValidationFailed("This is yourself.", field="receiverId", reason="is yourself")
    if other is None or not other.is_active or not _may_meet(user, other, hospital_id):
        find_hospital(hospital_id)
        raise errors.UserNotFound()
    return other


def _may_meet(user: User, other: User, hospital_id: str) -> bool:
    return not user.is_patient if other.is_patient else other.works_at(hospital_id)
