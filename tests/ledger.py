"""What the faults and attacks of a run did, for the table at its end."""

from __future__ import annotations

from collections import defaultdict

COLUMNS = ("rounds", "lost", "duplicated", "let in")
_lines: dict[str, list[int | None]] = defaultdict(lambda: [0, None, None, None])


def note(
    what: str,
    *,
    rounds: int = 1,
    lost: int | None = None,
    duplicated: int | None = None,
    let_in: int | None = None,
) -> None:
    """One fault or attack. What a test does not measure stays empty in the table."""
    line = _lines[what]
    for place, more in enumerate((rounds, lost, duplicated, let_in)):
        if more is not None:
            line[place] = (line[place] or 0) + more


def table() -> list[str]:
    """Nothing where nothing was noted."""
    if not _lines:
        return []
    width = max(map(len, _lines))
    head = f"{'fault or attack':{width}}" + "".join(f"{column:>12}" for column in COLUMNS)
    return [
        head,
        *(
            f"{what:{width}}" + "".join(f"{'' if n is None else n:>12}" for n in line)
            for what, line in _lines.items()
        ),
    ]
