"""JSON under the media types of its standards; who asks for `application/json` gets it under that one."""

from __future__ import annotations

from rest_framework.renderers import JSONRenderer


class FhirRenderer(JSONRenderer):
    """HL7 FHIR R4, 3.1.0.6: resources in JSON."""

    media_type, format = "application/fhir+json", "fhir"


class GeoJsonRenderer(JSONRenderer):
    """RFC 7946, 12."""

    media_type, format = "application/geo+json", "geojson"
