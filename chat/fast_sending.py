"""The fast path of `sendMessage`: one statement and one commit for all messages that wait.

It stores what is plainly right: a text without a reply, a file or a place, between two people whose room is
there. Whatever it does not return (a refusal, a repetition, a new room) goes through `sending.send_all`,
which knows all the rules; `tests/chat/test_fast_sending.py` sends every case both ways and compares.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from chat.messages import NewMessage, SendMessage
from chat.models import ChatRoom, MessageType
from chat.sending import IDEMPOTENCY
from hplus.protocol.wire import encode, new_id, rfc3339
from hplus.realtime.actions import Command, Result
from hplus.realtime.execution.hot_connection import Row, Statement, texts_of
from hplus.realtime.groups import PERSONS
from hplus.realtime.publishing import publisher
from hplus.realtime.publishing.envelopes import Delivery, Envelope
from hplus.realtime.publishing.statements import mailbox_clauses, push_clauses

SEND = f"""
WITH
-- The messages, as one JSON document.
given AS MATERIALIZED (
  SELECT * FROM json_to_recordset($1::json) AS given(
    n int, id text, sender text, receiver text, hospital text, first text, second text, body text, kind text,
    priority text, client_id text, client_time text, fingerprint text, at timestamptz)
),
-- Those whose sender and receiver may write to one another (accounts.actions.must_be_counterpart), with their
-- agreed room, which is locked: ids are in the order in which both sides get the messages.
allowed AS MATERIALIZED (
  SELECT given.*, room.chat_room_id AS room_id, sender.role AS sender_role,
    coalesce(nullif(sender.name, ''), sender.user_id) AS sender_name
  FROM given
  JOIN chat_chatroom room
    ON room.hospital_id = given.hospital AND room.first_id = given.first AND room.second_id = given.second
    AND room.agreed_at IS NOT NULL
  JOIN accounts_user sender ON sender.user_id = given.sender AND sender.is_active
    AND (sender.role = 'patient' OR sender.hospital_id = given.hospital)
  JOIN accounts_user receiver ON receiver.user_id = given.receiver AND receiver.is_active
    AND (receiver.role = 'patient' OR receiver.hospital_id = given.hospital)
    AND NOT (sender.role = 'patient' AND receiver.role = 'patient')
  ORDER BY room.chat_room_id, given.n
  FOR NO KEY UPDATE OF room
),
-- Stored; one with the clientMessageId of another is left to the ordinary action.
stored AS (
  INSERT INTO chat_message (message_id, room_id, sender_id, receiver_id, text, message_type, priority,
    client_message_id, client_timestamp, fingerprint, sent_at, delete_reason)
  SELECT id, room_id, sender, receiver, body, kind, priority, client_id, client_time, fingerprint, at, ''
  FROM allowed ORDER BY n
  ON CONFLICT DO NOTHING
  RETURNING id AS place, message_id, sender_id, receiver_id, sent_at
),
addressed AS (
  SELECT person.user_id, message_id AS subject, message_id AS event_id, place, sent_at AS at
  FROM stored CROSS JOIN LATERAL (VALUES (sender_id), (receiver_id)) person(user_id)
),
{mailbox_clauses(NewMessage.type)},
woken AS (
  SELECT placed.user_id, placed.subject, placed.event_id, placed.at
  FROM placed JOIN given ON given.id = placed.subject AND given.receiver = placed.user_id
),
{push_clauses("message")}
SELECT allowed.n, allowed.room_id, allowed.sender_name, allowed.sender_role, placed.user_id, placed.seq
FROM placed JOIN allowed ON allowed.id = placed.subject
-- The sender's own connections get it first.
ORDER BY placed.place, placed.user_id <> allowed.sender
"""


class FastSending:
    """`sendMessage` on the hot connection."""

    statement = Statement("send_messages", SEND)

    def key_of(self, command: Command) -> int:
        """Return the same key for one conversation, whichever of the two writes."""
        assert isinstance(command.request, SendMessage)
        return hash(command.user.user_id) ^ hash(command.request.receiver_id)

    def row_of(self, command: Command) -> dict[str, Any] | None:
        request = command.request
        assert isinstance(request, SendMessage)
        if (
            request.reply_to
            or request.attachments
            or request.location
            or request.message_type == MessageType.LOCATION
        ):
            return None
        sender, receiver = command.user.user_id, request.receiver_id
        first, second = ChatRoom.pair(sender, receiver)
        return {
            "id": new_id(),
            "sender": sender,
            "receiver": receiver,
            "hospital": request.hospital_id,
            "first": first,
            "second": second,
            "body": request.message,
            "kind": request.message_type,
            "priority": request.priority,
            "client_id": request.client_message_id,
            "client_time": request.client_timestamp,
            "fingerprint": IDEMPOTENCY.fingerprint(request),
            "at": rfc3339(datetime.now(UTC)),
        }

    def may_be_repeated(self, command: Command) -> bool:
        return bool(command.request.client_message_id)

    def land(self, rows_out: list[dict[str, Any]], rows_in: list[Row]) -> list[Result | None]:
        outcomes: list[Result | None] = [None] * len(rows_out)
        envelopes: dict[int, Envelope] = {}
        for n, room_id, sender_name, sender_role, user_id, seq in texts_of(rows_in):
            number, row = int(n), rows_out[int(n)]
            if number not in envelopes:
                envelopes[number] = _envelope(row, room_id, sender_name, sender_role)
                outcomes[number] = Result(ack_data=_ack_data(row, room_id))
            envelopes[number].seqs[user_id] = int(seq)
        publisher.publish_in_loop([Delivery(PERSONS, "", envelope) for envelope in envelopes.values()])
        return outcomes


def _envelope(row: dict[str, Any], room_id: str, sender_name: str, sender_role: str) -> Envelope:
    """Make the envelope as `envelope_of(NewMessage.of(message))` does, without a model in between."""
    message = {
        "messageId": row["id"],
        "senderId": row["sender"],
        "receiverId": row["receiver"],
        "hospitalId": row["hospital"],
        "message": row["body"],
        "messageType": row["kind"],
        "timestamp": row["at"],
        "isRead": False,
        "isDelivered": False,
        "replyTo": None,
        "attachments": None,
        "chatRoomId": room_id,
        "clientMessageId": row["client_id"],
        "clientTimestamp": row["client_time"],
        "editedAt": None,
        "deletedAt": None,
        "senderName": sender_name,
        "senderRole": sender_role,
        "priority": row["priority"],
        "location": None,
    }
    return Envelope(
        event_type=NewMessage.type,
        frame=encode({"type": NewMessage.type, **message, "data": message}),
        subject=row["id"],
        topic=room_id,
        author=row["sender"],
        event_id=row["id"],
        seqs={},
    )


def _ack_data(row: dict[str, Any], room_id: str) -> dict[str, Any]:
    return {"messageId": row["id"], "chatRoomId": room_id, "timestamp": row["at"]}
