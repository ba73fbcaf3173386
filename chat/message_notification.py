"""How a screen that shows another conversation hears of a message: as a notification, not as a bubble."""

from __future__ import annotations

import json
from dataclasses import replace

from chat.messages import ChatMessage, MessageNotice
from hplus.realtime.publishing.envelopes import Envelope


def as_notice(entry: Envelope) -> Envelope:
    """The same letter, with its place in the mailbox, in the dress of a `notification`."""
    frame = json.loads(entry.frame)
    message = ChatMessage.model_validate(frame["data"])
    notice = MessageNotice(
        notification_id=entry.event_id,
        title=message.sender_name,
        body=message.message[:200],
        priority=message.priority,
        data=message,
        timestamp=message.timestamp,
    )
    return replace(entry, event_type=MessageNotice.type, frame=notice.frame())
