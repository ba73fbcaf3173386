"""The table of the server: which domains each socket address carries, and which periodic jobs run."""

from __future__ import annotations

from django.urls import path, re_path

from calls import teardown
from calls.consumers import CallsConsumer
from chat.consumers import ChatConsumer
from chat.retention import delete_unnamed_uploads
from emergency.consumers import EmergencyConsumer
from emergency.escalation import (
    emergencies_to_escalate,
    end_diversions,
    escalate_due,
    hospitals_to_reopen,
)
from emergency.stalled import check_due, emergencies_to_check
from hplus.accounts import admin_sessions
from hplus.accounts.actions import delete_expired_tokens, delete_old_sessions
from hplus.accounts.login_throttle import delete_forgotten
from hplus.notifications.actions import delete_old_notifications
from hplus.notifications.consumers import NotificationsConsumer
from hplus.operations.retention import anonymise_expired
from hplus.push.actions import delete_old_pushes, send_due_pushes
from hplus.push.models import PushOutbox
from hplus.realtime.consumers import HostConsumer
from hplus.realtime.hub import expiry
from hplus.realtime.process import close_unknown_path
from hplus.realtime.publishing import replay
from hplus.realtime.scheduler import PeriodicJob
from location.actions import delete_old_fixes, delete_old_positions
from location.consumers import LocationConsumer


class HPlusConsumer(HostConsumer):
    """The socket of an app, with all domains."""

    domains = (
        ChatConsumer,
        EmergencyConsumer,
        LocationConsumer,
        CallsConsumer,
        NotificationsConsumer,
    )


class BoardConsumer(HostConsumer):
    """The socket of the live board: emergencies, positions and notices.

    Without chat, so that no message counts as delivered because a live board is open.
    """

    domains = (EmergencyConsumer, LocationConsumer, NotificationsConsumer)


socket_urls = [
    re_path(r"^$", HPlusConsumer.as_asgi()),
    path("ws/chat/", ChatConsumer.as_asgi()),
    path("ws/emergency/", EmergencyConsumer.as_asgi()),
    path("ws/location/", LocationConsumer.as_asgi()),
    path("ws/board/", BoardConsumer.as_asgi()),
    path("ws/calls/", CallsConsumer.as_asgi()),
    path("ws/notifications/", NotificationsConsumer.as_asgi()),
    re_path(r"", close_unknown_path),
]

JOBS = [
    # What must be on time: each has a thread of its own.
    PeriodicJob(escalate_due, every_seconds=0.5, due=emergencies_to_escalate),
    PeriodicJob(check_due, every_seconds=0.5, due=emergencies_to_check),
    PeriodicJob(end_diversions, every_seconds=5, due=hospitals_to_reopen),
    PeriodicJob(expiry.expire_dead_servers, every_seconds=5),
    PeriodicJob(expiry.expire_presence, every_seconds=1, due=expiry.presences_to_expire),
    PeriodicJob(teardown.mark_missed_calls, every_seconds=1, due=teardown.unanswered),
    PeriodicJob(teardown.drop_lost_participants, every_seconds=1, due=teardown.maybe_lost),
    PeriodicJob(send_due_pushes, every_seconds=1, due=PushOutbox.objects.due),
    # What may wait: one after another in one thread, in short transactions.
    PeriodicJob(replay.delete_old_entries, every_seconds=3600, may_wait=True),
    PeriodicJob(delete_expired_tokens, every_seconds=3600, may_wait=True),
    PeriodicJob(delete_old_sessions, every_seconds=3600, may_wait=True),
    PeriodicJob(admin_sessions.delete_expired, every_seconds=3600, may_wait=True),
    PeriodicJob(delete_forgotten, every_seconds=3600, may_wait=True),
    PeriodicJob(delete_old_fixes, every_seconds=60, may_wait=True),
    PeriodicJob(delete_old_positions, every_seconds=3600, may_wait=True),
    PeriodicJob(delete_old_notifications, every_seconds=3600, may_wait=True),
    PeriodicJob(delete_old_pushes, every_seconds=3600, may_wait=True),
    PeriodicJob(anonymise_expired, every_seconds=3600, may_wait=True),
    PeriodicJob(delete_unnamed_uploads, every_seconds=3600, may_wait=True),
]
