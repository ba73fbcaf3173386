"""The protocol as an AsyncAPI 3.0 document, for viewers and generators.

https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from typing import Any

import yaml

from hplus.protocol import rules
from hplus.protocol.examples import example
from hplus.protocol.registry import Domain, WireMessage, domains, wire_messages
from hplus.protocol.schemas import PREFIX, Schemas

Part = dict[str, Any]
CHANNEL = "socket"
ANSWERS = ("server.ack", "server.error")


def as_asyncapi() -> Part:
    """The whole document."""
    spoken = wire_messages()
    schemas = Schemas.of(spoken)
    return {
        "asyncapi": "3.0.0",
        "info": _info(),
        "defaultContentType": "application/json",
        "servers": {"local": _server()},
        "channels": {CHANNEL: _channel(spoken)},
        "operations": _operations(),
        "components": {
            "messages": {word.key: _message(word, schemas) for word in spoken},
            "schemas": schemas.shapes,
            "securitySchemes": _security_schemes(),
        },
        "x-errors": [_error(code) for code in rules.error_codes()],
        "x-closeCodes": [{"closeCode": end.close_code, "meaning": end.meaning} for end in rules.endings()],
    }


@cache  # classes do not change while they run
def as_yaml() -> str:
    """The document as YAML, in the order in which it is best read."""
    return yaml.dump(as_asyncapi(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


class _Dumper(yaml.SafeDumper):
    """Repeats a value instead of pointing back to it, and keeps the lines of a text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        style = "|" if "\n" in text else None
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _Dumper.represent_text)


def _info() -> Part:
    listed = "\n".join(f"- {convention}" for convention in rules.CONVENTIONS)
    about = f"{rules.INTRODUCTION}\n\n{listed}\n"
    return {"title": "HPlus", "version": rules.VERSION, "description": about}


def _server() -> Part:
    return {
        "host": "localhost:5000",
        "protocol": "ws",
        "description": "As `make run` starts it. In production it is reached by wss.",
        "security": [_ref("securitySchemes", name) for name in _security_schemes()],
    }


def _security_schemes() -> Part:
    said = "The same token in the query, for clients that cannot set a header."
    return {
        "bearer": {"type": "http", "scheme": "bearer", "description": "An access token."},
        "token": {"type": "httpApiKey", "name": "token", "in": "query", "description": said},
    }


def _channel(spoken: list[WireMessage]) -> Part:
    return {
        "address": rules.ADDRESS,
        "title": "The one socket",
        "description": "\n".join(f"- {rule}" for rule in rules.HANDSHAKE) + "\n",
        "messages": {word.key: _ref("messages", word.key) for word in spoken},
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
    """What each domain hears from a client, and what it says."""
    found = {}
    for domain in domains():
        heard = [word for word in domain.wire_messages if word.speaker == "client"]
        said = [word for word in domain.wire_messages if word.speaker == "server"]
        if heard:
            reply = {"channel": _channel_ref(), "messages": [_in_channel(key) for key in ANSWERS]}
            found[f"receive.{domain.label}"] = {**_operation("receive", domain, heard), "reply": reply}
        if said:
            found[f"send.{domain.label}"] = _operation("send", domain, said)
    return found


def _operation(action: str, domain: Domain, spoken: list[WireMessage]) -> Part:
    title = {"receive": "What a client says", "send": "What HPlus says"}[action]
    return {
        "action": action,
        "channel": _channel_ref(),
        "title": f"{domain.title}: {title[0].lower()}{title[1:]}",
        "summary": domain.about,
        "tags": [{"name": domain.title}],
        "messages": [_in_channel(word.key) for word in spoken],
    }


def _message(word: WireMessage, schemas: Schemas) -> Part:
    payloads = [{"$ref": PREFIX + schemas.names[kind]} for kind in word.kinds]
    remarks: Part = {"description": " ".join(word.remarks)} if word.remarks else {}
    return {
        "name": word.type,
        "title": f"{word.who}: {word.type}",
        "summary": word.meaning,
        **remarks,
        "tags": [{"name": word.app.verbose_name}],
        "payload": payloads[0] if len(payloads) == 1 else {"anyOf": payloads},
        "examples": [{"payload": example(kind, schemas)} for kind in word.kinds],
    }


def _error(code: rules.ErrorCode) -> Part:
    wire_messages = {"http_status": "httpStatus", "close_code": "closeCode", "closes_when": "closesWhen"}
    return {wire_messages.get(key, key): value for key, value in asdict(code).items() if value}


def _channel_ref() -> Part:
    return {"$ref": f"#/channels/{CHANNEL}"}


def _in_channel(key: str) -> Part:
    return {"$ref": f"#/channels/{CHANNEL}/messages/{key}"}


def _ref(kind: str, name: str) -> Part:
    return {"$ref": f"#/components/{kind}/{name}"}
