"""Content-Security-Policy of all pages: no scripts of other hosts, no inline scripts."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.deprecation import MiddlewareMixin

STRICT = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "font-src": "'self'",
    "img-src": "'self' data:",
    "connect-src": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
    "base-uri": "'none'",
    "manifest-src": "'self'",
}
# unfold's pages use Alpine, which compiles expressions in attributes by eval (only what our server wrote
# there), and a style element for their colours.
ADMIN = STRICT | {"script-src": "'self' 'unsafe-eval'", "style-src": "'self' 'unsafe-inline'"}
SWAGGER = STRICT | {"style-src": "'self' 'unsafe-inline'"}
UNUSED = "camera=(), geolocation=(), microphone=(), payment=(), usb=()"


class SecurityHeaders(MiddlewareMixin):
    """Adds a Content-Security-Policy to each response that has none of its own (attachments have).

    What the API says about people is kept by no cache, unless it says so itself.
    """

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        response.headers.setdefault("Content-Security-Policy", policy(request.path))
        response.headers.setdefault("Permissions-Policy", UNUSED)
        if request.path.startswith("/api/") and not request.path.startswith(("/api/schema/", "/api/docs/")):
            response.headers.setdefault("Cache-Control", "no-store")
        return response


def policy(path: str) -> str:
    allowed = STRICT
    if path.startswith("/admin/"):
        allowed = ADMIN | {"img-src": f"{STRICT['img-src']} {tile_host()}".strip()}
    elif path.startswith("/api/docs/"):
        allowed = SWAGGER
    return "; ".join(f"{what} {where}" for what, where in allowed.items())


def tile_host() -> str:
    """Return the origin of map tiles, with `*` for `{s}`; blank where no tiles are configured."""
    address = urlsplit(re.sub(r"\{\w+\}", "*", settings.MAP_TILE_URL))
    return f"{address.scheme}://{address.netloc}" if address.netloc else ""
