"""Build a database of accuracies: tasks made of classes, architectures for each, and an oracle's answer to every pair.

MetaD2A (Lee et al., ICLR 2021) learns from such a database; how its own was made is not published but for what can be
counted in it. Every draw comes from a stream named by the run's seed, the task and the architecture, so the answers do
not depend on the number of workers, nor on where an earlier run stopped.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pipeline.core.checkpoint import Checkpoint, Pace
from pipeline.core.config import knob
from pipeline.core.errors import CapabilityError, ConfigError, DataError, ScoreError, TrainingError
from pipeline.core.progress import track
from pipeline.core.rng import numpy_stream, stream_seed
from pipeline.core.types import SPLITS
from pipeline.data.prepared import PreparedSet
from pipeline.episodes.class_tasks import ClassTask, classes_by_split, draw_tasks
from pipeline.evaluation.variance_split import (
    POOLED,
    WEIGHTINGS,
    architecture_variance_inside_tasks,
    variance_split,
)
from pipeline.recipes import oracles
from pipeline.recipes.oracles import Bench, Question

DRAWS_PER_ARCHITECTURE = 1000
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95)
BIASED = {
    "nas_bench_201": (
        (0.07, 0.10, 0.22, 0.54, 0.07),
        (0.14, 0.13, 0.21, 0.45, 0.08),
        (0.24, 0.14, 0.18, 0.32, 0.12),
        (0.05, 0.31, 0.31, 0.31, 0.03),
        (0.15, 0.13, 0.27, 0.36, 0.10),
        (0.07, 0.10, 0.32, 0.46, 0.05),
    )
}
"""By space, how often each operation stands on each edge of the 4,630 cells that MetaD2A's predictor was trained on."""


@dataclass(frozen=True)
class DatabaseConfig:
    """What is asked of the oracle."""

    space: str = knob("nas_bench_201", "search space of the architectures")
    oracle: str = knob(
        "train",
        "where accuracies come from: published ones, a short training, or a proxy of the untrained network; its knobs "
        "are those of oracle.NAME",
        choices=tuple(oracles.names()),
    )
    n_classes: int = knob({"laptop": 10, "gpu": 10, "paper": 20}, "classes of a task", low=2)
    n_base_tasks: int = knob({"laptop": 40, "gpu": 250, "paper": 1410}, "tasks of base classes, to learn from", low=1)
    n_validation_tasks: int = knob(
        {"laptop": 8, "gpu": 50, "paper": 134}, "tasks of validation classes, to choose the best epoch by", low=0
    )
    n_novel_tasks: int = knob(
        {"laptop": 8, "gpu": 50, "paper": 134}, "tasks of novel classes, to measure what was learned", low=0
    )
    cells_per_task: int = knob({"laptop": 8, "gpu": 4, "paper": 3}, "different architectures of each task", low=1)
    n_architectures: int = knob(
        {"laptop": 400, "gpu": 1000, "paper": 1553},
        "architectures that all tasks draw from, so that some come up on several; 0 for the whole space",
        low=0,
    )
    sampling: str = knob(
        {"laptop": "uniform", "gpu": "uniform", "paper": "biased"},
        "how architectures are drawn: uniformly, or with the operations of MetaD2A's own database, most of them "
        "convolutions; connected ones only",
        choices=("uniform", "biased"),
    )


def draw_architectures(space: Any, n: int, sampling: str, generator: np.random.Generator) -> list[str]:
    """Texts of `n` different connected architectures, in the order drawn.

    Args:
        sampling: "uniform" over the space's own draws; "biased" draws each edge's operation by itself with the
            frequencies BIASED, of which the cells that are not connected are then left out.

    Raises CapabilityError when the space has no such frequencies, or not that many architectures turn up.
    """
    if sampling == "biased" and space.name not in BIASED:
        raise CapabilityError(
            f"database.sampling is biased, but no frequencies are known for the space {space.name}, only for "
            f"{', '.join(BIASED)}. Set database.sampling to uniform."
        )
    draw = _biased_draw(space) if sampling == "biased" else space.sample
    texts: dict[str, None] = {}
    for _ in range(DRAWS_PER_ARCHITECTURE * n):
        if len(texts) == n:
            break
        genotype = draw(generator)
        if space.is_connected(genotype):
            texts.setdefault(space.to_text(genotype))
    if len(texts) < n:
        raise CapabilityError(
            f"{n} different architectures were asked for, but only {len(texts)} turned up in "
            f"{DRAWS_PER_ARCHITECTURE * n} draws from the space {space.name}. Lower database.n_architectures and "
            "database.cells_per_task."
        )
    return list(texts)


