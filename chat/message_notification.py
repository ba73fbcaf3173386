"""A message of a conversation that is not open on the screen: sent as a `notification`."""

from __future__ import annotations

import json
from dataclasses import replace

from chat.messages import ChatMessage, MessageNotification
from hplus.realtime.publishing.envelopes import Envelope


def as_notification(entry: Envelope) -> Envelope:
    """Return the same mailbox entry as a `notification` frame, with its seq."""
    frame = json.loads(entry.frame)
    message = ChatMessage.model_validate(frame["data"])
    notice = MessageNotification(
        notification_id=entry.event_id,
        title=message.sender_name,
        body=message.message[:200],
        priority=message.priority,
        data=message,
        timestamp=message.timestamp,
    )
    return replace(entry, event_type=MessageNotification.type, frame=notice.frame())
