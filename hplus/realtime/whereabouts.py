"""Where a speaker is, for domains that know nothing of positions.

Siblings do not import each other; `settings.WHEREABOUTS` names the function that knows.
"""

from __future__ import annotations

from collections.abc import Iterable

from django.conf import settings
from django.utils.module_loading import import_string


def own_fixes(user_ids: Iterable[str]) -> dict[str, tuple[float, float]]:
    """userId → latitude and longitude in degrees of that user's own phone, where its fix is fresh."""
    found: dict[str, tuple[float, float]] = import_string(settings.WHEREABOUTS)(user_ids)
    return found
