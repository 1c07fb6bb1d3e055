"""Test the trained networks on the stored episodes of the novel classes, beside the same networks untrained."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from pipeline import learners
from pipeline.core import artifacts
from pipeline.core.artifacts import sha256
from pipeline.core.checkpoint import Checkpoint, Kept
from pipeline.core.config import build
from pipeline.core.progress import say
from pipeline.core.rng import numpy_stream
from pipeline.core.types import Episode
from pipeline.data.prepared import require_few_shot
from pipeline.episodes import files
from pipeline.episodes.disjoint import disjoint_episodes
from pipeline.evaluation.estimates import estimate, mean_and_interval
from pipeline.evaluation.few_shot_test import FrozenFeatures, Outcome, few_shot_test, rows_seen
from pipeline.evaluation.settings import EvaluateConfig
from pipeline.stages.common import checkpoint_path
from pipeline.stages.trained import Measured, Trained, add_trained_arguments, size_of

READ_OUT, SECOND_READ_OUT = "linear_probe", "prototypes"
SPLIT = "novel"

Outcomes = dict[str, dict[int, list[Outcome]]]
"""Read-out -> k_shot -> one outcome per architecture."""


@dataclass(frozen=True)
class Job:
    """What one evaluation is about.

    Attributes:
        kept: what an interrupted run has predicted already.
    """

    networks: Trained
    episodes: dict[int, list[Episode]]
    evaluate: EvaluateConfig
    kept: Kept = field(default_factory=Kept)

    def probe(self) -> Any:
        return learners.get(READ_OUT)(C=self.evaluate.inverse_regularisation, max_iter=self.evaluate.max_iter)

    def features(self, network: nn.Module, episodes: Iterable[Sequence[Episode]]) -> FrozenFeatures:
        """Those of a network that will be tested on each of these lists of episodes."""
        features = self.networks.features(network, self.evaluate.batch_size)
        for one in filter(None, episodes):
            features.expect(rows_seen(one, self.evaluate.n_augmented_support))
        return features


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


def tell(measured: Mapping[str, Any]) -> None:
    """One line for the log per shot."""
    for k_shot, of_shot in measured["accuracy"].items():
        before = measured["untrained"][k_shot]
        say(
            f"{measured['method']} on {measured['dataset']}, {k_shot}-shot: {100 * of_shot['mean']:.2f} % "
            f"(untrained {100 * before['mean']:.2f} %)"
        )


def assess(arguments, keep: bool = False) -> tuple[dict[str, Any], pd.DataFrame, Kept]:
    """Test what the arguments name; no result is written.

    Args:
        keep: go on from a checkpoint, and leave one behind for the case of an interruption.

    Returns:
        Accuracies and intervals with their provenance, each episode's accuracy, and what is to be cleared afterwards.
    """
    networks = Trained.read(arguments)
    frozen, prepared = networks.frozen, networks.prepared
    require_few_shot(prepared, "The few-shot test")
    config = build(EvaluateConfig, frozen.params["evaluate"], "evaluate")
    kept = Kept(checkpoint_of(networks, arguments) if keep else None)
    job = Job(networks, files.read(arguments.episodes), config, kept)
    files.check(job.episodes, prepared, arguments.episodes)
    trained, disjoint, untrained, sizes = measure(job)
    measured = {
        **networks.facts(protocol(job), sizes),
        "accuracy": {
            str(k): estimate(
                outcomes,
                disjoint[k],
                job.evaluate.n_resamples,
                numpy_stream(frozen.seed, "bootstrap", k),
            )
            for k, outcomes in trained[READ_OUT].items()
        },
        "prototypes": {str(k): mean_and_interval(outcomes) for k, outcomes in trained[SECOND_READ_OUT].items()},
        "untrained": {str(k): mean_and_interval(outcomes) for k, outcomes in untrained.items()},
        "provenance": {
            **networks.provenance(),
            "weights_sha256": sha256(arguments.weights),
            "episodes_digest": sha256(arguments.episodes),
        },
    }
    return measured, accuracy_table(job, trained), kept


def checkpoint_of(networks: Measured, arguments) -> Checkpoint:
    """Where a test of trained networks on episodes keeps what it has predicted."""
    frozen = networks.frozen
    read = {name: sha256(getattr(arguments, name)) for name in ("genotype", "weights", "episodes")}
    key = {"params": frozen.digest, "data": networks.prepared.digest, **read}
    return Checkpoint(checkpoint_path(frozen.stage, frozen.method, frozen.dataset), key)


def measure(
    job: Job,
) -> tuple[Outcomes, dict[int, list[Outcome]], dict[int, list[Outcome]], list[dict[str, int]]]:
    """Test all architectures.

    Returns:
        Outcomes of the trained networks by read-out and shot; those of the first read-out on episodes that share no
        image; those of the untrained networks; and parameters and multiply-adds per network.
    """
    both = {READ_OUT: job.probe(), SECOND_READ_OUT: learners.get(SECOND_READ_OUT)()}
    probe = {READ_OUT: both[READ_OUT]}
    trained: Outcomes = {name: {k: [] for k in job.episodes} for name in both}
    disjoint: dict[int, list[Outcome]] = {k: [] for k in job.episodes}
    untrained: dict[int, list[Outcome]] = {k: [] for k in job.episodes}
    without_replacement = {k: independent_episodes(job, k) for k in job.episodes}
    sizes = []
    for what, network, state in job.networks.networks():
        sizes.append(size_of(network, job.networks.prepared))
        first = {k: episodes[: job.evaluate.n_untrained_episodes] for k, episodes in job.episodes.items()}
        features = job.features(network, first.values())
        for k_shot, some in first.items():
            label = f"{what}, untrained, {k_shot}-shot"
            untrained[k_shot].append(tested(job, features, some, probe, label)[READ_OUT])
        network.load_state_dict(state)
        features = job.features(network, [*job.episodes.values(), *without_replacement.values()])
        for k_shot, episodes in job.episodes.items():
            label = f"{what}, {k_shot}-shot"
            for name, outcome in tested(job, features, episodes, both, label).items():
                trained[name][k_shot].append(outcome)
            if without_replacement[k_shot]:
                once, label = without_replacement[k_shot], f"{label}, no image twice"
                found = tested(job, features, once, probe, label, "disjoint support copies")
                disjoint[k_shot].append(found[READ_OUT])
    return trained, disjoint, untrained, sizes


def tested(
    job: Job,
    features: FrozenFeatures,
    episodes: Sequence[Episode],
    read_outs: Mapping[str, Any],
    what: str,
    purpose: str = "support copies",
) -> dict[str, Outcome]:
    return few_shot_test(
        features,
        episodes,
        read_outs,
        n_augmented_support=job.evaluate.n_augmented_support,
        seed=job.networks.frozen.seed,
        purpose=purpose,
        what=what,
        kept=job.kept,
    )


def independent_episodes(job: Job, k_shot: int) -> list[Episode]:
    """Episodes of the protocol's shape that share no image."""
    example = job.episodes[k_shot][0]
    return disjoint_episodes(
        job.networks.prepared,
        SPLIT,
        n_way=example.n_way,
        k_shot=k_shot,
        n_query=example.n_query,
        seed=job.networks.frozen.seed,
    )


def protocol(job: Job) -> dict[str, Any]:
    """How the networks were tested."""
    example = next(iter(job.episodes.values()))
    return {
        "n_way": example[0].n_way,
        "k_shots": sorted(job.episodes),
        "n_query": example[0].n_query,
        "n_episodes": len(example),
        "n_augmented_support": job.evaluate.n_augmented_support,
        "n_untrained_episodes": min(job.evaluate.n_untrained_episodes, len(example)),
        "read_out": READ_OUT,
        "setting": "inductive",
    }


def accuracy_table(job: Job, trained: Outcomes) -> pd.DataFrame:
    """A row per architecture, shot, episode and read-out."""
    tables = [
        pd.DataFrame(
            {
                "seed": seed,
                "k_shot": k_shot,
                "episode": np.arange(len(outcome.correct)),
                "read_out": name,
                "accuracy": outcome.accuracies,
            }
        )
        for name, by_shot in trained.items()
        for k_shot, outcomes in by_shot.items()
        for seed, outcome in zip(job.networks.seeds, outcomes, strict=True)
    ]
    return pd.concat(tables, ignore_index=True)
