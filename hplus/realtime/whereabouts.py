"""Users' own positions, for domains that may not import `location`.

`settings.WHEREABOUTS` names the function that looks them up.
"""

from __future__ import annotations

from collections.abc import Iterable

from django.conf import settings
from django.utils.module_loading import import_string


def fresh_positions(user_ids: Iterable[str]) -> dict[str, tuple[float, float]]:
    """Return userId → latitude and longitude in degrees, for users whose own phone has a fresh fix."""
    found: dict[str, tuple[float, float]] = import_string(settings.WHEREABOUTS)(user_ids)
    return found
