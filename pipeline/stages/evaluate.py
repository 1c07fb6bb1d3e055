"""Test the trained networks on the stored episodes of the novel classes, beside the same networks untrained."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from pipeline import learners
from pipeline.core import artifacts, provenance
from pipeline.core.artifacts import digest, read_json, sha256
from pipeline.core.config import build
from pipeline.core.device import choose_device, use_threads
from pipeline.core.errors import ArtifactError
from pipeline.core.progress import say
from pipeline.core.rng import numpy_stream
from pipeline.core.types import Episode
from pipeline.data.prepared import PreparedSet
from pipeline.episodes import files
from pipeline.episodes.disjoint import disjoint_episodes
from pipeline.evaluation.estimates import estimate, mean_and_interval
from pipeline.evaluation.few_shot_test import FrozenFeatures, Outcome, few_shot_test
from pipeline.evaluation.networks import fresh_network
from pipeline.evaluation.settings import EvaluateConfig, NetworkConfig, TrainConfig
from pipeline.nets.cost import count_backbone_parameters, count_multiply_adds, count_parameters
from pipeline.stages.common import Frozen, add_prepared_arguments, machine, read_params

READ_OUT, SECOND_READ_OUT = "linear_probe", "prototypes"
SPLIT = "novel"

Outcomes = dict[str, dict[int, list[Outcome]]]
"""Read-out -> k_shot -> one outcome per architecture."""


@dataclass(frozen=True)
class Job:
    """What one evaluation is about."""

    frozen: Frozen
    genotype: dict[str, Any]
    prepared: PreparedSet
    episodes: dict[int, list[Episode]]
    network: NetworkConfig
    train: TrainConfig
    evaluate: EvaluateConfig
    device: torch.device

    @property
    def seeds(self) -> list[int]:
        return [architecture["seed"] for architecture in self.genotype["architectures"]]

    def probe(self) -> Any:
        return learners.get(READ_OUT)(C=self.evaluate.inverse_regularisation, max_iter=self.evaluate.max_iter)

    def features(self, network: nn.Module) -> FrozenFeatures:
        return FrozenFeatures(network, self.prepared, self.train, self.evaluate.batch_size, self.device)

    def fresh(self, architecture: Mapping[str, Any]) -> nn.Module:
        return fresh_network(
            self.genotype["space"], architecture, self.prepared, self.network, self.train, self.frozen.seed
        )


def add_arguments(parser) -> None:
    parser.add_argument("--genotype", required=True, metavar="FILE", help="architectures of the search stage")
    parser.add_argument("--weights", required=True, metavar="FILE", help="weights of the train stage")
    add_prepared_arguments(parser)
    parser.add_argument("--episodes", required=True, metavar="FILE", help="stored episodes of the episodes stage")
    parser.add_argument("--params", required=True, metavar="FILE", help="frozen parameters of the test")
    parser.add_argument("--measured", required=True, metavar="FILE", help="where to write accuracies and intervals")
    parser.add_argument("--accuracies", required=True, metavar="FILE", help="where to write each episode's accuracy")


def run(arguments) -> None:
    frozen, here = read_params(arguments.params), machine()
    prepared = PreparedSet.open(arguments.images, arguments.index, arguments.manifest, verify=True)
    use_threads(here.threads)
    job = Job(
        frozen,
        read_json(arguments.genotype),
        prepared,
        files.read(arguments.episodes),
        build(NetworkConfig, frozen.params["network"], "network"),
        build(TrainConfig, frozen.params["train"], "train"),
        build(EvaluateConfig, frozen.params["evaluate"], "evaluate"),
        choose_device(here.device),
    )
    files.check(job.episodes, prepared, arguments.episodes)
    weights = read_weights(arguments.weights, job.genotype, prepared)
    trained, disjoint, untrained, sizes = measure(job, weights)
    artifacts.write_csv(arguments.accuracies, accuracy_table(job, trained))
    measured = {
        **facts(job, sizes),
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
            **provenance.gather(job.device),
            "params_digest": digests(job, weights_facts(arguments.weights)),
            "data_digest": prepared.digest,
            "episodes_digest": sha256(arguments.episodes),
            "recipe_digest": digest({"params": frozen.params, "seed": frozen.seed}),
            "official_data": bool(prepared.manifest["official"]),
            "reproducible": job.device.type == "cpu",
        },
    }
    artifacts.write_json(arguments.measured, measured)
    for k_shot, of_shot in measured["accuracy"].items():
        before = measured["untrained"][k_shot]
        say(
            f"{frozen.method} on {frozen.dataset}, {k_shot}-shot: {100 * of_shot['mean']:.2f} % "
            f"(untrained {100 * before['mean']:.2f} %)"
        )


def read_weights(path: str, genotype: Mapping[str, Any], prepared: PreparedSet) -> list[dict[str, torch.Tensor]]:
    """State dicts of all architectures, in the order of genotype.json.

    Raises ArtifactError when the file is missing or damaged, or was trained on other architectures or data.
    """
    from safetensors.torch import load_file

    written = weights_facts(path)
    wanted = [
        {"seed": architecture["seed"], "genotype": architecture["genotype"]}
        for architecture in genotype["architectures"]
    ]
    if written["architectures"] != wanted or written["data_digest"] != prepared.digest:
        raise ArtifactError(
            f"{path} was trained on other architectures or other data than those given. Run the train stage again."
        )
    states: list[dict[str, torch.Tensor]] = [{} for _ in wanted]
    for name, value in load_file(path).items():
        number, _, parameter = name.partition("/")
        states[int(number)][parameter] = value
    return states


def weights_facts(path: str) -> dict[str, Any]:
    """What the train stage wrote about its weights. Raises ArtifactError."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return json.loads((file.metadata() or {})["few_shot_nas"])
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing. Run the train stage (see `snakemake -n {path}`).") from None
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise ArtifactError(f"{path} is damaged ({error}). Delete it and run the train stage again.") from None


