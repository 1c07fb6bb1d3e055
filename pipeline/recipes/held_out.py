"""What meta-training was good for: figures on tasks of classes that took no part in it.

Intervals cover 95 %. Where figures are means over tasks, the tasks are what varies; tasks share classes, so the
intervals are a little too narrow.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from pipeline.core.rng import numpy_stream, torch_stream
from pipeline.episodes.class_tasks import ClassTask
from pipeline.evaluation.candidates import CORRELATIONS
from pipeline.evaluation.estimates import finite
from pipeline.evaluation.statistics import mean_ci95, wilson_ci95
from pipeline.meta_networks import Generator, Predictor
from pipeline.recipes.database import Plan, operation_frequencies
from pipeline.recipes.meta_settings import GeneratorTraining, PredictorTraining
from pipeline.recipes.meta_training import Examples, predictions, reconstruction
from pipeline.recipes.proposing import Proposer, texts_of

FEWEST_CELLS = 3
N_RESAMPLES = 1000
MANY_DIFFERENT = 500
AT_ONCE = 100


def mean_over(values: Iterable[float | None]) -> dict[str, Any] | None:
    """Mean with its interval, and of how many values; values that are undefined are left out."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    mean, half = mean_ci95(known)
    return {"mean": mean, "ci95": finite(half), "n": len(known)}


def beats(estimate: Mapping[str, Any] | None, knows_tasks: bool) -> bool | None:
    """Whether an estimate is above 0 by more than its interval.

    None for an oracle that gives an architecture the same number on every task: such tasks repeat one another, and an
    interval over them says nothing of other tasks.
    """
    if not knows_tasks:
        return None
    return bool(estimate and estimate["ci95"] is not None and estimate["mean"] > estimate["ci95"])


def judge_predictor(
    network: Predictor,
    held_out: Examples,
    known: Iterable[str],
    config: PredictorTraining,
    *,
    knows_tasks: bool,
    seed: int,
    device: torch.device,
) -> dict[str, Any]:
    """How predictions stand to the accuracies of held-out triples.

    Args:
        held_out: triples of novel tasks.
        known: texts of the architectures that were trained on, on other tasks.
        knows_tasks: whether the oracle that gave the accuracies knows tasks.

    Returns:
        pooled: correlations over all triples, with bootstrap intervals over tasks.
        new_architectures: the same without intervals, and `within_tasks`, over the triples whose architecture was not
            trained on; all tasks draw from the same architectures, so the other figures count some that were.
        task_means: correlations between a task's mean prediction and its mean accuracy: whether data sets are told
            apart.
        within_tasks: mean over tasks of the correlations inside a task, which is what a search ranks by; a random
            ranking has 0.
        first_choice: accuracy of the architecture predicted best in its task, less the mean of the task: what ranking
            gains over choosing at random.
        beats_random: whether the last two, Spearman's, are above 0 by more than their intervals; see `beats`.
    """
    images = torch_stream(seed, "held-out drawings")
    predicted = predictions(
        network, held_out, lambda task: held_out.drawn([task] * config.n_resamplings, config.n_images, images), device
    ).mean(0)
    truth, tasks = held_out.accuracy, held_out.task.numpy()
    groups = [np.flatnonzero(tasks == task) for task in range(len(held_out.classes))]
    old = set(known)
    new = np.array([text not in old for text in held_out.genotypes])
    generator = numpy_stream(seed, "held-out bootstrap")
    inside, inside_new = (
        [rows for rows in of_tasks if len(rows) >= FEWEST_CELLS]
        for of_tasks in (groups, [rows[new[rows]] for rows in groups])
    )
    within, within_new = (
        {name: mean_over(of(predicted[rows], truth[rows]) for rows in of_tasks) for name, of in CORRELATIONS.items()}
        for of_tasks in (inside, inside_new)
    )
    choice = mean_over(
        float(truth[rows[predicted[rows].argmax()]] - truth[rows].mean()) for rows in groups if len(rows) > 1
    )
    return {
        "n_tasks": len(groups),
        "n_triples": len(held_out),
        "n_resamplings": config.n_resamplings,
        "pooled": pooled(predicted, truth, groups, generator),
        "new_architectures": {
            "n_triples": int(new.sum()),
            **{name: correlation(of, predicted[new], truth[new]) for name, of in CORRELATIONS.items()},
            "within_tasks": within_new,
        },
        "task_means": {
            name: correlation(of, *(np.array([side[rows].mean() for rows in groups]) for side in (predicted, truth)))
            for name, of in CORRELATIONS.items()
        },
        "within_tasks": within,
        "first_choice": choice,
        "beats_random": {
            "ranking": beats(within["spearman"], knows_tasks),
            "first_choice": beats(choice, knows_tasks),
        },
    }


def correlation(of: Callable[..., float | None], one: np.ndarray, other: np.ndarray) -> float | None:
    """A correlation, None for fewer than three pairs."""
    return of(one, other) if len(one) >= FEWEST_CELLS else None


def pooled(
    predicted: np.ndarray, truth: np.ndarray, groups: Sequence[np.ndarray], generator: np.random.Generator
) -> dict[str, dict[str, float | None]]:
    """Correlations over all triples, with percentile intervals of the bootstrap that draws whole tasks; none for one
    task, which says nothing about the spread of tasks."""
    drawn = [
        np.concatenate([groups[i] for i in generator.integers(len(groups), size=len(groups))])
        for _ in range(N_RESAMPLES)
    ]
    found = {}
    for name, of in CORRELATIONS.items():
        values = [value for rows in drawn if (value := correlation(of, predicted[rows], truth[rows])) is not None]
        low, high = np.percentile(values, [2.5, 97.5]).tolist() if values and len(groups) > 1 else (None, None)
        found[name] = {"value": correlation(of, predicted, truth), "low": low, "high": high}
    return found


