"""Login throttle: after AXES_FAILURE_LIMIT failures an address must wait before it tries that account again.

Counted by account and address together (django-axes): by account alone anybody could lock a doctor
out, by address alone one who mistypes would lock out the whole hospital behind its one address.
With each failure axes deletes the attempts that are older than the cool-off time.
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
    """Return how long this address must wait before the next attempt; None where it is not locked out."""
    if not getattr(request, "axes_locked_out", False):
        return None
    times = _attempts(request, user_id).order_by("-attempt_time").values_list("attempt_time", flat=True)
    latest = times.first()
    until = (latest or timezone.now()) + settings.AXES_COOLOFF_TIME
    return max(1.0, (until - timezone.now()).total_seconds())


def forget_failures(request: HttpRequest, user_id: str) -> None:
    """Delete the failed attempts of this address on this account, after a successful sign-in."""
    _attempts(request, user_id).delete()


def _attempts(request: HttpRequest, user_id: str) -> QuerySet[AccessAttempt]:
    return AccessAttempt.objects.filter(username=user_id, ip_address=get_client_ip_address(request))


class SignInForm(AuthenticationForm):
    """The admin site's sign-in form; it tells a locked-out user how many minutes to wait."""

    def clean(self) -> dict[str, Any]:
        try:
            return super().clean()
        except ValidationError:
            seconds = wait_seconds(self.request, self.cleaned_data.get("username", ""))
            if seconds is None:
                raise
            minutes = int(seconds // 60) + 1
            raise ValidationError(f"Too many attempts. Please try again in {minutes} minutes.") from None
