"""How far a proxy can be trusted: its ranking of architectures against the ranking by their true accuracies.

All functions take scores in the direction "higher is better". A score that is not finite takes no part in correlations
and stands behind all others in a ranking. Where scores are equal, top-k figures are means over all orders of the equal
ones, so that no order in a file decides.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.core.errors import DataError

FEWEST = 3
TOP_FRACTION = 0.1


@dataclass(frozen=True)
class Interval:
    """A figure and the 95 % interval of the bootstrap over architectures; None where it is undefined."""

    value: float | None
    low: float | None
    high: float | None


def tau_b(scores: np.ndarray, accuracies: np.ndarray) -> float | None:
    """Kendall's tau-b (Kendall 1945), which allows for ties; None where one side does not vary."""
    from scipy.stats import kendalltau

    return _defined(float(kendalltau(scores, accuracies).statistic))


def pearson(scores: np.ndarray, accuracies: np.ndarray) -> float | None:
    """Correlation of the values themselves; None where one side does not vary."""
    return _correlation(scores, accuracies)


def spearman(scores: np.ndarray, accuracies: np.ndarray) -> float | None:
    """Correlation of ranks, equal values sharing their mean rank; None where one side does not vary."""
    return _correlation(_ranks(scores), _ranks(accuracies))


def partial_spearman(scores: np.ndarray, accuracies: np.ndarray, given: np.ndarray) -> float | None:
    """Spearman's correlation of scores and accuracies once what the ranks of `given` explain of either is taken away.

    (r_xy - r_xz r_yz) / sqrt((1 - r_xz^2) (1 - r_yz^2)) on ranks; None where `given` explains a side wholly.
    """
    x, y, z = (_ranks(values) for values in (scores, accuracies, given))
    xy, xz, yz = _correlation(x, y), _correlation(x, z), _correlation(y, z)
    if xy is None:
        return None
    if xz is None or yz is None:
        # nothing varies in `given`, so nothing is taken away
        return xy
    left = (1 - xz * xz) * (1 - yz * yz)
    return (xy - xz * yz) / math.sqrt(left) if left > 1e-12 else None


def ndcg(scores: np.ndarray, accuracies: np.ndarray, k: int) -> float:
    """Normalised discounted cumulative gain of the first k (Järvelin and Kekäläinen 2002).

    The gain of an architecture is the fraction of the others that are less accurate (half of those equal to it), its
    discount 1 / log2(place + 1), places from 1.
    """
    n = len(scores)
    gains = (_ranks(accuracies) - 1) / max(1, n - 1)
    discounts = np.where(np.arange(n) < k, 1 / np.log2(np.arange(n) + 2), 0.0)
    ideal = float((np.sort(gains)[::-1] * discounts).sum())
    reached = sum(gains[rows].mean() * discounts[start : start + len(rows)].sum() for start, rows in _tied(scores))
    return float(reached / ideal) if ideal > 0 else 1.0


def regret_of_best(scores: np.ndarray, accuracies: np.ndarray, k: int) -> float:
    """Accuracy of the best architecture less that of the best among the first k, in the accuracies' unit."""
    best = -math.inf
    expected = None
    for start, rows in _tied(scores):
        here, n_taken = np.sort(accuracies[rows]), k - start
        if n_taken >= len(here):
            best = max(best, float(here[-1]))
            continue
        if n_taken > 0:
            expected = _mean_best(here, n_taken, best)
        break
    return float(accuracies.max() - (best if expected is None else expected))


def _mean_best(group: np.ndarray, n_taken: int, best: float) -> float:
    """Mean of max(best, largest value chosen) over all choices of `n_taken` of a sorted group."""
    ways = math.comb(len(group), n_taken)
    return sum(max(best, float(value)) * (math.comb(place, n_taken - 1) / ways) for place, value in enumerate(group))


