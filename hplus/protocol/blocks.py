"""Blocks of a text, each written as Markdown and as HTML.

Inline text is Markdown with no more than code in backticks and links.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.html import escape


@dataclass(frozen=True)
class Heading:
    """`css_class` is for HTML alone."""

    level: int
    text: str
    css_class: str = ""

    @property
    def anchor(self) -> str:
        return anchor_of(self.text)

    def markdown(self) -> str:
        return f"{'#' * self.level} {self.text}"

    def html(self) -> str:
        return _element(f"h{self.level}", escape(self.text), self.css_class, f' id="{self.anchor}"')


@dataclass(frozen=True)
class Paragraph:
    text: str
    css_class: str = ""

    def markdown(self) -> str:
        return self.text

    def html(self) -> str:
        return _element("p", inline_html(self.text), self.css_class)


@dataclass(frozen=True)
class Bullets:
    lines: Sequence[str]

    def markdown(self) -> str:
        return "\n".join(f"- {line}" for line in self.lines)

    def html(self) -> str:
        return _element("ul", "".join(_element("li", inline_html(line)) for line in self.lines))


@dataclass(frozen=True)
class Table:
    """Each text in `marked_column`, where one is given, is also the CSS class of its cell."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    marked_column: int = -1

    def markdown(self) -> str:
        lines = [self.headings, ["---"] * len(self.headings), *self.rows]
        return "\n".join(
            "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
        )

    def html(self) -> str:
        head = "".join(_element("th", inline_html(heading)) for heading in self.headings)
        body = "".join(_element("tr", self._cells(row)) for row in self.rows)
        table = _element("table", f"<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody>")
        return _element("div", table, "scroll")

    def _cells(self, row: Sequence[str]) -> str:
        first, *others = (
            (inline_html(cell), cell if column == self.marked_column else "")
            for column, cell in enumerate(row)
        )
        return _element("th", *first, ' scope="row"') + "".join(_element("td", *cell) for cell in others)


@dataclass(frozen=True)
class Code:
    text: str
    language: str = ""

    def markdown(self) -> str:
        return f"```{self.language}\n{self.text}\n```"

    def html(self) -> str:
        return _element("pre", escape(self.text), "", ' tabindex="0"')


Block = Heading | Paragraph | Bullets | Table | Code


def anchor_of(title: str) -> str:
    """Return the anchor that GitHub and GitLab give a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def link(text: str, title: str = "") -> str:
    """Return a link to the heading with this title; without one the text is the title."""
    return f"[{text}](#{anchor_of(title or text)})"


def inline_html(text: str) -> str:
    coded = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
    return re.sub(r"\[([^\]]+)\]\(([^)\s]+)\)", r'<a href="\2">\1</a>', coded)


def _element(name: str, content: str, css_class: str = "", attributes: str = "") -> str:
    marked = f' class="{escape(css_class)}"' if css_class else ""
    return f"<{name}{marked}{attributes}>{content}</{name}>"
