"""Signing in and out on an open connection, replay, and the other requests of the connection itself."""

from __future__ import annotations

from django.utils import timezone

from hplus import errors
from hplus.accounts import actions as accounts
from hplus.accounts.actions import Identity
from hplus.accounts.models import User
from hplus.protocol.wire import Event
from hplus.push import actions as push
from hplus.realtime import groups, messages
from hplus.realtime.actions import Result, action, publish
from hplus.realtime.models import Connection, Epoch, Mailbox
from hplus.realtime.publishing.envelopes import Envelope
from hplus.realtime.publishing.replay import replay


def login(user: User, connection_id: str, request: messages.Login) -> Identity:
    """Take a fresh token on an open connection, which ends with that token's session from now on.

    Raises AuthenticationFailed, also where the token is another user's.
    """
    identity = accounts.identify_by_token(request.token)
    if identity.user.pk != user.pk:
        raise errors.AuthenticationFailed("The token is another user's.")
    Connection.objects.filter(pk=connection_id).update(session=identity.session)
    _note_device(identity, request)
    return identity


def first_login(claim: accounts.Claim, request: messages.Login) -> Identity:
    """Take the token that came as the first message. Raises AuthenticationFailed."""
    identity = accounts.identify_by_token(request.token)
    accounts.must_match(claim, identity.user)
    _note_device(identity, request)
    return identity


def _note_device(identity: Identity, request: messages.Login) -> None:
    """Register where this user can be woken while no connection is open."""
    push_token = (request.push_token or "").strip()
    if push_token and identity.session is not None:
        push.register(
            identity.session,
            push_token,
            device_id=request.device_id or "",
            platform=request.platform or "",
        )


def login_success(identity: Identity) -> messages.LoginSuccess:
    user = identity.user
    return messages.LoginSuccess(
        user_id=user.user_id,
        role=user.role,
        hospital_id=user.hospital_id,
        expires_at=identity.expires_at,
    )


@action
def logout(identity: Identity, connection_id: str, request: messages.Logout) -> Result:
    accounts.sign_out(identity, device_id=request.device_id or "", all_devices=request.all_devices)
    if request.all_devices:
        publish(
            messages.SignedOut(user_id=identity.user.user_id, but=connection_id),
            groups.person(identity.user.pk),
        )
    return Result(events=[messages.LogoutSuccess()], close_code=1000)


def heartbeat(request: messages.Heartbeat) -> messages.HeartbeatAnswer:
    return messages.HeartbeatAnswer(timestamp=request.client_timestamp, server_time=timezone.now())


def join_hospital(user: User, hospital_id: str) -> Result:
    """Subscribe to what a hospital announces; its staff get its events anyway.

    Raises HospitalMismatch or HospitalNotFound.
    """
    if not user.is_patient and user.hospital_id != hospital_id:
        raise errors.HospitalMismatch()
    hospital = accounts.find_hospital(hospital_id)
    info = messages.HospitalInfo(name=hospital.name, on_diversion=hospital.is_on_diversion)
    joined = messages.HospitalJoined(hospital_id=hospital_id, data=info)
    return Result(events=[joined], subscribe=[groups.announcements(hospital_id)])


def sync(user: User, request: messages.Sync) -> Result:
    """Replay the mailbox after a cursor, at most `limit` entries, and say whether there are more."""
    last_seq = Mailbox.objects.last_seq_of(user.pk)
    found = replay(user, request.since, request.epoch, last_seq, request.limit)
    complete = messages.SyncComplete(
        from_=request.since,
        to=found.entries[-1][0] if found.entries else last_seq,
        recovered=found.recovered,
        has_more=found.has_more,
        epoch=Epoch.of(user),
    )
    events: list[Event | Envelope] = [*found.for_user(user.pk), complete]
    return Result(events=events, replayed=True, rows=len(found.entries))
