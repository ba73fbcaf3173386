"""Log format: one line for each record, whatever a client put into it, and no text of a patient."""

from __future__ import annotations

import logging
import traceback
from types import TracebackType

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class OneLine(logging.Formatter):
    """Escapes line breaks and control characters of a message, so that no client can forge a log line.

    A traceback keeps its lines, each indented, so that it can't pass for a record of its own. The
    text of the exception is left out: a database error quotes the row it failed on.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:
        line = super().formatMessage(record)
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)

    def formatException(self, ei: ExcInfo) -> str:
        lines: list[str] = []
        error = ei[1]
        while error is not None:
            lines += [
                line for frame in traceback.format_tb(error.__traceback__) for line in frame.splitlines()
            ]
            lines.append(
                f"{type(error).__module__}.{type(error).__qualname__} {getattr(error, 'sqlstate', '') or ''}"
            )
            error = error.__cause__ or error.__context__
        return "\n".join("    " + line for line in lines)
