"""Tracks as GeoJSON (RFC 7946): longitude before latitude, one feature for each user."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from hplus.protocol.wire import rfc3339
from location.models import Fix


def collection(fixes: Iterable[Fix]) -> dict[str, Any]:
    """Return a FeatureCollection of these fixes, which are in the order of time."""
    by_user = defaultdict(list)
    for fix in fixes:
        by_user[fix.user_id].append(fix)
    return {
        "type": "FeatureCollection",
        "features": [_feature(user_id, track) for user_id, track in by_user.items()],
    }


def _feature(user_id: str, track: list[Fix]) -> dict[str, Any]:
    """The track of one user: a line, which needs two positions (§3.1.4), or a single point."""
    places = [[fix.lng, fix.lat] for fix in track]
    is_line = len(places) > 1
    return {
        "type": "Feature",
        "geometry": {
            "type": "LineString" if is_line else "Point",
            "coordinates": places if is_line else places[0],
        },
        "properties": {
            "userId": user_id,
            "times": [rfc3339(fix.at) for fix in track],
            "accuracies": [fix.accuracy_m for fix in track],
            "speeds": [fix.speed_mps for fix in track],
            "flagged": [fix.is_inaccurate or fix.is_implausible for fix in track],
        },
    }
