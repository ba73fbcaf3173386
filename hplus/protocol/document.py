"""The protocol for people: one list of blocks, written to docs/protocol.md and shown at /protocol/."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache

from hplus.protocol import rules, wire
from hplus.protocol.blocks import Block, Bullets, Code, Heading, Paragraph, Table, link
from hplus.protocol.examples import example
from hplus.protocol.field_tables import FieldTables
from hplus.protocol.registry import (
    Domain,
    MessageClass,
    PublishedMessage,
    description_of,
    domains,
    published_messages,
    remarks_of,
)
from hplus.protocol.schemas import Schemas

GENERATED = "<!-- Written by `manage.py protocol`. Change the classes, not this file. -->"


def as_markdown() -> str:
    """Return the whole file docs/protocol.md."""
    return "\n\n".join([GENERATED, *(block.markdown() for block in blocks())]) + "\n"


def as_html() -> str:
    """Return the content of the page /protocol/."""
    return "\n".join(block.html() for block in blocks())


def contents() -> list[tuple[Heading, list[Heading]]]:
    """Return each section with the headings in it."""
    found: list[tuple[Heading, list[Heading]]] = []
    for heading in (block for block in blocks() if isinstance(block, Heading)):
        if heading.level == 2:
            found.append((heading, []))
        elif heading.level == 3:
            found[-1][1].append(heading)
    return found


@cache  # classes do not change while they run
def blocks() -> tuple[Block, ...]:
    """Return the whole document."""
    body = [*_connecting(), *_conventions(), *_overview(), *_details(), *_errors(), *_close_codes()]
    sections = [block.text for block in body if isinstance(block, Heading) and block.level == 2]
    return (
        Heading(1, "The protocol of HPlus"),
        Paragraph(rules.INTRODUCTION),
        Paragraph("For machines the same is in [asyncapi.yaml](asyncapi.yaml) (AsyncAPI 3.0)."),
        Paragraph(" · ".join(link(title) for title in sections)),
        *body,
    )


def _connecting() -> Iterator[Block]:
    yield Heading(2, "Connecting")
    names = "&".join(f"{parameter.name}=…" for parameter in rules.QUERY if parameter.is_required)
    yield Code(f"{rules.LOCAL_SERVER}{rules.ADDRESS}?{names}&…")
    yield Bullets(rules.HANDSHAKE)
    rows = [
        (f"`{p.name}`", "required" if p.is_required else "optional", p.meaning_with_limits)
        for p in rules.QUERY
    ]
    yield Table(("Query", "Presence", "Meaning"), rows, marked_column=1)


def _conventions() -> Iterator[Block]:
    yield Heading(2, "Conventions")
    yield Bullets(rules.CONVENTIONS)
    yield Paragraph("Every request may also carry:")
    fields = [(f"`{name}`", meaning) for name, meaning in rules.COMMON_FIELDS.items()]
    yield Table(("Field", "Meaning"), fields)


def _overview() -> Iterator[Block]:
    yield Heading(2, "Messages")
    for domain in domains():
        yield Paragraph(f"{domain.title}:")
        rows = [(link(m.type, m.title), m.sender, m.summary) for m in domain.messages]
        yield Table(("Message", "Sent by", "Meaning"), rows, marked_column=1)


def _details() -> Iterator[Block]:
    schemas = Schemas.of(published_messages())
    tables = FieldTables(schemas)
    for domain in domains():
        yield from _domain(domain, schemas, tables)
    yield Heading(2, "Shapes")
    yield Paragraph("Objects that messages contain.")
    for name in schemas.shapes:
        if name not in schemas.names.values():
            yield from _shape(name, schemas, tables)


def _domain(domain: Domain, schemas: Schemas, tables: FieldTables) -> Iterator[Block]:
    yield Heading(2, domain.title)
    if domain.description:
        yield Paragraph(domain.description)
    for message in domain.messages:
        yield Heading(3, message.title, css_class=message.sender)
        for message_class in message.classes:
            yield from _message_class(message_class, schemas, tables)


def _message_class(message_class: MessageClass, schemas: Schemas, tables: FieldTables) -> Iterator[Block]:
    yield Paragraph(description_of(message_class))
    if remarks := remarks_of(message_class):
        yield Paragraph(" ".join(remarks), css_class="remark")
    common = rules.COMMON_FIELDS if issubclass(message_class, wire.Request) else ()
    fields = tables.table(schemas.names[message_class], omitted={"type", *common})
    if fields.rows:
        yield fields
    yield Code(json.dumps(example(message_class, schemas), indent=2, ensure_ascii=False), "json")


def _shape(name: str, schemas: Schemas, tables: FieldTables) -> Iterator[Block]:
    schema = schemas.shapes[name]
    yield Heading(3, name)
    if description := " ".join(schema.get("description", "").split()):
        yield Paragraph(description)
    yield tables.table(name)
    if schema.get("additionalProperties"):
        yield Paragraph("Further fields are kept as they come.", css_class="remark")


def _errors() -> Iterator[Block]:
    yield Heading(2, "Errors")
    error = link("`error`", PublishedMessage("error", "server", ()).title)
    yield Paragraph(f"On the socket as {error}, over HTTP as the body of a response with this status.")
    rows = [
        (f"`{e.code}`", str(e.http_status), f"{e.close_code or '–'} {e.closes_when}".strip(), e.meaning)
        for e in rules.error_codes()
    ]
    yield Table(("Code", "HTTP", "Close", "Meaning"), rows)


def _close_codes() -> Iterator[Block]:
    yield Heading(2, "Close codes")
    yield Paragraph(rules.RETRY_ADVICE)
    yield Table(("Code", "Meaning"), [(str(c.close_code), c.meaning) for c in rules.close_codes()])
