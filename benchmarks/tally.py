"""Whether everything arrived, once and in order; and percentiles."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass


@dataclass
class Faults:
    """What must not happen, counted."""

    lost: int = 0
    repeated: int = 0
    out_of_order: int = 0

    def __add__(self, other: Faults) -> Faults:
        return Faults(
            self.lost + other.lost, self.repeated + other.repeated, self.out_of_order + other.out_of_order
        )

    def __bool__(self) -> bool:
        return bool(self.lost or self.repeated or self.out_of_order)

    def __str__(self) -> str:
        return f"{self.lost} / {self.repeated} / {self.out_of_order}"


def faults_in(heard: Sequence[Hashable], sent: Iterable[Hashable]) -> Faults:
    """Compare what one connection has heard of one sender with what was sent, in that order."""
    place = {item: number for number, item in enumerate(sent)}
    first_heard = [place[item] for item in dict.fromkeys(heard)]
    return Faults(
        lost=len(place) - len(first_heard),
        repeated=len(heard) - len(first_heard),
        out_of_order=sum(later < earlier for earlier, later in itertools.pairwise(first_heard)),
    )


def percentile(values: Iterable[float], percent: float) -> float:
    """The smallest value that is not below `percent` of all; NaN where there is none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else math.nan
