"""Test learners from their meta-learned starts on the stored episodes of the novel classes, and from untrained ones."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from pipeline.core import artifacts
from pipeline.core.artifacts import read_json, sha256
from pipeline.core.checkpoint import Kept
from pipeline.core.config import build
from pipeline.core.errors import ArtifactError
from pipeline.core.rng import numpy_stream
from pipeline.core.tensors import read_tensors
from pipeline.core.types import Episode
from pipeline.data.prepared import PreparedSet
from pipeline.episodes import files
from pipeline.episodes.disjoint import disjoint_episodes
from pipeline.evaluation.adapted_test import adapted_test
from pipeline.evaluation.episodic import untrained_start
from pipeline.evaluation.estimates import by_episode, estimate, mean_and_interval
from pipeline.evaluation.few_shot_test import Outcome
from pipeline.evaluation.settings import AdaptConfig
from pipeline.evaluation.statistics import NORMAL_QUANTILE
from pipeline.learners.meta_learner import MetaLearner, State
from pipeline.stages.common import Frozen
from pipeline.stages.evaluate import SPLIT, checkpoint_of, tell
from pipeline.stages.meta_learn import without_graph
from pipeline.stages.meta_learned import Setting, Start, mean_size, states_in
from pipeline.stages.trained import Measured, add_trained_arguments, size_of, weights_facts


@dataclass(frozen=True)
class Job(Measured):
    """One test with its inputs read.

    Attributes:
        starts, states: what was meta-learned, one state for each start.
        episodes: stored ones, by shot.
        kept: what an interrupted run has predicted already.
    """

    frozen: Frozen
    genotype: dict[str, Any]
    prepared: PreparedSet
    device: torch.device
    written: dict[str, Any]
    setting: Setting
    adapt: AdaptConfig
    episodes: dict[int, list[Episode]]
    starts: list[Start]
    states: list[State]
    kept: Kept = field(default_factory=Kept)
    trained_by = "meta_learn"

    @classmethod
    def read(cls, arguments) -> "Job":
        """From the files that the arguments name. Raises ArtifactError when they do not belong together."""
        setting, genotype = Setting.read(arguments), read_json(arguments.genotype)
        frozen, prepared = setting.frozen, setting.prepared
        episodes = files.read(arguments.episodes)
        files.check(episodes, prepared, arguments.episodes)
        written = weights_facts(arguments.weights, "meta-learn")
        n_way = next(iter(episodes.values()))[0].n_way
        wanted = {
            "architectures": [without_graph(row) for row in genotype["architectures"]],
            "data_digest": prepared.digest,
            "n_way": n_way,
            "k_shots": sorted(episodes),
        }
        found = {**written, "k_shots": sorted(written["k_shots"])}
        if different := [name for name, value in wanted.items() if found[name] != value]:
            raise ArtifactError(
                f"{arguments.weights} was meta-learned with other {', '.join(different)} than those given. Run the "
                "meta-learn stage again."
            )
        starts = setting.starts(genotype, n_way, sorted(episodes))
        states = states_in(read_tensors(arguments.weights, "meta-learn"), starts, arguments.weights)
        adapt = build(AdaptConfig, frozen.params["adapt"], "adapt")
        return cls(frozen, genotype, prepared, setting.device, written, setting, adapt, episodes, starts, states)

    def test(self, learner: MetaLearner, state: State, episodes: Sequence[Episode], what: str) -> Outcome:
        return adapted_test(
            learner,
            state,
            episodes,
            self.prepared,
            self.device,
            self.setting.config.tasks_per_batch,
            what=what,
            section=self.setting.section,
            kept=self.kept,
        )


@dataclass
class Part:
    """What one start was tested on.

    Attributes:
        numbers: of the stored episodes, in the order of the outcome.
        untrained: of the first of them from the untrained start; None where none of them is to be tested so.
        disjoint: on episodes that share no image; None where the start is for some tasks alone.
    """

    start: Start
    numbers: list[int]
    trained: Outcome
    untrained: tuple[list[int], Outcome] | None
    disjoint: Outcome | None
    size: dict[str, int]


def add_arguments(parser) -> None:
    add_trained_arguments(parser)
    parser.add_argument("--episodes", required=True, metavar="FILE", help="stored episodes of the episodes stage")
    parser.add_argument("--params", required=True, metavar="FILE", help="frozen parameters of the test")
    parser.add_argument("--measured", required=True, metavar="FILE", help="where to write accuracies and intervals")
    parser.add_argument("--accuracies", required=True, metavar="FILE", help="where to write each episode's accuracy")


def run(arguments) -> None:
    measured, table, kept = assess(arguments, keep=True)
    artifacts.write_csv(arguments.accuracies, table)
    artifacts.write_json(arguments.measured, measured)
    kept.clear()
    tell(measured)


def assess(arguments, keep: bool = False) -> tuple[dict[str, Any], pd.DataFrame, Kept]:
    """Test what the arguments name; no result is written.

    Args:
        keep: go on from a checkpoint, and leave one behind for the case of an interruption.

    Returns:
        Accuracies and intervals with their provenance, each episode's accuracy, and what is to be cleared afterwards.
    """
    job = Job.read(arguments)
    job = replace(job, kept=Kept(checkpoint_of(job, arguments) if keep else None))
    parts, setting = measure(job)
    numbers = {k_shot: numbers_tested(parts, job.seeds, k_shot) for k_shot in sorted(job.episodes)}
    trained = {k_shot: of_seeds(parts, job.seeds, k_shot, "trained") for k_shot in numbers}
    accuracy = {}
    for k_shot, outcomes in trained.items():
        once = [part.disjoint for part in parts if part.start.k_shot == k_shot and part.disjoint is not None]
        generator = numpy_stream(job.frozen.seed, "bootstrap", k_shot)
        found = estimate(outcomes, once, job.adapt.n_resamples, generator)
        accuracy[str(k_shot)] = {**found, **as_papers_print(by_episode(outcomes))}
    before = {k_shot: of_seeds(parts, job.seeds, k_shot, "untrained") for k_shot in numbers}
    untrained = {str(k_shot): mean_and_interval(outcomes) for k_shot, outcomes in before.items()}
    n_untrained = max(len(outcomes[0].correct) for outcomes in before.values())
    learner = job.setting.method.learner
    table = accuracy_table(job.seeds, numbers, trained, learner)
    measured = {
        "kind": "adapted",
        **job.facts(protocol(job, numbers, n_untrained, setting), sizes(parts, job.seeds)),
        "accuracy": accuracy,
        "untrained": untrained,
        "provenance": {
            **job.provenance(),
            "weights_sha256": sha256(arguments.weights),
            "episodes_digest": sha256(arguments.episodes),
        },
    }
    return measured, table, job.kept


def measure(job: Job) -> tuple[list[Part], str]:
    """Test every start on the episodes that it is for; and whether that is inductive or transductive."""
    parts, setting = [], ""
    for number, (start, state) in enumerate(zip(job.starts, job.states, strict=True), start=1):
        what = f"{job.setting.label}: {start.k_shot}-shot, start {number} of {len(job.starts)}"
        stored = job.episodes[start.k_shot]
        own = start.row.get("episodes")
        numbers = list(range(len(stored))) if own is None else list(own)
        if numbers[-1] >= len(stored):
            raise ArtifactError(
                f"An architecture of {job.frozen.method} is for stored episode {numbers[-1]}, but there are only "
                f"{len(stored)} {start.k_shot}-shot episodes. Run the search stage again."
            )
        learner = start.learner()
        setting = learner.setting
        size = size_of(learner.network, job.prepared)
        learner.network.to(job.device)
        first = [number for number in numbers if number < job.adapt.n_untrained_episodes]
        before = None
        if first:
            untrained = untrained_start(learner, start.seed)
            before = first, job.test(learner, untrained, [stored[n] for n in first], f"{what}, untrained")
        outcome = job.test(learner, state, [stored[n] for n in numbers], what)
        once = independent_episodes(job, start.k_shot) if own is None else []
        alone = job.test(learner, state, once, f"{what}, no image twice") if once else None
        parts.append(Part(start, numbers, outcome, before, alone, size))
    return parts, setting


def independent_episodes(job: Job, k_shot: int) -> list[Episode]:
    """Episodes of the protocol's shape that share no image."""
    example = job.episodes[k_shot][0]
    shape = {"n_way": example.n_way, "k_shot": k_shot, "n_query": example.n_query}
    return disjoint_episodes(job.prepared, SPLIT, **shape, seed=job.frozen.seed)


