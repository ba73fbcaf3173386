"""Tracks as GeoJSON (RFC 7946): longitude before latitude, one feature for each person."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from hplus.protocol.wire import rfc3339
from location.models import Fix


def collection(fixes: Iterable[Fix]) -> dict[str, Any]:
    """A FeatureCollection of these fixes, which stand in the order of time."""
    by_user = defaultdict(list)
    for fix in fixes:
        by_user[fix.user_id].append(fix)
    return {
        "type": "FeatureCollection",
        "features": [_feature(user_id, way) for user_id, way in by_user.items()],
    }


def _feature(user_id: str, way: list[Fix]) -> dict[str, Any]:
    """A line needs two positions (§3.1.4); one alone is a point."""
    places = [[fix.lng, fix.lat] for fix in way]
    is_line = len(places) > 1
    return {
        "type": "Feature",
        "geometry": {
            "type": "LineString" if is_line else "Point",
            "coordinates": places if is_line else places[0],
        },
        "properties": {
            "userId": user_id,
            "times": [rfc3339(fix.at) for fix in way],
            "accuracies": [fix.accuracy_m for fix in way],
            "speeds": [fix.speed_mps for fix in way],
            "flagged": [fix.is_inaccurate or fix.is_implausible for fix in way],
        },
    }
