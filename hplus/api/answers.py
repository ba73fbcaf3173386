"""HTTP responses: shapes, and the same coded refusals as on the socket."""

from __future__ import annotations

import json
import logging
import uuid
from typing import Any

from django.http import Http404, HttpRequest, HttpResponseBase, JsonResponse
from django.views.defaults import page_not_found
from rest_framework import exceptions
from rest_framework.response import Response

from hplus import errors
from hplus.protocol import wire

logger = logging.getLogger(__name__)


def error_body(refusal: errors.Refusal) -> dict[str, Any]:
    body: dict[str, Any] = {
        "code": refusal.code,
        "message": refusal.message,
        "details": refusal.details,
    }
    if refusal.retry_after is not None:
        body["retryAfter"] = refusal.retry_after
    return body


def answer_exception(unexpected: Exception, context: dict[str, Any]) -> Response:
    """Turn an exception into the HTTP response; the only place that does."""
    refusal = as_refusal(unexpected)
    headers = {"WWW-Authenticate": "Bearer"} if refusal.http_status == 401 else {}
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(int(refusal.retry_after) + 1)
    return Response(error_body(refusal), status=refusal.http_status, headers=headers)


_STATUS_CODES: dict[int, type[errors.Refusal]] = {
    401: errors.AuthenticationFailed,
    403: errors.Forbidden,
    413: errors.MessageTooLarge,
    429: errors.RateLimited,
}


def as_refusal(unexpected: Exception) -> errors.Refusal:
    """Return the refusal that a client may see; an unforeseen exception is logged under a reference."""
    if isinstance(unexpected, errors.Refusal):
        return unexpected
    if isinstance(unexpected, Http404):
        return _with_status(errors.Refusal("There is nothing at this address."), "NOT_FOUND", 404)
    if isinstance(unexpected, exceptions.APIException):
        kind = _STATUS_CODES.get(unexpected.status_code, errors.InvalidMessage)
        text = (
            json.dumps(unexpected.detail)
            if not isinstance(unexpected.detail, str)
            else str(unexpected.detail)
        )
        return _with_status(kind(text), kind.code, unexpected.status_code)
    return internal_error(unexpected)


def _with_status(refusal: errors.Refusal, code: str, status: int) -> errors.Refusal:
    refusal.code, refusal.http_status = code, status
    return refusal


def not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Respond 404: under /api/ in the shape of all its errors, elsewhere as a page."""
    if not request.path.startswith("/api/"):
        return page_not_found(request, exception)
    return JsonResponse(error_body(as_refusal(Http404())), status=404)


def internal_error(unexpected: BaseException) -> errors.InternalError:
    """Log an unforeseen exception under a reference, and return the refusal that names it."""
    reference = uuid.uuid4().hex[:12]
    logger.error("Unforeseen (%s)", reference, exc_info=unexpected)
    return errors.InternalError(reference=reference)


def shaped(shape: wire.Shape, status: int = 200) -> Response:
    """Return the response with this shape as JSON."""
    return Response(shape.as_json(), status=status)
