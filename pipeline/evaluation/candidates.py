"""What a search proposed and how it ranked that, where the accuracy of every architecture is known."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pipeline.evaluation.estimates import finite
from pipeline.evaluation.rank_quality import pearson, spearman, tau_b
from pipeline.evaluation.statistics import mean_ci95

CORRELATIONS: dict[str, Callable[[np.ndarray, np.ndarray], float | None]] = {
    "pearson": pearson,
    "spearman": spearman,
    "kendall": tau_b,
}
N_RESAMPLES = 1000


def candidate_quality(
    scores: Sequence[np.ndarray],
    accuracies: Sequence[np.ndarray],
    k: int,
    uniform_mean: float,
    generator: np.random.Generator,
) -> dict[str, Any]:
    """How good the candidates of a search are, and how well their scores rank them.

    Args:
        scores, accuracies: a row per search seed, of its candidates; high scores are better, accuracies are fractions.
        k: how many of the first by score `best_of` looks at.
        uniform_mean: mean accuracy of all architectures that could be candidates.
        generator: of the bootstrap over candidates.

    Returns, in JSON's types:
        correlation: by name its mean over seeds, with the bootstrap's 95 % interval, and of each seed; None where
            undefined.
        proposed: mean accuracy of the candidates, all seeds together, with its interval.
        first: accuracy of the candidate with the highest score, of each seed: the result of the search.
        best_of: by test accuracy the best of the first k, which no search could know.
        beats_uniform, beats_random: whether the mean of the candidates is above uniform_mean, and Spearman's
            correlation above 0, by more than their intervals.
    """
    pairs = list(zip(scores, accuracies, strict=True))
    drawn = [[generator.integers(len(one), size=len(one)) for one in scores] for _ in range(N_RESAMPLES)]
    found = {}
    for name, of in CORRELATIONS.items():
        per_seed = [_defined(of, one, other) for one, other in pairs]
        resampled = [
            _mean([_defined(of, one[rows], other[rows]) for (one, other), rows in zip(pairs, chosen, strict=True)])
            for chosen in drawn
        ]
        usable = [value for value in resampled if value is not None]
        low, high = np.percentile(usable, [2.5, 97.5]).tolist() if usable else (None, None)
        found[name] = {"mean": _mean(per_seed), "low": low, "high": high, "per_seed": per_seed}
    orders = [np.argsort(-one, kind="stable") for one in scores]
    best = [float(other[order[:k]].max()) for other, order in zip(accuracies, orders, strict=True)]
    mean, half = mean_ci95(np.concatenate(accuracies))
    low = found["spearman"]["low"]
    return {
        "correlation": found,
        "proposed": {"mean": mean, "ci95": finite(half), "n": int(sum(map(len, scores)))},
        "uniform_mean": uniform_mean,
        "first": [float(other[order[0]]) for other, order in zip(accuracies, orders, strict=True)],
        "best_of": {
            "k": k,
            "chosen_by": "test accuracy, which no search may see",
            "accuracy": {"mean": float(np.mean(best)), "per_seed": best},
        },
        "beats_uniform": mean - half > uniform_mean,
        "beats_random": low is not None and low > 0,
    }


def _defined(of: Callable[..., float | None], one: np.ndarray, other: np.ndarray) -> float | None:
    return of(one, other) if len(one) > 2 else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
