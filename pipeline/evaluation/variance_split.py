"""How much of the spread of accuracies tasks and architectures explain, each alone."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.core.errors import DataError

POOLED, OF_GROUPS = "pooled", "mean_of_groups"
WEIGHTINGS = (POOLED, OF_GROUPS)
"""How variances inside groups are averaged: by their degrees of freedom, or every group with two values alike."""


def variance_inside(
    values: Sequence[float], groups: Sequence[Hashable], weighting: str = POOLED
) -> tuple[float | None, int]:
    """Average variance around the groups' own means, and its degrees of freedom: values less groups.

    None where no group has two values. Where the spread is the same in all groups both weightings estimate it, the
    pooled one with less error; where it is not, the pooled one gives groups with many values more say.
    """
    values = np.asarray(values, dtype=np.float64)
    _, group, counts = np.unique(_numbers(groups), return_inverse=True, return_counts=True)
    freedom = len(values) - len(counts)
    if freedom < 1:
        return None, 0
    means = np.bincount(group, weights=values) / counts
    squares = np.bincount(group, weights=(values - means[group]) ** 2)
    if weighting == POOLED:
        return float(squares.sum() / freedom), freedom
    several = counts > 1
    return float((squares[several] / (counts[several] - 1)).mean()), freedom


@dataclass(frozen=True)
class VarianceSplit:
    """Of value = mean + task effect + architecture effect + rest, with independent effects.

    Inside a task only architecture and rest vary, inside an architecture only task and rest. With the total that makes
    three equations, whatever was measured how often; an effect may come out a little below 0 where it is small.

    Attributes:
        total: variance of all values, n - 1 in the denominator.
        inside_task, inside_architecture: averages of variances; None where no task, or no architecture, has two values.
        task, architecture, rest: variances of the effects; None where an equation is missing.
        degrees_of_freedom: of inside_task and inside_architecture, by these names.
    """

    total: float
    inside_task: float | None
    inside_architecture: float | None
    task: float | None
    architecture: float | None
    rest: float | None
    degrees_of_freedom: dict[str, int]


def variance_split(
    values: Sequence[float],
    tasks: Sequence[Hashable],
    architectures: Sequence[Hashable],
    weighting: str = POOLED,
) -> VarianceSplit:
    """Split the variance of values by the task and the architecture of each; see WEIGHTINGS.

    Raises DataError for fewer than two values.
    """
    if len(values) < 2:
        raise DataError(f"A variance needs at least two values; there are {len(values)}.")
    total = float(np.var(np.asarray(values, dtype=np.float64), ddof=1))
    (in_task, of_task), (in_architecture, of_architecture) = (
        variance_inside(values, groups, weighting) for groups in (tasks, architectures)
    )
    known = in_task is not None and in_architecture is not None
    return VarianceSplit(
        total=total,
        inside_task=in_task,
        inside_architecture=in_architecture,
        task=None if in_task is None else total - in_task,
        architecture=None if in_architecture is None else total - in_architecture,
        rest=in_task + in_architecture - total if known else None,
        degrees_of_freedom={"inside_task": of_task, "inside_architecture": of_architecture},
    )


def architecture_variance_inside_tasks(
    values: Sequence[float], tasks: Sequence[Hashable], architectures: Sequence[Hashable]
) -> tuple[float | None, int]:
    """Variance of the architectures' effect, from how one architecture's values on different tasks go together.

    Values are taken around their task's mean, so the task's effect is out however large it is. The product of two such
    values of one architecture on tasks of n and m values, k of them of architectures that both tasks have, has the
    expectation (1 - 1/n - 1/m + k/nm) times the variance wanted; the estimate is the sum of products over the sum of
    factors.

    Returns:
        The variance, which may come out below 0 by chance, and the number of pairs; (None, 0) without a pair.
    """
    values = np.asarray(values, dtype=np.float64)
    _, task, counts = np.unique(_numbers(tasks), return_inverse=True, return_counts=True)
    centred = values - (np.bincount(task, weights=values) / counts)[task]
    architecture = _numbers(architectures)
    shares = np.zeros((len(counts), architecture.max(initial=-1) + 1))
    np.add.at(shares, (task, architecture), 1 / counts[task])
    shared = shares @ shares.T
    total, factors, n_pairs = 0.0, 0.0, 0
    for number in np.unique(architecture):
        mine = architecture == number
        apart = np.triu(task[mine][:, None] != task[mine][None], 1)
        total += (np.outer(centred[mine], centred[mine]) * apart).sum()
        tasks_of = task[mine]
        share = shares[tasks_of, number]
        factors += ((1 - share[:, None] - share[None] + shared[np.ix_(tasks_of, tasks_of)]) * apart).sum()
        n_pairs += int(apart.sum())
    return (float(total / factors), n_pairs) if factors > 0 else (None, 0)


def _numbers(groups: Sequence[Hashable]) -> np.ndarray:
    """Groups numbered in the order of their first appearance."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups])