def proposals_for(
    network: Generator,
    held_out: Examples,
    space: Any,
    config: GeneratorTraining,
    n_of_task: int,
    *,
    seed: int,
    device: torch.device,
) -> list[list[Any]]:
    """`n_of_task` proposals for each held-out task, each from a drawing of its own."""
    found = []
    for task, number in enumerate(held_out.names):
        images = torch_stream(seed, "held-out drawings", number)

        def drawings(n: int, task: int = task, images: torch.Generator = images) -> torch.Tensor:
            return held_out.drawn([task] * n, config.n_images, images)

        propose = Proposer(network, space, drawings, device)
        found.append(propose(n_of_task, torch_stream(seed, "held-out graphs", number)))
    return found


def judge_generator(
    network: Generator,
    base: Examples,
    held_out: Examples,
    proposals: Sequence[Sequence[Any]],
    space: Any,
    known: Iterable[str],
    config: GeneratorTraining,
    *,
    seed: int,
    device: torch.device,
) -> dict[str, Any]:
    """How well good architectures of held-out tasks are told, and what is drawn for these tasks.

    Args:
        base, held_out: the good architectures of tasks, trained on and held out.
        proposals: for each held-out task.
        known: texts of all architectures of the database.

    Returns:
        reconstruction, kl: terms of the loss, means over the held-out pairs.
        drawn: how many proposals are valid, different and new.
        operations: how often each operation stands on each edge of the valid proposals and of the architectures that
            were trained on, and the largest difference.
    """
    seen = held_out.drawn(range(len(held_out.classes)), config.n_images, torch_stream(seed, "held-out reconstruction"))
    shares = {"trained_on": operation_frequencies(space, base.genotypes)}
    texts = [text for of_task in proposals for text in texts_of(space, of_task)]
    apart = None
    if texts:
        shares["drawn"] = operation_frequencies(space, texts)
        apart = max(
            abs(edge[name] - other[name])
            for cell, edges in shares["drawn"].items()
            for edge, other in zip(edges, shares["trained_on"][cell], strict=True)
            for name in edge
        )
    return {
        "n_tasks": len(held_out.classes),
        "n_pairs": len(held_out),
        **reconstruction(network, held_out, seen, config, device),
        "drawn": counted([one for of_task in interleaved(proposals) for one in of_task], space, known),
        "operations": {**shares, "largest_difference": apart},
    }


def interleaved(proposals: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    """The first proposals of all tasks, then the second ones, and so on."""
    return list(zip(*proposals, strict=True))


def counted(proposals: Sequence[Any], space: Any, known: Iterable[str]) -> dict[str, Any]:
    """Of proposals how many are valid, how many of these different, and how many of those new.

    Returns:
        validity: share of the valid ones, with Wilson's interval; uniqueness: share of different ones among the valid;
        novelty: share among the different ones of those that are not `known`; n_connected: those of the valid ones
        that a search would rate; draws_for_500: proposals it took to have 500 different ones, None where there were
        fewer.
    """
    texts, draws_for_many = {}, None
    n_valid = 0
    for place, genotype in enumerate(proposals, start=1):
        if genotype is None:
            continue
        n_valid += 1
        texts.setdefault(space.to_text(genotype))
        if draws_for_many is None and len(texts) == MANY_DIFFERENT:
            draws_for_many = place
    low, high = wilson_ci95(n_valid, len(proposals))
    old = set(known)
    return {
        "n": len(proposals),
        "n_valid": n_valid,
        "n_connected": len(texts_of(space, proposals, connected=True)),
        "n_different": len(texts),
        "validity": n_valid / len(proposals),
        "validity_low": low,
        "validity_high": high,
        "uniqueness": len(texts) / n_valid if n_valid else None,
        "novelty": sum(text not in old for text in texts) / len(texts) if texts else None,
        f"draws_for_{MANY_DIFFERENT}": draws_for_many,
    }


def plan_of(held_out: Examples, texts: Sequence[Sequence[str]], classes: Mapping[str, np.ndarray], split: str) -> Plan:
    """The questions to an oracle about architectures of held-out tasks, `texts` a list per task."""
    tasks = [
        ClassTask(number, split, tuple(sorted(of_task)))
        for number, of_task in zip(held_out.names, held_out.classes, strict=True)
    ]
    pairs = [(task, text) for task, of_task in zip(tasks, texts, strict=True) for text in of_task]
    return Plan(tasks, classes, pairs)


def compare_with_uniform(
    plan: Plan, values: Sequence[float | None], uniform: Mapping[int, Sequence[float]], knows_tasks: bool
) -> dict[str, Any]:
    """What the oracle says to proposals, beside its answers to cells drawn uniformly for the same tasks.

    Args:
        values: of the plan's pairs; None where there is no number.
        uniform: by number of the task.
        knows_tasks: whether the oracle knows tasks, on which `beats_uniform` depends; see `beats`.
    """
    own: dict[int, list[float]] = {}
    for (task, _), value in zip(plan.pairs, values, strict=True):
        if value is not None:
            own.setdefault(task.id, []).append(value)
    both = [number for number in own if uniform.get(number)]
    generated = [float(np.mean(own[number])) for number in both]
    others = [float(np.mean(uniform[number])) for number in both]
    difference = mean_over(a - b for a, b in zip(generated, others, strict=True))
    return {
        "n_tasks": len(both),
        "n_generated": sum(len(own[number]) for number in both),
        "n_uniform": sum(len(uniform[number]) for number in both),
        "n_failed": sum(value is None for value in values),
        "generated": mean_over(generated),
        "uniform": mean_over(others),
        "difference": difference,
        "beats_uniform": beats(difference, knows_tasks),
    }
