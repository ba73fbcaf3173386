"""THE table: which domains the one socket carries, and which duties somebody must do on time."""

from __future__ import annotations

from django.urls import path, re_path

from calls import leaving
from calls.consumers import CallsConsumer
from chat.consumers import ChatConsumer
from emergency.consumers import EmergencyConsumer
from emergency.escalation import end_diversions, escalate_due
from hplus.accounts.actions import delete_expired_tokens, delete_old_sessions
from hplus.notifications.actions import delete_old_notifications
from hplus.notifications.consumers import NotificationsConsumer
from hplus.push.actions import delete_old_pushes, send_due_pushes
from hplus.realtime import catching_up, presence
from hplus.realtime.consumers import HostConsumer
from hplus.realtime.duties import Duty
from hplus.realtime.process import nowhere
from hplus.retention import anonymise_what_expired
from location.actions import forget_old_fixes, forget_old_whereabouts
from location.consumers import LocationConsumer


class HPlusConsumer(HostConsumer):
    """The one socket of a phone."""

    domains = (
        ChatConsumer,
        EmergencyConsumer,
        LocationConsumer,
        CallsConsumer,
        NotificationsConsumer,
    )


class BoardConsumer(HostConsumer):
    """The socket of a board: emergencies, positions and notices.

    It shows no chats, so a message must not count as delivered because a board is open.
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
    re_path(r"", nowhere),
]

DUTIES = [
    Duty(escalate_due, every_seconds=0.5),
    Duty(end_diversions, every_seconds=5),
    Duty(presence.bury_dead_servers, every_seconds=5),
    Duty(presence.say_goodbye_for_the_gone, every_seconds=1),
    Duty(leaving.miss_the_unanswered, every_seconds=1),
    Duty(leaving.let_the_dropped_go, every_seconds=1),
    Duty(catching_up.delete_old_letters, every_seconds=3600),
    Duty(delete_expired_tokens, every_seconds=3600),
    Duty(delete_old_sessions, every_seconds=3600),
    Duty(forget_old_fixes, every_seconds=10),
    Duty(forget_old_whereabouts, every_seconds=3600),
    Duty(send_due_pushes, every_seconds=1, apart=True),
    Duty(delete_old_notifications, every_seconds=3600),
    Duty(delete_old_pushes, every_seconds=3600),
    Duty(anonymise_what_expired, every_seconds=3600, apart=True),
]
