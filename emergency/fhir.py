"""Export an emergency as an HL7 FHIR R4 Bundle, for the hospital's own systems.

Codes: LOINC for the vital signs (https://hl7.org/fhir/R4/observation-vitalsigns.html), UCUM for
units, HL7 v3 ActCode and ActPriority for the encounter.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from emergency.models import Emergency, Entry, EntryKind, Priority
from emergency.status import Status
from hplus.protocol.wire import rfc3339

LOINC, UCUM = "http://loinc.org", "http://unitsofmeasure.org"
ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
ACT_PRIORITY = "http://terminology.hl7.org/CodeSystem/v3-ActPriority"
OBSERVATION_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
PANEL = ("85354-9", "Blood pressure panel with all children optional")
# reading → LOINC code and name, UCUM unit
VITAL_SIGNS = {
    "respirationRate": ("9279-1", "Respiratory rate", "/min"),
    "spo2": ("2708-6", "Oxygen saturation in Arterial blood", "%"),
    "pulse": ("8867-4", "Heart rate", "/min"),
    "temperature": ("8310-5", "Body temperature", "Cel"),
}
PRESSURES = {
    "systolic": ("8480-6", "Systolic blood pressure"),
    "diastolic": ("8462-4", "Diastolic blood pressure"),
}
ENCOUNTER_STATUS = {
    Status.PENDING: "planned",
    Status.ACCEPTED: "planned",
    Status.IN_PROGRESS: "in-progress",
    Status.COMPLETED: "finished",
    Status.CANCELLED: "cancelled",
}
# Priority → HL7 v3 ActPriority
PRIORITY = {
    Priority.CRITICAL: ("EM", "emergency"),
    Priority.HIGH: ("UR", "urgent"),
    Priority.MEDIUM: ("A", "ASAP"),
    Priority.LOW: ("R", "routine"),
}

Resource = dict[str, Any]


def bundle(emergency: Emergency) -> Resource:
    """Return a Bundle of Patient, Location, Encounter and one Observation for each measured vital sign."""
    measured = Entry.objects.filter(emergency=emergency, kind=EntryKind.VITALS)
    observations = [each for entry in measured for each in _observations(emergency, entry)]
    resources = [_patient(emergency), _location(emergency), _encounter(emergency), *observations]
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "timestamp": rfc3339(emergency.requested_at),
        "identifier": {"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{emergency.pk}"},
        "entry": [{"fullUrl": _url(emergency, each["id"]), "resource": each} for each in resources],
    }


def _url(emergency: Emergency, resource_id: str) -> str:
    return f"urn:hplus:{emergency.pk}:{resource_id}"


def _reference(emergency: Emergency, resource_id: str) -> dict[str, str]:
    return {"reference": _url(emergency, resource_id)}


def _patient(emergency: Emergency) -> Resource:
    known: Resource = {"identifier": [{"value": emergency.patient_id}]}
    if (emergency.patient_name or "").strip():
        known["name"] = [{"text": emergency.patient_name}]
    if (emergency.patient_phone or "").strip():
        known["telecom"] = [{"system": "phone", "value": emergency.patient_phone}]
    return {"resourceType": "Patient", "id": "patient", **known}


def _location(emergency: Emergency) -> Resource:
    scene: Resource = {
        "resourceType": "Location",
        "id": "scene",
        "mode": "instance",
        "position": {"longitude": emergency.lng, "latitude": emergency.lat},
    }
    if (emergency.address or "").strip():
        scene["address"] = {"text": emergency.address}
    return scene


def _encounter(emergency: Emergency) -> Resource:
    code, display = PRIORITY[Priority(emergency.priority)]
    encounter: Resource = {
        "resourceType": "Encounter",
        "id": "encounter",
        "identifier": [{"value": emergency.pk}],
        "status": ENCOUNTER_STATUS[Status(emergency.status)],
        "class": {"system": ACT_CODE, "code": "EMER", "display": "emergency"},
        "priority": {"coding": [{"system": ACT_PRIORITY, "code": code, "display": display}]},
        "subject": _reference(emergency, "patient"),
        "reasonCode": [{"text": emergency.condition}],
        "period": _period(emergency),
        "location": [{"location": _reference(emergency, "scene")}],
        "serviceProvider": {"identifier": {"value": emergency.hospital_id}},
    }
    if emergency.assigned_to_id:
        encounter["participant"] = [{"individual": {"identifier": {"value": emergency.assigned_to_id}}}]
    return encounter


def _period(emergency: Emergency) -> dict[str, str]:
    ended: datetime | None = emergency.completed_at or emergency.cancelled_at
    end = {"end": rfc3339(ended)} if ended else {}
    return {"start": rfc3339(emergency.requested_at), **end}


def _observations(emergency: Emergency, entry: Entry) -> list[Resource]:
    readings = entry.data["readings"]
    found = [
        _observation(emergency, entry, code, name, valueQuantity=_quantity(readings[key], unit))
        for key, (code, name, unit) in VITAL_SIGNS.items()
        if key in readings
    ]
    components = [
        {"code": _code(code, name), "valueQuantity": _quantity(readings[key], "mm[Hg]")}
        for key, (code, name) in PRESSURES.items()
        if key in readings
    ]
    if components:
        found.append(_observation(emergency, entry, *PANEL, component=components))
    return found


def _observation(emergency: Emergency, entry: Entry, code: str, name: str, **value: Any) -> Resource:
    return {
        "resourceType": "Observation",
        "id": f"{code}-{entry.pk[-12:]}",
        "status": "final",
        "category": [{"coding": [{"system": OBSERVATION_CATEGORY, "code": "vital-signs"}]}],
        "code": _code(code, name),
        "subject": _reference(emergency, "patient"),
        "encounter": _reference(emergency, "encounter"),
        "effectiveDateTime": rfc3339(entry.at),
        **value,
    }


def _code(code: str, name: str) -> Resource:
    return {"coding": [{"system": LOINC, "code": code, "display": name}]}


def _quantity(value: float, unit: str) -> Resource:
    return {"value": value, "unit": unit, "system": UCUM, "code": unit}
