"""Coming, going, being there, and catching up."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from hplus import errors
from hplus.accounts import actions as accounts
from hplus.accounts.actions import Identity
from hplus.accounts.models import STAFF_ROLES, User
from hplus.push import actions as push
from hplus.realtime import groups, messages, rounds
from hplus.realtime.answers import Answer
from hplus.realtime.models import (
    Connection,
    Contact,
    Epoch,
    Letter,
    Mailbox,
    Presence,
    ServerProcess,
    Status,
)
from hplus.realtime.parcels import Parcel
from hplus.realtime.tell import deed, tell
from hplus.realtime.waking import wake_for_unheard

UNHEARD_SECONDS = 90  # a dead connection is noticed after at most 40, and then comes the grace
UNHEARD_AT_GOODBYE_SECONDS = 1  # what crossed the client's Close frame
DEAD_AFTER_SECONDS = 15  # a server beats every two; a database may be frozen for ten
REPLAY_MOST = 10_000


# The words of the connection


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


# Coming and going


@dataclass(frozen=True)
class Arrival:
    """What the database says to a socket that has just sat down."""

    epoch: str
    last_seq: int
    snapshot: dict[str, Any]


def arrive(server: rounds.Server, connection: Connection, snapshot: Callable[[], dict[str, Any]]) -> Arrival:
    """Register a socket and read what its user should see first. Raises TooManyConnections."""
    server.register()
    _register(connection)
    box, _ = Mailbox.objects.get_or_create(pk=connection.user_id)
    return Arrival(Epoch.current(), box.last_seq, snapshot())


@deed
def _register(connection: Connection) -> None:
    presence, _ = Presence.objects.select_for_update().get_or_create(pk=connection.user_id)
    most = settings.HPLUS_MAX_SOCKETS_PER_USER
    if most and Connection.objects.filter(user=connection.user_id).count() >= most:
        raise errors.TooManyConnections()
    connection.save(force_insert=True)
    _be_there(connection.user, presence)


def _be_there(user: User, presence: Presence) -> None:
    was_offline = presence.status == Status.OFFLINE
    presence.offline_due_at = None
    presence.last_seen_at = timezone.now()
    if was_offline:
        presence.status = Status.AVAILABLE
    presence.save()
    if was_offline:
        _tell_presence(user, presence)


def come_back(connections: Iterable[Connection]) -> None:
    """Their server was taken for dead, and they with it; but they have been here all along."""
    for user in {connection.user_id: connection.user for connection in connections}.values():
        _come_back(user)


@deed
def _come_back(user: User) -> None:
    presence = Presence.objects.select_for_update().filter(pk=user.pk).first()
    if presence is not None and Connection.objects.filter(user=user).exists():
        _be_there(user, presence)


@deed
def depart(connection: Connection, is_clean: bool) -> None:
    """A socket has gone. After a clean goodbye its user is offline at once, else after a grace."""
    # With the mailbox locked, a deed that writes a letter either sees us gone or is seen below.
    Mailbox.objects.select_for_update().filter(pk=connection.user_id).first()
    Connection.objects.filter(pk=connection.pk).delete()
    presence = Presence.objects.select_for_update().filter(pk=connection.user_id).first()
    if presence is None or Connection.objects.filter(user=connection.user_id).exists():
        return
    presence.last_seen_at = timezone.now()
    if is_clean:
        _go_offline(connection.user, presence)
        _wake_for_unheard(presence, UNHEARD_AT_GOODBYE_SECONDS)
    else:
        presence.offline_due_at = timezone.now() + timedelta(seconds=settings.PRESENCE_GRACE_SECONDS)
        presence.save()


@deed
def set_status(user: User, status: str) -> None:
    """What somebody wants others to see; told each time, as who came meanwhile has not heard it."""
    presence, _ = Presence.objects.select_for_update().get_or_create(pk=user.pk)
    presence.status, presence.last_seen_at = status, timezone.now()
    presence.save()
    _tell_presence(user, presence)


def _go_offline(user: User, presence: Presence) -> None:
    was_offline = presence.status == Status.OFFLINE
    presence.status, presence.offline_due_at = Status.OFFLINE, None
    presence.save()
    if not was_offline:
        _tell_presence(user, presence)


def _wake_for_unheard(presence: Presence, seconds: float) -> None:
    wake_for_unheard(presence.pk, since=timezone.now() - timedelta(seconds=seconds))


def _tell_presence(user: User, presence: Presence) -> None:
    """To the staff of one's hospital and to those one shares a room or an emergency with."""
    kind = messages.UserOffline if presence.status == Status.OFFLINE else messages.UserOnline
    event = kind(
        user_id=user.user_id,
        role=user.role,
        hospital_id=user.hospital_id,
        status=presence.status,
        last_seen=presence.last_seen_at,
        timestamp=timezone.now(),
    )
    tell(event, *_presence_audience(user), but=[user.user_id])


