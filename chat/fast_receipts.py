"""The fast path of delivered marks: one statement and one commit for all messages written meanwhile."""

from __future__ import annotations

from typing import Any

from chat.messages import MessageDelivered
from hplus.protocol.wire import encode
from hplus.realtime.execution.hot_connection import Row, Statement, texts_of
from hplus.realtime.groups import PERSONS
from hplus.realtime.publishing import publisher
from hplus.realtime.publishing.envelopes import Delivery, Envelope
from hplus.realtime.publishing.statements import mailbox_clauses

DELIVER = f"""
WITH
given AS MATERIALIZED (
  SELECT DISTINCT given.* FROM json_to_recordset($1::json) AS given(receiver text, message_id text)
),
-- The rows by their unique index, whatever the planner thinks of the table's size, locked in the order of
-- their ids.
locked AS MATERIALIZED (
  SELECT message.id FROM chat_message message
  WHERE message.delivered_at IS NULL AND message.id = ANY(ARRAY(
    SELECT found.id FROM given CROSS JOIN LATERAL (
      SELECT candidate.id FROM chat_message candidate
      WHERE candidate.message_id = given.message_id AND candidate.receiver_id = given.receiver OFFSET 0
    ) found))
  ORDER BY message.id FOR NO KEY UPDATE
),
marked AS (
  UPDATE chat_message message SET delivered_at = now() FROM locked
  WHERE message.id = locked.id AND message.delivered_at IS NULL
  RETURNING message.id AS place, message.message_id, message.room_id, message.sender_id, message.receiver_id,
    message.delivered_at
),
addressed AS (
  SELECT sender_id AS user_id, message_id AS subject, gen_random_uuid()::text AS event_id, place,
    delivered_at AS at
  FROM marked
),
{mailbox_clauses(MessageDelivered.type)}
SELECT marked.message_id, room_id, receiver_id, placed.user_id, placed.event_id, placed.seq,
  to_char(delivered_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
FROM placed JOIN marked ON marked.message_id = placed.subject ORDER BY placed.place
"""


class FastDelivered:
    """Marks (userId of the receiver, messageId) on the hot connection."""

    statement = Statement("mark_delivered", DELIVER)

    def row_of(self, mark: tuple[str, str]) -> dict[str, Any]:
        receiver, message_id = mark
        return {"receiver": receiver, "message_id": message_id}

    def land(self, rows_in: list[Row]) -> None:
        publisher.publish_in_loop([Delivery(PERSONS, "", _envelope(*row)) for row in texts_of(rows_in)])


def _envelope(
    message_id: str, room_id: str, receiver: str, sender: str, event_id: str, seq: str, delivered_at: str
) -> Envelope:
    """Make the envelope as `envelope_of(MessageDelivered.of(message))` does, without a model in between."""
    fields = {
        "type": MessageDelivered.type,
        "messageId": message_id,
        "chatRoomId": room_id,
        "userId": receiver,
        "deliveredAt": delivered_at,
    }
    return Envelope(
        event_type=MessageDelivered.type,
        frame=encode(fields),
        subject=message_id,
        topic=room_id,
        event_id=event_id,
        seqs={sender: int(seq)},
    )
