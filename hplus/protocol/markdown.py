"""The protocol as Markdown, to be read where the repository is read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from hplus.protocol import rules
from hplus.protocol.registry import WireMessage
from hplus.protocol.tables import COMMON_FIELDS, Entry, Row, Section, ShapeEntry, Variant, sheet

MADE_BY = "<!-- Written by `manage.py protocol`. Change the classes, not this file. -->"
FIELD_HEADINGS = ("Field", "Type", "Presence", "Notes")


def as_markdown() -> str:
    """The whole file."""
    shown = sheet()
    parts = [
        MADE_BY,
        "# The protocol of HPlus",
        rules.INTRODUCTION,
        "For machines the same stands in [asyncapi.yaml](asyncapi.yaml) (AsyncAPI 3.0).",
        *_contents(shown.sections),
        *_connecting(),
        *_conventions(),
        *_overview(shown.sections),
        *(part for section in shown.sections for part in _section(section)),
        "## Shapes",
        "What words are made of.",
        *(part for shape in shown.shapes for part in _shape(shape)),
        *_errors(),
        *_endings(),
    ]
    return "\n\n".join(parts) + "\n"


def _contents(sections: list[Section]) -> Iterable[str]:
    titles = ["Connecting", "Conventions", "Words"]
    titles += [section.domain.title for section in sections]
    titles += ["Shapes", "Errors", "Close codes"]
    yield " · ".join(_link(title, title) for title in titles)


def _connecting() -> Iterable[str]:
    yield "## Connecting"
    names = "&".join(f"{parameter.name}=…" for parameter in rules.QUERY if parameter.is_required)
    yield f"```\nws://localhost:5000{rules.ADDRESS}?{names}&…\n```"
    yield _bullets(rules.HANDSHAKE)
    yield _table(
        ("Query", "Presence", "Meaning"),
        [
            (f"`{p.name}`", "required" if p.is_required else "optional", p.meaning_with_limits)
            for p in rules.QUERY
        ],
    )


def _conventions() -> Iterable[str]:
    yield "## Conventions"
    yield _bullets(rules.CONVENTIONS)
    yield "Every request may also carry:"
    fields = [(f"`{name}`", meaning) for name, meaning in COMMON_FIELDS.items()]
    yield _table(("Field", "Meaning"), fields)


def _overview(sections: list[Section]) -> Iterable[str]:
    yield "## Words"
    for section in sections:
        yield f"**{section.domain.title}**"
        wire_messages = section.domain.wire_messages
        rows = [(_link(word.type, _title(word)), word.who, word.meaning) for word in wire_messages]
        yield _table(("Word", "Who says it", "Meaning"), rows)


def _section(section: Section) -> Iterable[str]:
    yield f"## {section.domain.title}"
    if section.domain.about:
        yield section.domain.about
    for entry in section.entries:
        yield from _entry(entry)


def _entry(entry: Entry) -> Iterable[str]:
    yield f"### {_title(entry.word)}"
    for variant in entry.variants:
        yield from _variant(variant)


def _variant(variant: Variant) -> Iterable[str]:
    yield f"> {variant.meaning}"
    if variant.remarks:
        yield " ".join(variant.remarks)
    if variant.rows:
        yield _fields(variant.rows)
    yield f"```json\n{variant.example}\n```"


def _shape(shape: ShapeEntry) -> Iterable[str]:
    yield f"### {shape.name}"
    if shape.about:
        yield shape.about
    yield _fields(shape.rows)
    if shape.takes_more:
        yield "Further fields are kept as they come."


def _errors() -> Iterable[str]:
    yield "## Errors"
    yield "On the socket as an `error`, over HTTP as the body of an answer with the status named here."
    rows = [
        (f"`{e.code}`", str(e.http_status), f"{e.close_code or '–'} {e.closes_when}".strip(), e.meaning)
        for e in rules.error_codes()
    ]
    yield _table(("Code", "HTTP", "Close", "Meaning"), rows)


def _endings() -> Iterable[str]:
    yield "## Close codes"
    yield rules.ADVICE
    yield _table(("Code", "Meaning"), [(str(e.close_code), e.meaning) for e in rules.endings()])


# Markdown itself


def _title(word: WireMessage) -> str:
    return f"{word.who}: {word.type}"


def _fields(rows: list[Row]) -> str:
    return _table(
        FIELD_HEADINGS, [(f"`{row.name}`", _linked(row.type), row.presence, row.notes) for row in rows]
    )


def _linked(kind: str) -> str:
    return re.sub(r"\{(.+?)\}", lambda shape: _link(shape[1], shape[1]), kind)


def _link(text: str, title: str) -> str:
    """To a heading of this file, by the anchor that GitHub and GitLab make of it."""
    anchor = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
    return f"[{text}](#{anchor})"


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
