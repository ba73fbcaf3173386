"""Signing in and out on a live socket, and the other words of the connection itself."""

from __future__ import annotations

from django.utils import timezone

from hplus import errors
from hplus.accounts import actions as accounts
from hplus.accounts.actions import Identity
from hplus.accounts.models import User
from hplus.push import actions as push
from hplus.realtime import groups, messages
from hplus.realtime.answers import Answer
from hplus.realtime.models import Connection
from hplus.realtime.tell import deed, tell


def login(user: User, connection_id: str, request: messages.Login) -> Identity:
    """A fresh token on a live socket, which ends with that token's session from now on.

    Raises AuthenticationFailed, also where it is somebody else's.
    """
    identity = accounts.identify_by_token(request.token)
    if identity.user.pk != user.pk:
        raise errors.AuthenticationFailed("The token is another user's.")
    Connection.objects.filter(pk=connection_id).update(session=identity.session)
    _note_device(identity, request)
    return identity


def first_login(claim: accounts.Claim, request: messages.Login) -> Identity:
    """The token that came as the first message. Raises AuthenticationFailed where it is somebody else's."""
    identity = accounts.identify_by_token(request.token)
    accounts.must_match(claim, identity.user)
    _note_device(identity, request)
    return identity


def _note_device(identity: Identity, request: messages.Login) -> None:
    """Where this user can be woken while no socket is open."""
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


@deed
def logout(identity: Identity, connection_id: str, request: messages.Logout) -> Answer:
    accounts.sign_out(identity, device_id=request.device_id or "", all_devices=request.all_devices)
    if request.all_devices:
        tell(
            messages.SignedOut(user_id=identity.user.user_id, but=connection_id),
            groups.person(identity.user.pk),
        )
    return Answer(says=[messages.LogoutSuccess()], close_code=1000)


def heartbeat(request: messages.Heartbeat) -> messages.HeartbeatAnswer:
    return messages.HeartbeatAnswer(timestamp=request.client_timestamp, server_time=timezone.now())


def join_hospital(user: User, hospital_id: str) -> Answer:
    """Staff hear their own hospital anyway; a patient hears what it announces.

    Raises HospitalMismatch or HospitalNotFound.
    """
    if not user.is_patient and user.hospital_id != hospital_id:
        raise errors.HospitalMismatch()
    hospital = accounts.find_hospital(hospital_id)
    info = messages.HospitalInfo(name=hospital.name, on_diversion=hospital.is_on_diversion)
    joined = messages.HospitalJoined(hospital_id=hospital_id, data=info)
    return Answer(says=[joined], joins=[groups.announcements(hospital_id)])