def _biased_draw(space: Any) -> Callable[[np.random.Generator], Any]:
    frequencies = np.array(BIASED[space.name])
    cumulated = np.cumsum(frequencies / frequencies.sum(axis=1, keepdims=True), axis=1)

    def draw(generator: np.random.Generator) -> Any:
        import torch

        chosen = (generator.random(len(cumulated))[:, None] < cumulated).argmax(axis=1)
        mask = torch.zeros(1, *cumulated.shape, dtype=torch.bool)
        mask[0, range(len(chosen)), chosen] = True
        return space.genotype_of(mask)

    return draw


@dataclass(frozen=True)
class Plan:
    """All that will be asked, before anything is.

    Attributes:
        tasks: in the order of their numbers.
        classes: class ids of each split.
        pairs: (task, architecture's text), tasks in order.
    """

    tasks: list[ClassTask]
    classes: Mapping[str, np.ndarray]
    pairs: list[tuple[ClassTask, str]]

    @classmethod
    def of(cls, config: DatabaseConfig, space: Any, prepared: PreparedSet, seed: int) -> "Plan":
        """The plan of a run, a function of its arguments.

        Raises:
            DataError: a split has too few classes.
            ConfigError: a task wants more architectures than all tasks draw from.
            CapabilityError: the space has too few architectures, or no frequencies to draw by.
        """
        if 0 < config.n_architectures < config.cells_per_task:
            raise ConfigError(
                f"database.cells_per_task is {config.cells_per_task}, but all tasks draw from "
                f"database.n_architectures: {config.n_architectures}. Raise that one, or set it to 0."
            )
        classes = classes_by_split(prepared, seed)
        wanted = dict(zip(SPLITS, (config.n_base_tasks, config.n_validation_tasks, config.n_novel_tasks), strict=True))
        tasks = draw_tasks(classes, wanted, config.n_classes, seed)
        pool = None
        if config.n_architectures:
            pool = draw_architectures(
                space, config.n_architectures, config.sampling, numpy_stream(seed, "architectures")
            )
        pairs = []
        for task in tasks:
            generator = numpy_stream(seed, "architectures of task", task.id)
            if pool is None:
                texts = draw_architectures(space, config.cells_per_task, config.sampling, generator)
            else:
                texts = [pool[i] for i in generator.choice(len(pool), config.cells_per_task, replace=False)]
            pairs += [(task, text) for text in texts]
        return cls(tasks, classes, pairs)

    def question(self, number: int, seed: int) -> Question:
        """The pair of that number, with a seed that it keeps whatever else is asked."""
        task, text = self.pairs[number]
        return Question(text, task.classes, stream_seed(seed, "triple", task.id, text))


@dataclass(frozen=True)
class Answers:
    """What the oracle said to each pair of a plan, and what it cost.

    Attributes:
        values: in the order of the pairs; None where there is no number.
        reasons: number of a pair without a number -> why.
        seconds: device time of each, in the same order: of the processor's core, or on an accelerator the time that
            passed.
        wall_seconds: time spent, over all runs that were resumed.
    """

    values: list[float | None]
    reasons: dict[int, str]
    seconds: list[float]
    wall_seconds: float


