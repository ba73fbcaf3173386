"""Guessing passwords: after some failures an address waits before it may try that account again.

Counted by account and address together (django-axes): by account alone anybody could lock a doctor
out, by address alone one who mistypes would lock out the whole hospital behind its one address.
With each failure axes forgets those that count no more.
"""

from __future__ import annotations

from typing import Any

from axes.helpers import get_client_ip_address
from axes.models import AccessAttempt
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from unfold.forms import AuthenticationForm


def wait_seconds(request: HttpRequest, user_id: str) -> float | None:
    """How long this address has to wait before the next try; None where it was not held up."""
    if not getattr(request, "axes_locked_out", False):
        return None
    times = _attempts(request, user_id).order_by("-attempt_time").values_list("attempt_time", flat=True)
    latest = times.first()
    until = (latest or timezone.now()) + settings.AXES_COOLOFF_TIME
    return max(1.0, (until - timezone.now()).total_seconds())


def forget_failures(request: HttpRequest, user_id: str) -> None:
    """Whoever got in starts anew."""
    _attempts(request, user_id).delete()


def _attempts(request: HttpRequest, user_id: str) -> QuerySet[AccessAttempt]:
    return AccessAttempt.objects.filter(username=user_id, ip_address=get_client_ip_address(request))


class SignInForm(AuthenticationForm):
    """The admin site's, which says so when somebody has to wait."""

    def clean(self) -> dict[str, Any]:
        try:
            return super().clean()
        except ValidationError:
            seconds = wait_seconds(self.request, self.cleaned_data.get("username", ""))
            if seconds is None:
                raise
            minutes = int(seconds // 60) + 1
            raise ValidationError(f"Too many attempts. Please try again in {minutes} minutes.") from None
