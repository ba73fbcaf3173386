"""Texts of the protocol as HTML."""

from __future__ import annotations

import re

from django import template
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

register = template.Library()


@register.filter
def coded(text: str) -> SafeString:
    """What stands between backticks, as code."""
    return mark_safe(re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text)))


@register.filter
def linked(kind: str) -> SafeString:
    """The type of a field, with a link for each shape that stands in braces."""
    return mark_safe(re.sub(r"\{(.+?)\}", r'<a href="#shape-\1">\1</a>', escape(kind)))
