"""Means, intervals and paired comparisons of accuracies; every interval covers 95 %.

All functions take accuracies as fractions. An interval that the data cannot give (one value, say) is infinite, never 0.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.core.errors import DataError

NORMAL_QUANTILE = 1.959963984540054
"""Of probability 0.975."""


def _checked(values: Sequence[float] | np.ndarray, what: str) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64).ravel()
    if array.size == 0:
        raise DataError(f"No {what} given; at least one is needed for a mean.")
    if not np.isfinite(array).all():
        raise DataError(f"{int((~np.isfinite(array)).sum())} of {array.size} {what} are not finite; mend their source.")
    return array


def t_quantile(degrees_of_freedom: float, probability: float = 0.975) -> float:
    """Quantile of Student's t distribution."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees_of_freedom, probability))


def standard_error(values: Sequence[float] | np.ndarray) -> float:
    """Standard error of the mean, s / sqrt(n) with ddof 1; infinite for a single value."""
    array = _checked(values, "values")
    return float(array.std(ddof=1) / math.sqrt(array.size)) if array.size > 1 else math.inf


def mean_ci95(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Mean and half-width of its 95 % confidence interval, t_{0.975, n-1} * s / sqrt(n), s with ddof 1.

    Returns:
        (mean, half-width); the half-width of a single value is infinite: it says nothing about its spread.

    Raises DataError when there are no values or some are not finite.
    """
    array = _checked(values, "values")
    if array.size == 1:
        return float(array[0]), math.inf
    return float(array.mean()), t_quantile(array.size - 1) * standard_error(array)


def wilson_ci95(n_right: float, n: int) -> tuple[float, float]:
    """95 % interval of a probability from `n_right` of `n` independent trials (Wilson, 1927).

    Unlike the mean's t-interval it is right for few trials too and never empty: 0 of 10 gives (0, 0.28).

    Args:
        n_right: from 0 to n; may be a mean of several counts.

    Returns:
        (low, high) as fractions.

    Raises DataError when there are no trials, or more right ones than trials.
    """
    if n < 1 or not 0 <= n_right <= n:
        raise DataError(f"An interval needs at least one trial and 0 to n right ones; got {n_right} of {n}.")
    share, spread = n_right / n, NORMAL_QUANTILE**2 / n
    centre = share + spread / 2
    half = math.sqrt(spread * share * (1 - share) + spread**2 / 4)
    low, high = (centre - half) / (1 + spread), (centre + half) / (1 + spread)
    # rounding must not shut out the share itself when none or all are right
    return max(0.0, min(low, share)), min(1.0, max(high, share))


def seeds_ci95(accuracies: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Mean over training seeds and a half-width that holds both the choice of the seed and of the episodes.

    half-width^2 = (t_{S-1} s_between / sqrt(S))^2 + (t_{n-1})^2 mean_s SE_s^2. The second term is not divided by S: all
    seeds are tested on the same episodes, so their sampling errors go together. Infinite for a single seed.

    Args:
        accuracies: one sequence of episode accuracies per seed, all of the same n episodes.
    """
    rows = [_checked(row, "episode accuracies") for row in accuracies]
    mean, between = mean_ci95([row.mean() for row in rows])
    if any(row.size != rows[0].size for row in rows):
        raise DataError("The seeds were tested on different numbers of episodes; test all on the same stored episodes.")
    if rows[0].size == 1:
        return mean, math.inf
    within = t_quantile(rows[0].size - 1) * math.sqrt(np.mean([standard_error(row) ** 2 for row in rows]))
    return mean, math.hypot(between, within)


@dataclass(frozen=True)
class PairedDifference:
    """Accuracy differences a - b on identical episodes.

    Attributes:
        mean, ci95: mean difference and its 95 % half-width.
        win, tie, loss: episodes on which a was better, equal, worse.
    """

    mean: float
    ci95: float
    win: int
    tie: int
    loss: int


def paired_difference(a: Sequence[float], b: Sequence[float]) -> PairedDifference:
    """Compare two networks on the same episodes, in the same order. Raises DataError when the lengths differ.

    Differences smaller than 1e-12 count as ties: they come from the order of additions, not from a query.
    """
    first, second = _checked(a, "accuracies"), _checked(b, "accuracies")
    if first.size != second.size:
        raise DataError(
            f"A paired comparison needs the same episodes on both sides; got {first.size} and {second.size}. "
            "Evaluate both on the same stored episodes."
        )
    difference = first - second
    mean, half = mean_ci95(difference)
    win, loss = int((difference > 1e-12).sum()), int((difference < -1e-12).sum())
    return PairedDifference(mean, half, win, first.size - win - loss, loss)


def relative_improvement(accuracy: float, control: float) -> float:
    """Improvement over a control in percent of the control, 100 (a - c) / c (Yang, Esperanca and Carlucci, ICLR 2020).

    Raises DataError when the control is not positive: the ratio is then undefined.
    """
    if not control > 0:
        raise DataError(f"The control's accuracy is {control}; a relative improvement needs a positive one.")
    return 100.0 * (accuracy - control) / control


def hierarchical_bootstrap(
    images: np.ndarray,
    classes: np.ndarray,
    correct: np.ndarray,
    n_resamples: int,
    generator: np.random.Generator,
) -> tuple[float, float]:
    """95 % percentile interval of the accuracy over other classes and other images, predictions held fixed.

    The plain interval over episodes takes the pool of test images as given. Here classes are drawn with replacement,
    and within each class drawn, its images; the accuracy is recomputed with every prediction weighted by how often its
    image was drawn.

    Args:
        images: image id of every prediction, shape (n,).
        classes: class id of every prediction, shape (n,); an image has one class.
        correct: whether the prediction was right, shape (n,).
        n_resamples: number of bootstrap samples.

    Returns:
        (low, high) as fractions.
    """
    images, classes, correct = (np.asarray(column).ravel() for column in (images, classes, correct))
    if not images.size == classes.size == correct.size or images.size == 0:
        raise DataError("The bootstrap needs as many images as classes and outcomes, and at least one prediction.")
    ids, first, position = np.unique(images, return_index=True, return_inverse=True)
    n_seen = np.bincount(position, minlength=ids.size).astype(np.float64)
    n_right = np.bincount(position, weights=correct.astype(np.float64), minlength=ids.size)
    members = [np.flatnonzero(classes[first] == label) for label in np.unique(classes)]
    accuracies = np.empty(n_resamples)
    for resample in range(n_resamples):
        weight = np.zeros(ids.size)
        for drawn in generator.integers(len(members), size=len(members)):
            pool = members[drawn]
            weight[pool] += np.bincount(generator.integers(pool.size, size=pool.size), minlength=pool.size)
        accuracies[resample] = weight @ n_right / (weight @ n_seen)
    low, high = np.quantile(accuracies, (0.025, 0.975))
    return float(low), float(high)