def ask(
    plan: Plan,
    oracle: Any,
    bench: Bench,
    *,
    n_workers: int,
    checkpoint: Checkpoint | None = None,
    save_every: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Answers:
    """Put every question of the plan to the oracle, on several processes, from where the checkpoint stands.

    Args:
        n_workers: processes on the processor; an accelerator is used by one.
        save_every: seconds between checkpoints, None for 15; what a killed run did after its last one is done again.

    Raises what the oracle raises, but for TrainingError and ScoreError, which are reasons for having no number, and
    DataError when there is no number at all.
    """
    from pipeline.core.workers import Workers

    oracle.check(bench)
    saved = (checkpoint.load() if checkpoint else None) or {"results": {}, "wall_seconds": 0.0}
    results, before, started = dict(saved["results"]), saved["wall_seconds"], clock()
    todo = [number for number in range(len(plan.pairs)) if number not in results]
    spent = time.process_time if bench.device.type == "cpu" else time.perf_counter

    def answer(number: int) -> dict[str, Any]:
        begun, value, reason = spent(), None, None
        try:
            value = oracle(plan.question(number, bench.seed), bench)
        except (TrainingError, ScoreError) as error:
            reason = str(error)
        return {"value": value, "reason": reason, "seconds": spent() - begun}

    def save() -> None:
        if checkpoint:
            checkpoint.save({"results": results, "wall_seconds": before + clock() - started})

    pace = Pace(save_every, clock)
    with Workers(answer, min(n_workers, max(1, len(todo))) if bench.device.type == "cpu" else 1) as workers:
        done = len(results)
        for number, result in track(workers.map(todo), "architectures on tasks", total=len(plan.pairs), done=done):
            results[number] = result
            if pace.due:
                save()
                pace.restart()
    save()
    ordered = [results[number] for number in range(len(plan.pairs))]
    if all(one["value"] is None for one in ordered):
        raise DataError(
            f"No architecture got a number on any task; the first time because: {ordered[0]['reason']} Change the "
            "knobs of the oracle."
        )
    return Answers(
        values=[one["value"] for one in ordered],
        reasons={number: one["reason"] for number, one in enumerate(ordered) if one["value"] is None},
        seconds=[one["seconds"] for one in ordered],
        wall_seconds=before + clock() - started,
    )


def statistics(
    tasks: Sequence[int], splits: Sequence[str], genotypes: Sequence[str], accuracies: Sequence[float], space: Any
) -> dict[str, Any]:
    """What can be counted in a database, in JSON's types; one entry of each argument per triple.

    Returns:
        counts, accuracy (its quantiles, and mean and standard deviation by split, n - 1 in the denominator),
        variance (of tasks, architectures and the rest, by weighting), and operations: how often each stands on each
        edge, by cell; None for spaces without masks.
    """
    values = np.asarray(accuracies, dtype=np.float64)
    of_split = {split: values[[one == split for one in splits]] for split in SPLITS}
    return {
        "counts": counts(tasks, splits, genotypes),
        "accuracy": {
            "min": float(values.min()),
            "quantiles": {str(q): float(np.quantile(values, q)) for q in QUANTILES},
            "max": float(values.max()),
            "by_split": {
                split: {
                    "mean": float(one.mean()) if len(one) else None,
                    "std": float(one.std(ddof=1)) if len(one) > 1 else None,
                }
                for split, one in of_split.items()
            },
        },
        "variance": variance_by_weighting(accuracies, tasks, genotypes) if len(values) > 1 else None,
        "operations": operation_frequencies(space, genotypes) if "prunes" in space.capabilities else None,
    }


def variance_by_weighting(
    accuracies: Sequence[float], tasks: Sequence[int], genotypes: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """`pipeline.evaluation.variance_split` under each weighting; `sd` are roots of the effects, 0 for one below 0.

    Besides, `inside_tasks`: what is left inside a task, split into architecture and rest, which works however much the
    tasks differ.
    """
    found = {}
    for weighting in WEIGHTINGS:
        split = asdict(variance_split(accuracies, tasks, genotypes, weighting))
        effects = {name: split[name] for name in ("task", "architecture", "rest")}
        sds = {name: None if value is None else math.sqrt(max(0.0, value)) for name, value in effects.items()}
        found[weighting] = {**split, "sd": sds}
    inside, n_pairs = architecture_variance_inside_tasks(accuracies, tasks, genotypes)
    pooled = found[POOLED]["inside_task"]
    known = inside is not None and pooled is not None
    found["inside_tasks"] = {
        "architecture": inside,
        "rest": pooled - inside if known else None,
        "share_of_architecture": inside / pooled if known and pooled > 0 else None,
        "pairs": n_pairs,
    }
    return found


def counts(tasks: Sequence[int], splits: Sequence[str], genotypes: Sequence[str]) -> dict[str, Any]:
    """How many triples, tasks and architectures there are, and how often one comes up."""
    of_task, of_genotype = Counter(tasks), Counter(genotypes)
    base = {genotype for genotype, split in zip(genotypes, splits, strict=True) if split == SPLITS[0]}
    others = [genotype for genotype, split in zip(genotypes, splits, strict=True) if split != SPLITS[0]]
    return {
        "triples": len(tasks),
        "triples_by_split": {split: sum(one == split for one in splits) for split in SPLITS},
        "tasks": len(of_task),
        "tasks_used_once": sum(count == 1 for count in of_task.values()),
        "tasks_used_twice": sum(count == 2 for count in of_task.values()),
        "most_of_a_task": max(of_task.values()),
        "architectures": len(of_genotype),
        "architectures_on_several_tasks": sum(count > 1 for count in of_genotype.values()),
        "most_of_an_architecture": max(of_genotype.values()),
        "held_out_triples_of_base_architectures": sum(genotype in base for genotype in others),
    }


def operation_frequencies(space: Any, genotypes: Sequence[str]) -> dict[str, list[dict[str, float]]]:
    """By kind of cell, for every edge the share of the triples in which each operation stands on it."""
    times = Counter(genotypes)
    total = sum(count * space.mask_of(space.from_text(text)).double() for text, count in times.items())
    shares = (total / len(genotypes)).tolist()
    return {
        cell: [dict(zip(space.operations, edge, strict=True)) for edge in of_cell]
        for cell, of_cell in zip(space.cell_types, shares, strict=True)
    }