def of_seeds(parts: Sequence[Part], seeds: Sequence[int], k_shot: int, name: str) -> list[Outcome]:
    """Per search seed one outcome over all episodes, put together from the starts of that seed, by episode number."""
    outcomes = []
    for seed in seeds:
        own = [part for part in parts if part.start.row["seed"] == seed and part.start.k_shot == k_shot]
        if name == "trained":
            found = [(part.numbers, part.trained) for part in own]
        else:
            found = [part.untrained for part in own if part.untrained is not None]
        order = np.argsort(np.concatenate([numbers for numbers, _ in found]), kind="stable")
        columns = (
            np.concatenate([getattr(outcome, column) for _, outcome in found])[order]
            for column in ("correct", "images", "classes")
        )
        outcomes.append(Outcome(*columns))
    return outcomes


def numbers_tested(parts: Sequence[Part], seeds: Sequence[int], k_shot: int) -> list[int]:
    """Numbers of the episodes that were tested. Raises ArtifactError unless each seed tested the same ones, once."""
    by_seed = [
        sorted(
            number
            for part in parts
            if part.start.row["seed"] == seed and part.start.k_shot == k_shot
            for number in part.numbers
        )
        for seed in seeds
    ]
    if any(numbers != by_seed[0] or len(set(numbers)) < len(numbers) for numbers in by_seed) or not by_seed[0]:
        raise ArtifactError(
            f"The architectures are not for the same {k_shot}-shot episodes under every search seed, each once. Run "
            "the search stage again."
        )
    return by_seed[0]


