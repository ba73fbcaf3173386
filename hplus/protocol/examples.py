"""An example of every message, with the people of the demo data.

A class can give its own: `Field(examples=[...])` for a field (an optional field is shown only then),
`json_schema_extra={"examples": [...]}` for the whole frame.
"""

from __future__ import annotations

from typing import Any

from hplus.protocol.registry import MessageClass
from hplus.protocol.schemas import Schema, Schemas

MOMENT = "2026-11-22T09:30:00Z"
SOME_ID = "019ab0f2-6c1e-7d3a-9b54-2f8e61c07a45"
# By the name of the field, or by class and field where the name alone is ambiguous.
WELL_KNOWN: dict[str, Any] = {
    "accuracy": 8.0,
    "body": "Is the ECG ready?",
    "deletedBy": "patient_123",
    "deliveredAt": "2026-11-22T09:30:01Z",
    "distanceMeters": 850.0,
    "expiresAt": "2026-11-22T21:30:00Z",
    "hospitalId": "hospital_001",
    "isTyping": True,
    "lat": 37.7749,
    "lng": -122.4194,
    "message": "Is the ECG ready?",
    "name": "Dr. Noor Vale",
    "online": True,
    "patientId": "patient_123",
    "patientName": "Pat Meadow",
    "readAt": "2026-11-22T09:30:05Z",
    "readerId": "doctor_456",
    "receiverId": "doctor_456",
    "recovered": True,
    "requestType": "sendMessage",
    "role": "doctor",
    "senderId": "patient_123",
    "senderName": "Pat Meadow",
    "senderRole": "patient",
    "targetUserId": "paramedic_456",
    "title": "Pat Meadow",
    "userId": "doctor_456",
    "Ack.clientMessageId": "phone-17",
    "Ack.data": {"messageId": SOME_ID, "chatRoomId": SOME_ID, "timestamp": MOMENT},
    "ChatMessage.messageType": "text",
    "ChatMessage.priority": "normal",
    "ConnectionEstablished.heartbeatInterval": 30,
    "Error.code": "VALIDATION_ERROR",
    "Error.details": {"field": "receiverId", "reason": "Field required"},
    "Error.message": "receiverId: Field required",
    "HospitalInfo.name": "Riverside General",
    "Limits.maxMessageBytes": 65536,
    "Limits.maxMessageCharacters": 8000,
    "Limits.messagesPerMinute": 600,
    "MessageNotification.priority": "normal",
    "UserOffline.status": "offline",
    "UserOnline.status": "available",
}
JSON_TYPES: dict[type, str] = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    dict: "object",
}


def example(kind: MessageClass, schemas: Schemas) -> dict[str, Any]:
    """Return one frame of this class."""
    schema = schemas.of_class(kind)
    if "examples" in schema:
        return {"type": kind.type, **schema["examples"][0]}
    own = _object(schema, schemas)
    flattened = own["data"] if getattr(kind, "flattened", False) else {}
    return {"type": kind.type, **flattened, **own}


def _object(schema: Schema, schemas: Schemas) -> dict[str, Any]:
    owner, required = schema.get("title", ""), schema.get("required", [])
    return {
        name: _value(owner, name, field, schemas)
        for name, field in schema.get("properties", {}).items()
        if name in required or "examples" in field or field.get("default") is not None
    }


def _value(owner: str, name: str, schema: Schema, schemas: Schemas) -> Any:
    schema = schemas.resolved(schema)
    if (known := _known(owner, name, schema)) is not None:
        return known
    if choices := schema.get("anyOf", schema.get("oneOf")):
        return _choice(owner, name, choices, schemas)
    if schema.get("type") == "array":
        items = schema.get("items")
        return [_value(owner, name, items, schemas)] if items and "$ref" in items else []
    if schema.get("type") == "object":
        return _object(schema, schemas)
    return _by_type(name, schema)


def _choice(owner: str, name: str, choices: list[Schema], schemas: Schemas) -> Any:
    """A nullable field is null, unless an example is known for it."""
    for choice in choices:
        if (known := _known(owner, name, schemas.resolved(choice))) is not None:
            return known
    return None if {"type": "null"} in choices else _value(owner, name, choices[0], schemas)


def _known(owner: str, name: str, schema: Schema) -> Any:
    """Return the example given by the class or known for the field's name, else None."""
    if "examples" in schema:
        return schema["examples"][0]
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema.get("default", schema["enum"][0])
    known = WELL_KNOWN.get(f"{owner}.{name}", WELL_KNOWN.get(name))
    fits = known is not None and schema.get("type") == JSON_TYPES[type(known)]
    return known if fits else schema.get("default")


def _by_type(name: str, schema: Schema) -> Any:
    number = min(max(1, schema.get("minimum", 1)), schema.get("maximum", 1))
    plain = {
        "string": _text(name, schema),
        "boolean": False,
        "integer": int(number),
        "number": float(number),
        "null": None,
    }
    return plain.get(schema.get("type", ""), {})


def _text(name: str, schema: Schema) -> str:
    if schema.get("format") == "date-time" or name == "timestamp" or name.endswith("At"):
        return MOMENT
    is_id = name == "epoch" or name.endswith(("Id", "By", "To"))
    return SOME_ID if is_id else "…"
