"""Does a search follow its indicators or their noise? Agreement of rankings between repeats and between indicators.

If an indicator tells good removals from bad ones, two repeats with other weights and images rank the same candidates
alike. Kendall's tau measures how alike: 1 the same, 0 unrelated. Where its interval holds 0, the ranking cannot be told
from chance, and what the search found deserves no more trust than a random architecture.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pipeline.core.wording import fixed
from pipeline.strategies.indicators import Indicator

Z95 = 1.959963984540054


def tau(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Kendall's tau-b over the entries finite in both; None where one side does not vary or fewer than 3 are left."""
    from scipy.stats import kendalltau

    pairs = [(a, b) for a, b in zip(first, second, strict=True) if math.isfinite(a) and math.isfinite(b)]
    if len(pairs) < 3 or any(len(set(side)) < 2 for side in zip(*pairs, strict=True)):
        return None
    return float(kendalltau(*zip(*pairs, strict=True)).statistic)


def variance_of_unrelated(n: int) -> float:
    """Variance of tau over n candidates when the two rankings are unrelated (Kendall 1938): 2(2n+5) / (9n(n-1))."""
    return 2 * (2 * n + 5) / (9 * n * (n - 1))


def combine(taus: Iterable[tuple[float, int]]) -> dict[str, float] | None:
    """Mean of taus (tau, number of candidates), weighted by precision, with the 95 % interval of chance around it.

    Taus between unrelated rankings are uncorrelated, so their precisions add. None without any tau.
    """
    taus = list(taus)
    if not taus:
        return None
    weights = [1 / variance_of_unrelated(n) for _, n in taus]
    value = sum(weight * one for weight, (one, _) in zip(weights, taus, strict=True)) / sum(weights)
    half = Z95 / math.sqrt(sum(weights))
    return {"tau": value, "low": max(-1.0, value - half), "high": min(1.0, value + half)}


def repeats_of(
    rows: Sequence[Mapping[str, Any]], indicator: str, n_repeats: int, column: Callable[[str, int], str]
) -> list[list[float]]:
    """The candidates' entries by an indicator, a list per repeat; nan where there was no finite number."""
    return [[row[column(indicator, repeat)] for row in rows] for repeat in range(n_repeats)]


def change_column(indicator: str, repeat: int) -> str:
    """Column of the trace with the relative change of an indicator in one repeat."""
    return f"{indicator}_change_{repeat}"


def repeat_column(indicator: str, repeat: int) -> str:
    """Column of the trace with the value of an indicator in one repeat."""
    return f"{indicator}_repeat_{repeat}"


def _between_repeats(rows, indicator: str, n_repeats: int, column) -> list[float]:
    columns = repeats_of(rows, indicator, n_repeats, column)
    found = (tau(a, b) for a, b in itertools.combinations(columns, 2))
    return [value for value in found if value is not None]


def _between_indicators(rows, indicators: Sequence[Indicator], n_repeats: int, column, sign: int) -> list[float]:
    """Agreement of the orders in which pairs of indicators would put the candidates, by mean entries."""
    orders = []
    for item in indicators:
        columns = repeats_of(rows, item.name, n_repeats, column)
        direction = sign if item.higher_is_better else -sign
        orders.append([direction * sum(entries) / n_repeats for entries in zip(*columns, strict=True)])
    found = (tau(a, b) for a, b in itertools.combinations(orders, 2))
    return [value for value in found if value is not None]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def summarise(
    rows: Sequence[Mapping[str, Any]], indicators: Sequence[Indicator], n_repeats: int, knobs: Sequence[str]
) -> dict[str, Any]:
    """Agreement per round and over the whole trace.

    Args:
        rows: lines of the trace, of which those of candidates (with an `operation`) are used.
        knobs: of the search, as its user spells them: the number of repeats, then others with which repeats may agree
            more.

    Returns a JSON-able dict: `rounds` (seed, round, n_candidates, taus), `between_repeats` by indicator and
    `between_indicators` (tau, low, high over all rounds, or None), `verdict` by indicator ("signal", "noise" or
    "unknown") and `warning` (text for the user, or None).
    """
    candidates = [row for row in rows if row["operation"] is not None]
    groups = itertools.groupby(candidates, key=lambda row: (row["seed"], row["round"]))
    summary = _summary(((*key, list(group)) for key, group in groups), indicators, n_repeats, change_column, -1)
    return summary | {"warning": _warning(summary, knobs)}


def summarise_genotypes(
    rows: Sequence[Mapping[str, Any]], indicators: Sequence[Indicator], n_repeats: int, knobs: Sequence[str]
) -> dict[str, Any]:
    """The same for searches that measure whole architectures: a seed's architectures are ranked all together.

    Args:
        rows: lines of the trace, of which the first of every architecture is used.
    """
    seeds = dict.fromkeys(row["seed"] for row in rows)
    groups = []
    for seed in seeds:
        distinct = {row["genotype"]: row for row in reversed(rows) if row["seed"] == seed}
        groups.append((seed, 0, list(distinct.values())))
    summary = _summary(groups, indicators, n_repeats, repeat_column, 1)
    return summary | {"warning": _warning(summary, knobs)}


def _summary(groups, indicators, n_repeats: int, column: Callable[[str, int], str], sign: int) -> dict[str, Any]:
    """The summary of (seed, round, rows); `sign` is 1 for values of an indicator and -1 for falls of them."""
    rounds, repeat_taus, indicator_taus = [], {item.name: [] for item in indicators}, []
    for seed, number, group in groups:
        within = {item.name: _between_repeats(group, item.name, n_repeats, column) for item in indicators}
        across = _between_indicators(group, indicators, n_repeats, column, sign)
        for name, values in within.items():
            repeat_taus[name] += [(value, len(group)) for value in values]
        indicator_taus += [(value, len(group)) for value in across]
        rounds.append(
            {
                "seed": seed,
                "round": number,
                "n_candidates": len(group),
                "between_repeats": {name: _mean(values) for name, values in within.items()},
                "between_indicators": _mean(across),
            }
        )
    between_repeats = {name: combine(values) for name, values in repeat_taus.items()}
    verdict = {name: _verdict(value) for name, value in between_repeats.items()}
    return {
        "n_repeats": n_repeats,
        "rounds": rounds,
        "between_repeats": between_repeats,
        "between_indicators": combine(indicator_taus),
        "verdict": verdict,
    }


def _verdict(agreement: Mapping[str, float] | None) -> str:
    if agreement is None:
        return "unknown"
    return "signal" if agreement["low"] > 0 else "noise"


def _warning(summary: Mapping[str, Any], knobs: Sequence[str]) -> str | None:
    verdict, agreement = summary["verdict"], summary["between_repeats"]
    if summary["n_repeats"] < 2:
        return (
            "With one repeat nobody can tell whether this search followed its indicators or noise: set "
            f"{knobs[0]} to 2 or more."
        )
    noisy = [
        f"{name} (Kendall tau {fixed(agreement[name]['tau'])}, 95 % interval {fixed(agreement[name]['low'])} to "
        f"{fixed(agreement[name]['high'])})"
        for name, word in verdict.items()
        if word == "noise"
    ]
    still = [f"{name} (its values do not vary)" for name, word in verdict.items() if word == "unknown"]
    if not noisy and not still:
        return None
    return (
        f"The ranking of candidates by {' and by '.join(noisy + still)} agrees between repeats no better than chance. "
        "As far as it decided, this search followed noise: compare with the random control, and consider a "
        f"larger {' or '.join(knobs)}."
    )
