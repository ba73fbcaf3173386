"""Exports as CSV: read and sent in portions, each in a moment of its own with a database connection."""

from __future__ import annotations

import asyncio
import csv
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.db import close_old_connections
from django.db.models import QuerySet
from django.http import HttpRequest, StreamingHttpResponse

from hplus.protocol.wire import rfc3339

_threads = ThreadPoolExecutor(settings.EXPORT_THREADS, thread_name_prefix="export")
MOST_ROWS = 50_000
PORTION_ROWS = 1_000
FORMULA_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
BYTE_ORDER_MARK = "\ufeff"  # without it Excel reads UTF-8 as the code page of its country
SKIPPED_STARTS = ("\t", "\r", "\n")  # by spreadsheets, which then look at what follows


def csv_response(
    request: HttpRequest, rows: QuerySet[Any], columns: Sequence[str], name: str
) -> StreamingHttpResponse:
    """Return a response that sends these columns of at most MOST_ROWS rows, in the order of their keys."""
    sheet = _Sheet(rows, columns)
    parts = sheet.sent_slowly() if isinstance(request, ASGIRequest) else sheet.parts()
    response = StreamingHttpResponse(parts, content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    return response


class _Sheet:
    """A CSV document whose rows are read portion by portion, each after the key of the one before."""

    def __init__(self, rows: QuerySet[Any], columns: Sequence[str]) -> None:
        self._rows, self._columns = rows.order_by("pk"), columns
        self._last_pk: Any = None
        self._left = MOST_ROWS

    def parts(self) -> Iterator[str]:
        yield BYTE_ORDER_MARK + _written([self._columns])
        while part := self._next():
            yield part

    async def sent_slowly(self) -> AsyncIterator[str]:
        yield BYTE_ORDER_MARK + _written([self._columns])
        loop = asyncio.get_running_loop()
        while part := await loop.run_in_executor(_threads, self._next_with_connection):
            yield part

    def _next_with_connection(self) -> str:
        close_old_connections()
        try:
            return self._next()
        finally:
            close_old_connections()

    def _next(self) -> str:
        """Return the next portion as text; blank at the end."""
        rows = self._rows if self._last_pk is None else self._rows.filter(pk__gt=self._last_pk)
        found = list(rows.values_list("pk", *self._columns)[: min(PORTION_ROWS, self._left)])
        if not found:
            return ""
        self._left -= len(found)
        self._last_pk = found[-1][0]
        return _written([[_harmless(value) for value in row[1:]] for row in found])


class _Lines(list[str]):
    """A file for the csv module."""

    write = list.append


def _written(rows: Sequence[Sequence[Any]]) -> str:
    """All in quotes: where a semicolon separates cells, one in a name would begin a new cell."""
    lines = _Lines()
    csv.writer(lines, quoting=csv.QUOTE_ALL).writerows(rows)
    return "".join(lines)


def _harmless(value: Any) -> str:
    """Return the value as text that a spreadsheet does not run as a formula (OWASP, CSV Injection).

    A time is in UTC and says so.
    """
    text = "" if value is None else rfc3339(value) if isinstance(value, datetime) else str(value)
    is_risky = text.startswith(SKIPPED_STARTS) or text.lstrip().startswith(FORMULA_STARTS)
    return f"'{text}" if is_risky else text
