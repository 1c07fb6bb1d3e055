"""Indicators as a strategy sees them: a name, a direction, and the numbers it is told. No network, no proxy."""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.core.errors import ScoreError
from pipeline.core.wording import n_of

DECIMALS = 3
SIGNIFICANT_DIGITS = 3


@dataclass(frozen=True)
class Indicator:
    """A number that can be measured on an architecture.

    Attributes:
        name: column of the trace.
        higher_is_better: its direction.
        stale_origin_in_groups: the origin of its comparisons stays what it was when the edge-group phase began, as in
            the published code of MetaNTK-NAS and TE-NAS (see `PruneByRank`).
    """

    name: str
    higher_is_better: bool
    stale_origin_in_groups: bool = False


@dataclass(frozen=True)
class Measured:
    """What one indicator said about all candidates of one question.

    Attributes:
        values: a row per candidate, a column per repeat.
        origins: the same of the architecture that the candidates are changes of; one row where all candidates share
            it, else a row per candidate; None where there is no origin.
    """

    values: Sequence[Sequence[float]]
    origins: Sequence[Sequence[float]] | None = None

    def origin(self, candidate: int) -> Sequence[float]:
        return self.origins[0] if len(self.origins) == 1 else self.origins[candidate]

    @property
    def n_not_finite(self) -> int:
        """How many of the measured numbers are none (nan or infinite)."""
        rows = [*self.values, *(self.origins or [])]
        return sum(not math.isfinite(value) for row in rows for value in row)


def relative_change(origin: float, value: float) -> float:
    """(origin - value) / origin to three decimals; nan where one of them is not finite or the origin is zero."""
    if not (math.isfinite(origin) and math.isfinite(value)) or origin == 0:
        return math.nan
    change = (origin - value) / origin
    return round(change, DECIMALS) if math.isfinite(change) else math.nan


@dataclass(frozen=True)
class Changes:
    """Relative changes of all candidates by one indicator.

    Attributes:
        rows: a row per candidate, a column per repeat; nan where a number was not finite.
        usable: the repeats that count for the means.
    """

    rows: Sequence[Sequence[float]]
    usable: Sequence[int]

    def means(self) -> list[float]:
        """Mean over the usable repeats; nan for a candidate without a finite value in one of them."""
        return [mean([row[repeat] for repeat in self.usable]) for row in self.rows]


def relative_changes(measured: Measured, name: str) -> Changes:
    """Relative change of every candidate in every repeat.

    A repeat in which an origin has no finite value says nothing about the candidates it was to be compared with: it is
    left out for all candidates, so that none is favoured.

    Raises ScoreError when no candidate has a number in all repeats that are left.
    """
    usable = [
        repeat
        for repeat in range(len(measured.values[0]))
        if all(math.isfinite(row[repeat]) and row[repeat] != 0 for row in measured.origins)
    ]
    rows = [
        [relative_change(*pair) for pair in zip(measured.origin(i), row, strict=True)]
        for i, row in enumerate(measured.values)
    ]
    changes = Changes(rows, usable)
    if not usable or not any(map(math.isfinite, changes.means())):
        raise ScoreError(
            f"Indicator '{name}' has no finite value for "
            + (f"any of {n_of(len(rows), 'candidate')}" if usable else "the supernet")
            + ", so there is nothing to rank by. Look at the images and at the search's channels; another seed or more "
            "images per batch may help."
        )
    return changes


def mean(values: Sequence[float]) -> float:
    """Plain mean, added from left to right; nan if any value is nan."""
    return sum(values) / len(values)


def require_finite(name: str, values: Sequence[float]) -> None:
    """Raises ScoreError when an indicator has no finite value for any architecture."""
    if not any(map(math.isfinite, values)):
        raise ScoreError(f"Indicator '{name}' has no finite value for any of {n_of(len(values), 'architecture')}.")


def to_significant(value: float) -> float:
    """`value` to three significant digits: sign(x) round(a 10^-k, 3) 10^k, a = |x| + 1e-8, k = floor(log10 a) + 1."""
    if value == 0:
        return 0.0
    size = abs(value) + 1e-8
    scale = 10 ** (math.floor(math.log10(size)) + 1)
    return math.copysign(round(size / scale, SIGNIFICANT_DIGITS) * scale, value)


def dense_ranks(values: Sequence[float], descending: bool) -> tuple[list[int], list[int]]:
    """Order of the candidates by one indicator, and the rank of each.

    The order goes by the values rounded to three significant digits and is stable. Ranks are dense (0, 1, 2, ...); two
    neighbours share one only if their values are equal *before* rounding. Candidates without a finite value come last
    and share the last rank.

    Returns (order, ranks): `order[k]` is the candidate in place k, `ranks[i]` the rank of candidate i.
    """

    def place(i: int) -> tuple[bool, float]:
        if not math.isfinite(values[i]):
            return True, 0.0
        rounded = to_significant(values[i])
        return False, -rounded if descending else rounded

    order = sorted(range(len(values)), key=place)
    ranks, rank = [0] * len(values), 0
    for before, here in itertools.pairwise(order):
        both_undefined = not (math.isfinite(values[before]) or math.isfinite(values[here]))
        rank += not (values[before] == values[here] or both_undefined)
        ranks[here] = rank
    return order, ranks


def rank_together(columns: Iterable[tuple[Sequence[float], bool]]) -> tuple[list[int], list[int]]:
    """Candidates by the sum of their ranks over several indicators.

    Args:
        columns: per indicator its values and whether large ones come first.

    Returns (order, totals). Equal sums keep the order of the first indicator.
    """
    first_order, totals = None, None
    for values, descending in columns:
        order, ranks = dense_ranks(values, descending)
        first_order = order if first_order is None else first_order
        totals = ranks if totals is None else [a + b for a, b in zip(totals, ranks, strict=True)]
    return sorted(first_order, key=lambda i: totals[i]), totals


def rank_sums(columns: Sequence[tuple[Sequence[float], bool]]) -> list[int]:
    """Sum over indicators of a member's rank, small for good ones.

    A member's rank by one indicator is the number of members that are better; equal values share it. Values that are
    not finite are worse than all others.

    Args:
        columns: per indicator the members' values and whether high ones are better.
    """
    totals = [0] * len(columns[0][0])
    for values, higher_is_better in columns:
        worth = [(value if higher_is_better else -value) if math.isfinite(value) else -math.inf for value in values]
        place: dict[float, int] = {}
        for i, one in enumerate(sorted(worth, reverse=True)):
            place.setdefault(one, i)
        totals = [total + place[one] for total, one in zip(totals, worth, strict=True)]
    return totals


def best_by_ranks(columns: Sequence[tuple[Sequence[float], bool]]) -> int:
    """The member with the smallest sum of ranks (see `rank_sums`); the first of those with equal sums."""
    totals = rank_sums(columns)
    return totals.index(min(totals))