def as_papers_print(accuracies: np.ndarray) -> dict[str, float | None]:
    """Standard deviation over tasks and 1.96 of its standard errors, which papers on meta-learning quote."""
    if len(accuracies) < 2:
        return {"std": None, "normal_ci95": None}
    deviation = float(accuracies.std(ddof=1))
    return {"std": deviation, "normal_ci95": NORMAL_QUANTILE * deviation / math.sqrt(len(accuracies))}


def sizes(parts: Sequence[Part], seeds: Sequence[int]) -> list[dict[str, float]]:
    """Per search seed the mean size of its networks, each as often as there are tasks that it is for."""
    found = []
    for seed in seeds:
        own = [part for part in parts if part.start.row["seed"] == seed]
        found.append(mean_size([part.size for part in own], [len(part.numbers) for part in own]))
    return found


def protocol(job: Job, numbers: Mapping[int, Sequence[int]], n_untrained: int, setting: str) -> dict[str, Any]:
    """How the learners were tested."""
    example = next(iter(job.episodes.values()))[0]
    return {
        "n_way": example.n_way,
        "k_shots": sorted(numbers),
        "n_query": example.n_query,
        "n_episodes": min(map(len, numbers.values())),
        "n_augmented_support": 0,
        "n_untrained_episodes": n_untrained,
        "read_out": job.setting.method.learner,
        "setting": setting,
    }


def accuracy_table(
    seeds: Sequence[int],
    numbers: Mapping[int, Sequence[int]],
    trained: Mapping[int, Sequence[Outcome]],
    learner: str,
) -> pd.DataFrame:
    """A row per search seed, shot and episode."""
    tables = [
        pd.DataFrame(
            {
                "seed": seed,
                "k_shot": k_shot,
                "episode": numbers[k_shot],
                "read_out": learner,
                "accuracy": outcome.accuracies,
            }
        )
        for k_shot, outcomes in trained.items()
        for seed, outcome in zip(seeds, outcomes, strict=True)
    ]
    return pd.concat(tables, ignore_index=True)
