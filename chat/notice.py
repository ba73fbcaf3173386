"""How a screen that shows another conversation hears of a message: as a notification, not as a bubble."""

from __future__ import annotations

import json
from dataclasses import replace

from chat.messages import ChatMessage, MessageNotice
from hplus.realtime.parcels import Parcel


def as_notice(letter: Parcel) -> Parcel:
    """The same letter, with its place in the mailbox, in the dress of a `notification`."""
    frame = json.loads(letter.frame)
    message = ChatMessage.model_validate(frame["data"])
    notice = MessageNotice(
        notification_id=letter.event_id,
        title=message.sender_name,
        body=message.message[:200],
        priority=message.priority,
        data=message,
        timestamp=message.timestamp,
        seq=letter.seq,
        event_id=letter.event_id,
    )
    return replace(letter, word=MessageNotice.type, frame=notice.frame())