def _tied(scores: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """(first place, rows) of every group of equal scores, the highest first; scores that are not finite come last."""
    usable = np.where(np.isfinite(scores), scores, -np.inf)
    order = np.argsort(-usable, kind="stable")
    starts = np.flatnonzero(np.r_[True, usable[order][1:] != usable[order][:-1]])
    return [(int(start), rows) for start, rows in zip(starts, np.split(order, starts[1:]), strict=True)]


def _ranks(values: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    return rankdata(values)


def _correlation(x: np.ndarray, y: np.ndarray) -> float | None:
    x, y = x - x.mean(), y - y.mean()
    size = math.sqrt(float((x * x).sum() * (y * y).sum()))
    return float((x * y).sum()) / size if size > 0 else None


def _defined(value: float) -> float | None:
    return value if math.isfinite(value) else None


def figures_of(scores: np.ndarray, accuracies: np.ndarray, log_params: np.ndarray, k: int) -> dict[str, float | None]:
    """All figures of one proxy on one sample of architectures."""
    finite = np.isfinite(scores)
    x, y, z = scores[finite], accuracies[finite], log_params[finite]
    enough = len(x) >= FEWEST
    return {
        "kendall_tau_b": tau_b(x, y) if enough else None,
        "spearman": spearman(x, y) if enough else None,
        "partial_spearman_given_log_params": partial_spearman(x, y, z) if enough else None,
        "ndcg": ndcg(scores, accuracies, k),
        "regret_of_best": regret_of_best(scores, accuracies, k),
    }


def rank_quality(
    scores: Any,
    accuracies: Any,
    log_params: Any,
    *,
    generator: np.random.Generator,
    n_resamples: int = 1000,
    top_fraction: float = TOP_FRACTION,
) -> dict[str, Interval]:
    """Figures of one proxy with bootstrap intervals over architectures (percentiles 2.5 and 97.5).

    Args:
        scores: one per architecture, higher is better; may hold values that are not finite.
        accuracies, log_params: one per architecture, finite.
        top_fraction: part of the sample that nDCG and the regret look at; at least one architecture.

    Raises DataError when lengths differ, fewer than three architectures are given or an accuracy is not finite.
    """
    columns = [np.asarray(values, dtype=np.float64).ravel() for values in (scores, accuracies, log_params)]
    n = len(columns[0])
    if {len(column) for column in columns} != {n} or n < FEWEST:
        raise DataError(
            f"Scores, accuracies and sizes of {', '.join(str(len(column)) for column in columns)} architectures were "
            f"given; as many of each are needed, and at least {FEWEST}."
        )
    if not all(np.isfinite(column).all() for column in columns[1:]):
        raise DataError("An accuracy or size is not finite; mend the table it comes from.")

    def of(rows: np.ndarray) -> dict[str, float | None]:
        return figures_of(*(column[rows] for column in columns), k=max(1, round(top_fraction * len(rows))))

    found = of(np.arange(n))
    drawn = [of(generator.integers(n, size=n)) for _ in range(n_resamples)]
    return {name: _interval(value, [one[name] for one in drawn]) for name, value in found.items()}


def _interval(value: float | None, drawn: list[float | None]) -> Interval:
    usable = [one for one in drawn if one is not None]
    if value is None or not usable:
        return Interval(value, None, None)
    low, high = np.percentile(usable, [2.5, 97.5])
    return Interval(value, float(low), float(high))


def seed_variance(scores: Any) -> dict[str, float | None]:
    """How far the draw of weights and images moves a proxy.

    Args:
        scores: (seed, architecture), at least two seeds.

    Returns the mean over pairs of seeds of Kendall's tau-b between them, and the part of the scores' variance that lies
    within architectures (0: the seed does not matter, 1: nothing but the seed matters). None where undefined.
    """
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or len(table) < 2:
        raise DataError(f"Scores of shape {table.shape} were given; at least two seeds (first axis) are needed.")
    table = table[:, np.isfinite(table).all(0)]
    if table.shape[1] < FEWEST:
        return {"tau_between_seeds": None, "variance_within": None}
    taus = [tau_b(table[i], table[j]) for i in range(len(table)) for j in range(i)]
    usable = [one for one in taus if one is not None]
    within, between = float(table.var(0, ddof=1).mean()), float(table.mean(0).var(ddof=1))
    # the variance of the means holds a share of the variance within
    between = max(0.0, between - within / len(table))
    total = within + between
    return {
        "tau_between_seeds": float(np.mean(usable)) if usable else None,
        "variance_within": within / total if total > 0 else None,
    }


def oriented(values: Any, higher_is_better: bool) -> np.ndarray:
    """Scores in the direction "higher is better"; what is not finite becomes nan, whatever its sign."""
    array = np.asarray(values, dtype=np.float64)
    array = np.where(np.isfinite(array), array, np.nan)
    return array if higher_is_better else -array