def _presence_audience(user: User) -> list[groups.Group]:
    contacts = Contact.objects.filter(user=user)
    if user.is_patient:
        contacts = contacts.exclude(contact__role="patient")
        return [groups.person(pk) for pk in contacts.values_list("contact_id", flat=True).distinct()]
    others = contacts.exclude(contact__hospital=user.hospital_id, contact__role__in=STAFF_ROLES)
    audience = [groups.person(pk) for pk in others.values_list("contact_id", flat=True).distinct()]
    return [*audience, groups.staff(user.hospital_id)] if user.hospital_id else audience


def online_among(user_ids: Iterable[str]) -> set[str]:
    """Those of these people who are there."""
    there = Presence.objects.filter(pk__in=list(user_ids)).exclude(status=Status.OFFLINE)
    return set(there.values_list("pk", flat=True))


# Duties


def say_goodbye_for_the_gone() -> int:
    """Whoever has had no socket for the grace is offline. Returns how many."""
    due = Presence.objects.filter(offline_due_at__lte=timezone.now()).values_list("pk", flat=True)
    return sum(_say_goodbye(user_id) for user_id in due[:200])


@deed
def _say_goodbye(user_id: str) -> bool:
    claimed = (
        Presence.objects.select_for_update(skip_locked=True, of=("self",))
        .select_related("user")
        .filter(pk=user_id, offline_due_at__lte=timezone.now())
        .first()
    )
    if claimed is None:
        return False
    if Connection.objects.filter(user=user_id).exists():
        Presence.objects.filter(pk=user_id).update(offline_due_at=None)
        return False
    _go_offline(claimed.user, claimed)
    _wake_for_unheard(claimed, UNHEARD_SECONDS)
    return True


def bury_dead_servers() -> int:
    """A server not seen for a while is dead; its sockets are gone, and their users with them."""
    dead = ServerProcess.objects.filter(seen_at__lt=timezone.now() - timedelta(seconds=DEAD_AFTER_SECONDS))
    buried, _ = dead.delete()
    no_socket = ~Exists(Connection.objects.filter(user=OuterRef("pk")))
    ghosts = Presence.objects.filter(~Q(status=Status.OFFLINE) & no_socket, offline_due_at=None)
    ghosts.update(offline_due_at=timezone.now() + timedelta(seconds=settings.PRESENCE_GRACE_SECONDS))
    return buried


def delete_old_letters() -> int:
    """Letters older than the retention; who was away longer reads the state by REST."""
    oldest = timezone.now() - timedelta(days=settings.LETTER_RETENTION_DAYS)
    return Letter.objects.filter(at__lt=oldest).delete()[0]


# Catching up


@dataclass(frozen=True)
class Replay:
    """What a mailbox holds after a cursor; not `recovered` where that is too old or of another epoch."""

    recovered: bool
    letters: list[tuple[int, Parcel | None]]
    since: int = 0
    has_more: bool = False

    def for_user(self, user_id: str) -> list[Parcel]:
        return [parcel.letter_for(user_id, seq) for seq, parcel in self.letters if parcel is not None]


def replay(user: User, since: int, epoch: str | None, up_to: int, most: int = REPLAY_MOST) -> Replay:
    """The letters after `since`, in order."""
    if (epoch and epoch != Epoch.current()) or since > up_to or not _reaches_back_to(user, since, up_to):
        return Replay(recovered=False, letters=[])
    found = rounds.letters(user.pk, since, up_to, most)
    last = found[-1][0] if found else up_to
    return Replay(recovered=True, letters=found, since=since, has_more=last < up_to)


def replay_all(user: User, since: int, epoch: str | None, up_to: int) -> Replay:
    """For a handshake: all of it, or it is not recovered; a gap that nobody hears of would be a loss."""
    found = replay(user, since, epoch, up_to)
    return Replay(recovered=False, letters=[]) if found.has_more else found


def _reaches_back_to(user: User, since: int, up_to: int) -> bool:
    """Whether the letter right after the cursor is still there."""
    return since == up_to or Letter.objects.filter(user=user, seq=since + 1).exists()


def sync(user: User, request: messages.Sync) -> Answer:
    box, _ = Mailbox.objects.get_or_create(pk=user.pk)
    found = replay(user, request.since, request.epoch, box.last_seq, request.limit)
    told = found.for_user(user.pk)
    to = found.letters[-1][0] if found.letters else box.last_seq
    complete = messages.SyncComplete(
        from_=request.since,
        to=to,
        recovered=found.recovered,
        has_more=found.has_more,
        epoch=Epoch.current(),
    )
    return Answer(says=[*told, complete], repeats=True)
