"""Whether a frame is what the published document says."""

from __future__ import annotations

from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from hplus.protocol.asyncapi import as_asyncapi


@cache
def document() -> dict[str, Any]:
    return as_asyncapi()


def faults_of(speaker: str, frame: dict[str, Any]) -> list[str]:
    """Where a frame of "client" or "server" differs from its schema; empty where it fits."""
    key = f"{speaker}.{frame['type']}"
    if key not in document()["components"]["messages"]:
        return [f"{key} is not published"]
    return [f"{key}{fault.json_path[1:]}: {fault.message}" for fault in _judge(key).iter_errors(frame)]


@cache
def _judge(key: str) -> Draft202012Validator:
    components = document()["components"]
    schema = {**components["messages"][key]["payload"], "components": components}
    return Draft202012Validator(schema)
