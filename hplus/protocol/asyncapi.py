"""The protocol as an AsyncAPI 3.0 document, for viewers and generators.

https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from typing import Any

import yaml
from pydantic.alias_generators import to_camel

from hplus.protocol import rules
from hplus.protocol.examples import example
from hplus.protocol.registry import Domain, PublishedMessage, Sender, domains, published_messages
from hplus.protocol.schemas import PREFIX, Schemas

Part = dict[str, Any]
CHANNEL = "socket"
REPLIES = ("server.ack", "server.error")


def as_asyncapi() -> Part:
    """Return the whole document."""
    messages = published_messages()
    schemas = Schemas.of(messages)
    return {
        "asyncapi": "3.0.0",
        "info": _info(),
        "defaultContentType": "application/json",
        "servers": {"local": _server()},
        "channels": {CHANNEL: _channel(messages)},
        "operations": _operations(),
        "components": {
            "messages": {message.key: _message(message, schemas) for message in messages},
            "schemas": schemas.shapes,
            "securitySchemes": _security_schemes(),
        },
        "x-errors": [_error(code) for code in rules.error_codes()],
        "x-closeCodes": [{"closeCode": c.close_code, "meaning": c.meaning} for c in rules.close_codes()],
    }


@cache  # classes do not change while they run
def as_yaml() -> str:
    """Return the document as YAML, in reading order."""
    return yaml.dump(as_asyncapi(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


class _Dumper(yaml.SafeDumper):
    """Repeats a value instead of writing an alias, and keeps the line breaks of a text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        style = "|" if "\n" in text else None
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _Dumper.represent_text)


def _info() -> Part:
    conventions = "\n".join(f"- {convention}" for convention in rules.CONVENTIONS)
    description = f"{rules.INTRODUCTION}\n\n{conventions}\n"
    return {"title": "HPlus", "version": rules.VERSION, "description": description}


def _server() -> Part:
    return {
        "host": "localhost:5000",
        "protocol": "ws",
        "description": "As `make run` starts it. In production it is reached by wss.",
        "security": [_ref("securitySchemes", name) for name in _security_schemes()],
    }


def _security_schemes() -> Part:
    in_query = "The same token in the query, for clients that cannot set a header."
    return {
        "bearer": {"type": "http", "scheme": "bearer", "description": "An access token."},
        "token": {"type": "httpApiKey", "name": "token", "in": "query", "description": in_query},
    }


def _channel(messages: list[PublishedMessage]) -> Part:
    return {
        "address": rules.ADDRESS,
        "title": "The one socket",
        "description": "\n".join(f"- {rule}" for rule in rules.HANDSHAKE) + "\n",
        "messages": {message.key: _ref("messages", message.key) for message in messages},
        "bindings": {"ws": {"method": "GET", "query": _query(), "bindingVersion": "0.1.0"}},
    }


def _query() -> Part:
    return {
        "type": "object",
        "properties": {parameter.name: _parameter(parameter) for parameter in rules.QUERY},
        "required": [parameter.name for parameter in rules.QUERY if parameter.is_required],
    }


def _parameter(parameter: rules.Parameter) -> Part:
    limits: Part = {"enum": list(parameter.one_of)} if parameter.one_of else {}
    if parameter.most_characters:
        limits["maxLength"] = parameter.most_characters
    return {"type": "string", "description": parameter.meaning, **limits}


def _operations() -> Part:
    """Return, for each domain, what the server receives from clients and what it sends."""
    found = {}
    reply = {"channel": _channel_ref(), "messages": [_in_channel(key) for key in REPLIES]}
    for domain in domains():
        if domain.sent_by("client"):
            found[f"receive.{domain.label}"] = {**_operation("receive", domain, "client"), "reply": reply}
        if domain.sent_by("server"):
            found[f"send.{domain.label}"] = _operation("send", domain, "server")
    return found


def _operation(action: str, domain: Domain, sender: Sender) -> Part:
    return {
        "action": action,
        "channel": _channel_ref(),
        "title": f"{domain.title}: sent by the {sender}",
        "summary": domain.description,
        "tags": [{"name": domain.title}],
        "messages": [_in_channel(message.key) for message in domain.sent_by(sender)],
    }


def _message(message: PublishedMessage, schemas: Schemas) -> Part:
    payloads = [{"$ref": PREFIX + schemas.names[kind]} for kind in message.classes]
    description: Part = {"description": message.description} if message.description else {}
    return {
        "name": message.type,
        "title": message.title,
        "summary": message.summary,
        **description,
        "tags": [{"name": message.app.verbose_name}],
        "payload": payloads[0] if len(payloads) == 1 else {"anyOf": payloads},
        "examples": [{"payload": example(kind, schemas)} for kind in message.classes],
    }


def _error(code: rules.ErrorCode) -> Part:
    return {to_camel(key): value for key, value in asdict(code).items() if value}


def _channel_ref() -> Part:
    return {"$ref": f"#/channels/{CHANNEL}"}


def _in_channel(key: str) -> Part:
    return {"$ref": f"#/channels/{CHANNEL}/messages/{key}"}


def _ref(kind: str, name: str) -> Part:
    return {"$ref": f"#/components/{kind}/{name}"}
