"""Rate limits: token buckets per user, in this process."""

from __future__ import annotations

from django.conf import settings

from hplus.api.token_buckets import Bucket, Buckets

BURST = 60  # a phone that reconnects sends what it had queued
# For frames of any type, also of those without a limit of their own, so that nobody keeps a server busy.
FRAMES_PER_SECOND = 50
FRAMES_BURST = 300


def message_limit_of_a_user() -> Bucket:
    per_minute = settings.HPLUS_MESSAGES_PER_MINUTE
    return Bucket(per_minute / 60, max(BURST, per_minute / 10))


def _frame_limit_of_a_user() -> Bucket:
    return Bucket(FRAMES_PER_SECOND, FRAMES_BURST)


message_limits = Buckets(message_limit_of_a_user)  # requests that are rate limited, by userId
frame_limits = Buckets(_frame_limit_of_a_user)  # all frames, by userId


def forget() -> None:
    """A server that starts has limited nobody yet."""
    message_limits.forget()
    frame_limits.forget()
