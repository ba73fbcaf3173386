"""Pages show nothing that turns the direction of the text around it, and no control characters."""

from __future__ import annotations

import re

from django.http import HttpRequest, HttpResponse
from django.utils.deprecation import MiddlewareMixin

# In UTF-8: control characters except tab and line breaks, which HTML does not allow; U+202A to U+202E and
# U+2066 to U+2069, which embed, override and isolate (UAX #9). What is written right to left is shown so
# without them; with one that a person left open a page's own words are turned, too.
_UNPRINTABLE = re.compile(
    rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2\x80[\xaa-\xae]|\xe2\x81[\xa6-\xa9]"
)


class PrintablePages(MiddlewareMixin):
    """Removes such characters from every HTML page; the rows keep them."""

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        is_page = response.headers.get("Content-Type", "").startswith("text/html")
        if is_page and not response.streaming:
            response.content = _UNPRINTABLE.sub(b"", response.content)
        return response
