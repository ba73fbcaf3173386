"""Push devices and the push outbox: registering, queueing, and the job that sends."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from hplus.accounts.models import Session
from hplus.portions import delete_in_portions
from hplus.push.models import PushDevice, PushOutbox, State
from hplus.push.senders import Rejected, Unregistered, current_sender

logger = logging.getLogger(__name__)
AT_ONCE = 50
LEASE_SECONDS = 60  # one worker's time to send; then another may


@dataclass(frozen=True)
class Wakeup:
    """One push to all devices of a user: its category, and the id of what to open."""

    user_id: str
    category: str
    subject: str
    event_id: str


@transaction.atomic
def register(session: Session, token: str, *, device_id: str = "", platform: str = "") -> None:
    """Register the push token of this session's device.

    A device has one token, the newest; a token has one user. It stays with another account as long as that
    one's session lives: whoever got to know a token, or a deviceId, could else silence its owner. To sign out
    there proves that it is the same device, and frees the token. A device that an administrator revoked stays
    revoked as long as this session lasts.
    """
    if PushDevice.objects.filter(session=session).exclude(revoked_at=None).exists():
        return
    device_id, digest = device_id or session.device_id, PushDevice.digest_of(token)
    others = PushDevice.objects.reachable().filter(token_digest=digest).exclude(user=session.user_id)
    if others.filter(session__tokens__expires_at__gt=timezone.now()).exists():
        logger.warning("A push token of an account that is signed in was shown by another; it stays there")
        return
    replaced = Q(user=session.user_id, device_id=device_id) & ~Q(token_digest=digest) & ~Q(device_id="")
    PushDevice.objects.filter(replaced | Q(token_digest=digest) & ~Q(user=session.user_id)).delete()
    PushDevice.objects.update_or_create(
        token_digest=digest,
        defaults={
            "user_id": session.user_id,
            "session": session,
            "device_id": device_id,
            "platform": platform,
            "token": token,
            "registered_at": timezone.now(),
            "disabled_at": None,
            "revoked_at": None,
        },
    )


def can_be_woken(user_ids: Iterable[str]) -> set[str]:
    """Return those of these users who have a reachable push device."""
    devices = PushDevice.objects.reachable().filter(user__in=list(user_ids))
    return set(devices.values_list("user_id", flat=True))


def wake(wakeups: Sequence[Wakeup]) -> None:
    """Write an outbox row for each device of each user, in the caller's transaction; a job sends them."""
    devices = PushDevice.objects.reachable().filter(user__in={w.user_id for w in wakeups})
    by_user: dict[str, list[int]] = {}
    for pk, user_id in devices.values_list("pk", "user_id"):
        by_user.setdefault(user_id, []).append(pk)
    rows = [
        PushOutbox(device_id=pk, category=w.category, subject=w.subject, event_id=w.event_id)
        for w in wakeups
        for pk in by_user.get(w.user_id, ())
    ]
    PushOutbox.objects.bulk_create(rows, ignore_conflicts=True)


# Jobs


def send_due_pushes() -> int:
    """Send all pushes that are due, batch by batch. Returns how many were tried."""
    tried = 0
    while claimed := _claim():
        tried += len(claimed)
        _send(claimed)
    return tried


@transaction.atomic
def _claim() -> list[PushOutbox]:
    """Claim up to AT_ONCE pushes that are due; they are this worker's until the lease ends."""
    due = PushOutbox.objects.due(timezone.now()).select_for_update(skip_locked=True, of=("self",))
    claimed = list(due.select_related("device__session", "device__user")[:AT_ONCE])
    PushOutbox.objects.filter(pk__in=[push.pk for push in claimed]).update(
        attempts=F("attempts") + 1, due_at=timezone.now() + timedelta(seconds=LEASE_SECONDS)
    )
    return claimed


def _send(claimed: list[PushOutbox]) -> None:
    pushes = [push for push in claimed if push.device.is_reachable]
    for push in claimed:
        if not push.device.is_reachable:
            _finish([push], State.GIVEN_UP, push.device.why_silent)
    results = list(zip(pushes, _results(pushes), strict=True)) if pushes else []
    _finish([push for push, error in results if error is None], State.SENT)
    for push, error in results:
        if error is not None:
            _record_failure(push, error)


def _finish(pushes: Sequence[PushOutbox], state: str, error: str = "") -> None:
    if pushes:
        PushOutbox.objects.filter(pk__in=[push.pk for push in pushes]).update(
            state=state, finished_at=timezone.now(), last_error=error
        )


def _results(pushes: list[PushOutbox]) -> list[Exception | None]:
    """Return for each push None where it was sent, else the error. A sender that raises has sent none."""
    try:
        return current_sender().send_each(pushes)
    except Exception as broken:
        logger.warning("Pushes were not sent and are tried again: %s", type(broken).__name__)
        return [broken] * len(pushes)


def _record_failure(push: PushOutbox, error: Exception) -> None:
    """Disable the device, give the push up, or schedule the next attempt, as the error demands."""
    if isinstance(error, Unregistered):
        push.device.disable()
    if isinstance(error, Rejected) or push.attempts + 1 >= settings.PUSH_TRIES:
        _finish([push], State.GIVEN_UP, _reason(error))
    else:
        _try_again(push, _reason(error))


def _try_again(push: PushOutbox, reason: str) -> None:
    """Schedule the next attempt after twice the last pause."""
    pause_seconds = settings.PUSH_RETRY_SECONDS * 2**push.attempts
    push.due_at, push.last_error = timezone.now() + timedelta(seconds=pause_seconds), reason
    push.save(update_fields=["due_at", "last_error"])


def _reason(error: Exception) -> str:
    """Return the error's class and code; its text might name a person, so it is not stored."""
    code = getattr(error, "code", "")
    return f"{type(error).__name__} {code}".strip()[:200]


def delete_old_pushes() -> int:
    """Delete pushes that were finished before the retention. Returns how many."""
    oldest = timezone.now() - timedelta(days=settings.PUSH_RETENTION_DAYS)
    return delete_in_portions(PushOutbox.objects.filter(finished_at__lt=oldest).order_by("finished_at"))
