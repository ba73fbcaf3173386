"""The fast path of `locationUpdate`: one statement and one commit for all positions that waited.

It stores what is plainly routine: a newer, known position of a paramedic on duty, whom no open grant is
about and whose position nobody has asked for. Whatever it does not return goes through
`recording.record_all`, which knows all the rules; `tests/location/test_fast_recording.py` sends every case
both ways and compares.
"""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from hplus.accounts.models import Role
from hplus.protocol.wire import encode, rfc3339
from hplus.realtime import groups
from hplus.realtime.execution.hot_connection import Row, Statement, texts_of
from hplus.realtime.publishing import publisher
from hplus.realtime.publishing.envelopes import Delivery, Envelope
from location.geo import EARTH_RADIUS_M
from location.messages import LocationUpdate
from location.models import is_stale
from location.recording import (
    IMPLAUSIBLE_MPS,
    INACCURATE_M,
    SHORTEST_STEP_SECONDS,
    ReceivedPosition,
    Recorded,
    measured_at,
)
from location.visible_position import timestamp_of

RECORD = f"""
WITH
-- The positions, as one JSON document.
given AS MATERIALIZED (
  SELECT * FROM json_to_recordset($1::json) AS given(
    n int, user_id text, hospital_id text, lat float8, lng float8, accuracy_m float8, speed_mps float8,
    heading_degrees float8, at timestamptz, received_at timestamptz, said_at text, status text,
    is_inaccurate bool)
),
-- The last positions, locked in the order of their keys so that no two servers wait for each other.
last AS MATERIALIZED (
  SELECT latest.user_id, latest.at, latest.lat, latest.lng, latest.said_at
  FROM location_latest latest
  WHERE latest.user_id = ANY(ARRAY(SELECT user_id FROM given))
  ORDER BY latest.user_id FOR NO KEY UPDATE
),
-- Who is on duty (models.ON_DUTY), with how far the position is from the last one (geo.distance_m) and how
-- many seconds after it.
moved AS MATERIALIZED (
  SELECT given.*,
    greatest({SHORTEST_STEP_SECONDS}, extract(epoch FROM given.at - last.at)) AS seconds,
    2 * {EARTH_RADIUS_M} * asin(least(1, sqrt(
      sin(radians(given.lat - last.lat) / 2) ^ 2
      + cos(radians(last.lat)) * cos(radians(given.lat)) * sin(radians(given.lng - last.lng) / 2) ^ 2
    ))) AS metres
  FROM given
  JOIN last ON last.user_id = given.user_id AND last.at <= given.at
    -- A fix whose own time does not count may still be older than the last one.
    AND NOT (given.at = given.received_at AND last.said_at COLLATE "C" > given.said_at)
  JOIN accounts_user sender ON sender.user_id = given.user_id
    AND sender.is_active AND sender.role = 'paramedic'
  JOIN realtime_presence presence ON presence.user_id = given.user_id
    AND presence.status IN ('available', 'busy', 'away')
  WHERE NOT EXISTS (
    SELECT FROM location_grant g WHERE g.subject_id = given.user_id AND g.closed_at IS NULL
  )
  AND NOT EXISTS (
    SELECT FROM location_inquiry inquiry WHERE inquiry.subject_id = given.user_id
      AND inquiry.answered_at IS NULL AND inquiry.expires_at > now()
  )
  AND NOT EXISTS (
    SELECT FROM given other WHERE other.user_id = given.user_id AND other.n <> given.n
  )
),
plain AS MATERIALIZED (
  SELECT moved.*, metres / seconds > {IMPLAUSIBLE_MPS} AS is_implausible FROM moved
),
track AS (
  INSERT INTO location_fix (user_id, hospital_id, lat, lng, accuracy_m, speed_mps, heading_degrees, at,
    received_at, said_at, status, is_inaccurate, is_implausible, is_emergency, reason_id)
  SELECT user_id, hospital_id, lat, lng, accuracy_m, speed_mps, heading_degrees, at,
    received_at, said_at, status, is_inaccurate, is_implausible, false, ''
  FROM plain ORDER BY n
),
current AS (
  UPDATE location_latest latest SET hospital_id = plain.hospital_id, lat = plain.lat, lng = plain.lng,
    accuracy_m = plain.accuracy_m, speed_mps = plain.speed_mps, heading_degrees = plain.heading_degrees,
    at = plain.at, received_at = plain.received_at, said_at = plain.said_at, status = plain.status,
    is_inaccurate = plain.is_inaccurate, is_implausible = plain.is_implausible, is_emergency = false,
    reason_id = ''
  FROM plain WHERE latest.user_id = plain.user_id
)
SELECT n, is_implausible FROM plain ORDER BY n
"""
ROUTINE = Recorded()


class FastRecording:
    """Positions between emergencies on the hot connection."""

    statement = Statement("record_positions", RECORD)

    def key_of(self, received: ReceivedPosition) -> int:
        """One connection for all: they wait for each other anyway, and fly together."""
        return 0

    def row_of(self, received: ReceivedPosition) -> dict[str, Any] | None:
        user, request, measured = received.user, received.request, received.request.location
        is_marked = request.is_emergency or request.emergency_id is not None
        if is_marked or not measured.is_fix or user.role != Role.PARAMEDIC or user.hospital_id is None:
            return None
        return {
            "user_id": user.user_id,
            "role": user.role,
            "hospital_id": user.hospital_id,
            "lat": measured.lat,
            "lng": measured.lng,
            "accuracy_m": measured.accuracy,
            "speed_mps": measured.speed,
            "heading_degrees": measured.heading,
            "at": measured_at(received),
            "received_at": received.received_at,
            "said_at": measured.timestamp or "",
            "status": request.status or "active",
            "is_inaccurate": (measured.accuracy or 0) > INACCURATE_M,
        }

    def may_be_repeated(self, received: ReceivedPosition) -> bool:
        """Return False: the track would have the position twice, and the next one comes within seconds."""
        return False

    def land(self, rows_out: list[dict[str, Any]], rows_in: list[Row]) -> list[Recorded | None]:
        outcomes: list[Recorded | None] = [None] * len(rows_out)
        deliveries = []
        for n, is_implausible in texts_of(rows_in):
            row = rows_out[int(n)]
            outcomes[int(n)] = ROUTINE
            group = groups.positions(row["hospital_id"])
            deliveries.append(Delivery(group.name, "", _envelope(row, is_implausible == "t")))
        publisher.publish_in_loop(deliveries)
        return outcomes


def _envelope(row: dict[str, Any], is_implausible: bool) -> Envelope:
    """Make the envelope as `envelope_of(location_update(position, None))` does, without models in between."""
    location = {
        "lat": row["lat"],
        "lng": row["lng"],
        "accuracy": row["accuracy_m"] or 0.0,
        "speed": row["speed_mps"],
        "heading": row["heading_degrees"],
        "timestamp": timestamp_of(row["said_at"], row["at"]),
        "receivedAt": rfc3339(row["received_at"]),
        "stale": is_stale(row["at"], timezone.now()),
        "inaccurate": row["is_inaccurate"],
        "implausible": is_implausible,
    }
    fields = {
        "type": LocationUpdate.type,
        "userId": row["user_id"],
        "role": row["role"],
        "hospitalId": row["hospital_id"],
        "data": {
            "location": location,
            "isEmergency": False,
            "emergencyId": None,
            "status": row["status"],
            "etaSeconds": None,
            "distanceMeters": None,
        },
    }
    author = row["user_id"]
    return Envelope(event_type=LocationUpdate.type, frame=encode(fields), author=author, but=(author,))