def measure(
    job: Job, weights: Sequence[Mapping[str, torch.Tensor]]
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
    n_networks = len(weights)
    for number, (architecture, state) in enumerate(zip(job.genotype["architectures"], weights, strict=True), start=1):
        network = job.fresh(architecture)
        sizes.append(size_of(network, job.prepared))
        features = job.features(network)
        what = f"{job.frozen.method} on {job.frozen.dataset}: network {number} of {n_networks}"
        for k_shot, episodes in job.episodes.items():
            some = episodes[: job.evaluate.n_untrained_episodes]
            label = f"{what}, untrained, {k_shot}-shot"
            untrained[k_shot].append(tested(job, features, some, probe, label)[READ_OUT])
        network.load_state_dict(state)
        features = job.features(network)
        for k_shot, episodes in job.episodes.items():
            label = f"{what}, {k_shot}-shot"
            for name, outcome in tested(job, features, episodes, both, label).items():
                trained[name][k_shot].append(outcome)
            if without_replacement[k_shot]:
                found = tested(job, features, without_replacement[k_shot], probe, label, "disjoint support copies")
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
        seed=job.frozen.seed,
        purpose=purpose,
        what=what,
    )


def independent_episodes(job: Job, k_shot: int) -> list[Episode]:
    """Episodes of the protocol's shape that share no image."""
    example = job.episodes[k_shot][0]
    return disjoint_episodes(
        job.prepared, SPLIT, n_way=example.n_way, k_shot=k_shot, n_query=example.n_query, seed=job.frozen.seed
    )


def size_of(network: nn.Module, prepared: PreparedSet) -> dict[str, int]:
    image = torch.zeros(1, 3, prepared.image_size, prepared.image_size)
    return {
        "total": count_parameters(network),
        "backbone": count_backbone_parameters(network),
        "flops": count_multiply_adds(network, image),
    }


def facts(job: Job, sizes: Sequence[Mapping[str, int]]) -> dict[str, Any]:
    """What was tested, how, and how large it is (means over the architectures)."""
    example = next(iter(job.episodes.values()))
    mean = {name: float(np.mean([size[name] for size in sizes])) for name in ("total", "backbone", "flops")}
    return {
        "method": job.frozen.method,
        "dataset": job.frozen.dataset,
        "dataset_title": job.prepared.title,
        "budget": job.frozen.budget,
        "seeds": job.seeds,
        "protocol": {
            "n_way": example[0].n_way,
            "k_shots": sorted(job.episodes),
            "n_query": example[0].n_query,
            "n_episodes": len(example),
            "n_augmented_support": job.evaluate.n_augmented_support,
            "n_untrained_episodes": min(job.evaluate.n_untrained_episodes, len(example)),
            "read_out": READ_OUT,
            "setting": "inductive",
            "image_size": job.prepared.image_size,
        },
        "parameters": {
            "total": mean["total"],
            "backbone": mean["backbone"],
            "per_seed": [size["total"] for size in sizes],
        },
        "flops": mean["flops"],
    }


def digests(job: Job, written: Mapping[str, Any]) -> dict[str, str]:
    """Digest of the frozen parameters of every stage before this one, and of this one."""
    return {
        "search": job.genotype["params_digest"],
        "train": written["params_digest"],
        "evaluate": job.frozen.digest,
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
        for seed, outcome in zip(job.seeds, outcomes, strict=True)
    ]
    return pd.concat(tables, ignore_index=True)
