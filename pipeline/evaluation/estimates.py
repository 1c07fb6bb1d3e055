"""Accuracies with their intervals, from the outcomes of the few-shot test of one or more architectures."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.evaluation.few_shot_test import Outcome
from pipeline.evaluation.statistics import hierarchical_bootstrap, mean_ci95, seeds_ci95


def by_episode(outcomes: Sequence[Outcome]) -> np.ndarray:
    """Accuracy of each episode, averaged over architectures, shape (n_episodes,)."""
    return np.mean([outcome.accuracies for outcome in outcomes], axis=0)


def finite(half_width: float) -> float | None:
    """A half-width as JSON can hold it: None where the data say nothing about their spread."""
    return half_width if math.isfinite(half_width) else None


def mean_and_interval(outcomes: Sequence[Outcome]) -> dict[str, float | None]:
    """Mean and 95 % half-width over episodes of accuracies that are averaged over architectures; how many episodes."""
    accuracies = by_episode(outcomes)
    mean, half = mean_ci95(accuracies)
    return {"mean": mean, "ci95": finite(half), "n_episodes": len(accuracies)}


def estimate(
    outcomes: Sequence[Outcome], disjoint: Sequence[Outcome], n_resamples: int, generator: np.random.Generator
) -> dict[str, Any]:
    """Accuracy of one shot with all its intervals.

    Args:
        outcomes: one per architecture, on the stored episodes.
        disjoint: one per architecture, on episodes that share no image; empty where the pool gives none.
        n_resamples, generator: of the bootstrap over classes and images.

    Returns:
        mean and ci95 over episodes, per_seed means, seeds_ci95 (how the architectures differ counted too; None for a
        single one), and both data-aware intervals.
    """
    of_seeds = [outcome.accuracies for outcome in outcomes]
    low, high = hierarchical_bootstrap(
        *(np.stack([getattr(outcome, name) for outcome in outcomes]) for name in ("images", "classes", "correct")),
        n_resamples,
        generator,
    )
    once = {**mean_and_interval(disjoint), "n_episodes": len(disjoint[0].correct)} if disjoint else None
    return {
        **mean_and_interval(outcomes),
        "n_episodes": len(outcomes[0].correct),
        "per_seed": [float(accuracies.mean()) for accuracies in of_seeds],
        "seeds_ci95": finite(seeds_ci95(of_seeds)[1]),
        "data_aware": {
            "without_replacement": once,
            "hierarchical_bootstrap": {"low": low, "high": high, "n_resamples": n_resamples},
        },
    }
