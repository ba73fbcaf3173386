"""Documents that are the same for everybody: made once, then answered by their ETag (RFC 9110, 8.8.3)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache, wraps

from django.http import HttpRequest, HttpResponse
from django.utils.cache import get_conditional_response
from django.utils.http import quote_etag

MOST_HOSTS = 32  # names of this server that a document is kept for
View = Callable[[HttpRequest], HttpResponse]


def document_response(request: HttpRequest, content: bytes, content_type: str) -> HttpResponse:
    """Respond with the document, or with 304 where the client has it."""
    etag = quote_etag(_digest(content))
    response = get_conditional_response(request, etag=etag) or HttpResponse(content, content_type)
    response["ETag"], response["Cache-Control"] = etag, "no-cache"
    return response


@lru_cache(maxsize=MOST_HOSTS * 4)
def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def made_once(view: View) -> View:
    """Decorate a view whose page depends on nothing but the scheme and host it is reached at."""
    kept: dict[tuple[str | None, str], tuple[bytes, str]] = {}

    @wraps(view)
    def respond(request: HttpRequest) -> HttpResponse:
        address = (request.scheme, request.get_host())
        if address not in kept:
            if len(kept) >= MOST_HOSTS:
                kept.clear()
            made = view(request)
            kept[address] = (made.content, made["Content-Type"])
        return document_response(request, *kept[address])

    return respond
