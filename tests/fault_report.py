"""What the faults and attacks of a run did, for the table at its end."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

COLUMNS = ("rounds", "lost", "duplicated", "let in")
_lines: dict[str, list[int | None]] = defaultdict(lambda: [0, None, None, None])
_remarks: dict[str, str] = {}


def note(
    what: str,
    *,
    rounds: int = 1,
    lost: int | None = None,
    duplicated: int | None = None,
    let_in: int | None = None,
    remark: str = "",
) -> None:
    """One fault or attack. What a test does not measure stays empty in the table."""
    line = _lines[what]
    for place, more in enumerate((rounds, lost, duplicated, let_in)):
        if more is not None:
            line[place] = (line[place] or 0) + more
    if remark:
        _remarks[what] = remark


def written() -> list[Any]:
    """All there is, for another process."""
    return [(what, *line, _remarks.get(what, "")) for what, line in _lines.items()]


def add(lines: list[Any]) -> None:
    """What a process that ran tests beside this one has written."""
    for what, rounds, lost, duplicated, let_in, remark in lines:
        note(what, rounds=rounds, lost=lost, duplicated=duplicated, let_in=let_in, remark=remark)


def table() -> list[str]:
    """Nothing where nothing was noted."""
    if not _lines:
        return []
    width = max(map(len, _lines))
    head = f"{'fault or attack':{width}}" + "".join(f"{column:>12}" for column in COLUMNS)
    return [
        head,
        *(
            f"{what:{width}}"
            + "".join(f"{'' if n is None else n:>12}" for n in line)
            + (f"  {_remarks[what]}" if what in _remarks else "")
            for what, line in _lines.items()
        ),
    ]
