"""ICE servers: STUN and TURN addresses, with credentials that expire.

The credentials are those of coturn's `use-auth-secret` (draft-uberti-behave-turn-rest-00): the TURN server
has the same secret and needs no database of users.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from typing import Any

from django.conf import settings


def ice_servers(user_id: str) -> list[dict[str, Any]]:
    """Return the `iceServers` for an RTCPeerConnection; empty where none are configured."""
    stun = [url for url in settings.TURN_URLS if url.startswith(("stun:", "stuns:"))]
    turn = [url for url in settings.TURN_URLS if url not in stun]
    servers: list[dict[str, Any]] = [{"urls": stun}] if stun else []
    if turn and settings.TURN_SECRET:  # without credentials a browser refuses the whole list
        servers.append({"urls": turn, **credentials(user_id, settings.TURN_SECRET, time.time())})
    return servers


def credentials(user_id: str, secret: str, now: float) -> dict[str, str]:
    """Return `username`, "<unix expiry>:<userId>", and `credential`, base64(HMAC-SHA1(secret, username))."""
    username = f"{int(now) + settings.TURN_CREDENTIAL_SECONDS}:{user_id}"
    digest = hmac.digest(secret.encode(), username.encode(), hashlib.sha1)
    return {"username": username, "credential": base64.b64encode(digest).decode()}
