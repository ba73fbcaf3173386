"""Distances on the earth, and the time a crew needs for them."""

from __future__ import annotations

from math import asin, cos, radians, sin, sqrt

from django.conf import settings

EARTH_RADIUS_M = 6_371_008.8  # mean radius R1 of the GRS 80 ellipsoid, as adopted by the IUGG
NOWHERE_DEGREES = 1e-4  # eleven metres
Point = tuple[float, float]  # latitude, longitude in degrees


def distance_m(one: Point, other: Point) -> float:
    """Great-circle distance in metres (haversine).

    On a sphere: at most 0.6 % off the ellipsoid, so a few metres at the distances of a crew.
    """
    lat1, lng1, lat2, lng2 = map(radians, (*one, *other))
    half = sin((lat2 - lat1) / 2) ** 2 + cos(lat1) * cos(lat2) * sin((lng2 - lng1) / 2) ** 2
    return 2 * EARTH_RADIUS_M * asin(min(1.0, sqrt(half)))


def is_nowhere(lat: float, lng: float) -> bool:
    """Whether it is 0/0, in the open Atlantic: what a phone without a position says."""
    return abs(lat) < NOWHERE_DEGREES and abs(lng) < NOWHERE_DEGREES


def eta_seconds(straight_m: float) -> int:
    """Estimate the seconds a crew needs for this straight distance, without a map.

    The road is CREW_ROAD_DETOUR times as long: 1.417 on average between home and hospital (Boscoe,
    Henry, Zdeb: A Nationwide Comparison of Driving Distance Versus Straight-Line Distance to
    Hospitals, The Professional Geographer 64, 2012). It is driven at CREW_SPEED_MPS: 20.1 mph,
    which Branas et al. (Access to Trauma Centers in the United States, JAMA 293, 2005) take for
    ambulances in cities; a rural service sets more (they take 56.4 mph).
    """
    return round(straight_m * settings.CREW_ROAD_DETOUR / settings.CREW_SPEED_MPS)
