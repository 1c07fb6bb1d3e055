"""Small but complete inputs of the compare stage, written as the search, train and evaluate stages write them."""

import argparse
import copy
import csv
import json
import math
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.core.artifacts import digest, sha256, write_json
from pipeline.stages import compare

NODES = ["cell k-2", "cell k-1", "2", "3", "4", "output"]
TITLES = {"doublemnist": "DoubleMNIST", "miniimagenet": "mini-ImageNet"}
T975 = {1: 12.7062047364, 2: 4.3026527297, 3: 3.1824463053, 5: 2.5705818356, 59: 2.0009953781}

# accuracies of four episodes; the random control of the examples
CONTROL = {1: {0: [0.4, 0.5, 0.6, 0.5], 1: [0.6, 0.5, 0.6, 0.3]}, 5: {0: [0.6, 0.7, 0.8, 0.7], 1: [0.6, 0.7, 0.8, 0.7]}}
FOUND = {1: {0: [0.6, 0.6, 0.6, 0.4]}, 5: {0: [0.8, 0.9, 0.8, 0.9]}}


def cell(operations: Sequence[str]) -> list[list]:
    """Edges of a cell of three nodes with two inputs each."""
    ends = [(0, 2), (1, 2), (1, 3), (2, 3), (0, 4), (3, 4)]
    edges = [[*pair, operation] for pair, operation in zip(ends, operations, strict=True)]
    return edges + [[node, 5, "concat"] for node in (2, 3, 4)]


NORMAL = ("sep_conv_3x3", "skip_connect", "conv_3x3", "sep_conv_3x3", "dil_conv_3x3", "max_pool_3x3")
REDUCE = ("conv_1x5_5x1", "sep_conv_3x3", "conv_3x3", "dil_conv_3x3", "skip_connect", "sep_conv_3x3")


def graph() -> dict[str, Any]:
    return {
        "cells": [
            {"name": name, "nodes": NODES, "edges": cell(operations)}
            for name, operations in (("normal", NORMAL), ("reduce", REDUCE))
        ]
    }


def by_episode(accuracies: Mapping[int, Sequence[float]]) -> list[float]:
    """Mean over architectures of each episode's accuracy."""
    return [statistics.mean(episode) for episode in zip(*accuracies.values(), strict=True)]


def half_width(values: Sequence[float]) -> float:
    return T975[len(values) - 1] * statistics.stdev(values) / math.sqrt(len(values))


def estimate(accuracies: Mapping[int, Sequence[float]]) -> dict[str, Any]:
    values = by_episode(accuracies)
    mean, half = statistics.mean(values), half_width(values)
    return {
        "mean": mean,
        "ci95": half,
        "n_episodes": len(values),
        "per_seed": [statistics.mean(row) for row in accuracies.values()],
        "seeds_ci95": None,
        "data_aware": {
            "without_replacement": {"mean": mean, "ci95": half, "n_episodes": 2},
            "hierarchical_bootstrap": {
                "low": max(0.0, mean - 1.5 * half),
                "high": min(1.0, mean + 1.5 * half),
                "n_resamples": 100,
            },
        },
    }


def surroundings() -> dict[str, Any]:
    return {
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "versions": {"python": "3.12.1", "torch": "2.9.0"},
        "hardware": {"processor": "A processor", "cores": 2, "threads": 2, "memory_gib": 8.0, "device": "cpu"},
    }


def measured(method: str, dataset: str, accuracies: Mapping[int, Mapping[int, Sequence[float]]]) -> dict[str, Any]:
    """What the evaluate stage writes."""
    shots = sorted(accuracies)
    lower = {k: {"mean": 0.9 * estimate(accuracies[k])["mean"], "ci95": 0.02} for k in shots}
    return {
        "method": method,
        "space": "darts_fewshot",
        "dataset": dataset,
        "dataset_title": TITLES[dataset],
        "budget": "laptop",
        "seeds": sorted(accuracies[shots[0]]),
        "protocol": {
            "n_way": 5,
            "k_shots": shots,
            "n_query": 15,
            "n_episodes": len(by_episode(accuracies[shots[0]])),
            "n_augmented_support": 5,
            "n_untrained_episodes": 2,
            "read_out": "linear_probe",
            "setting": "inductive",
            "image_size": 28,
        },
        "accuracy": {str(k): estimate(accuracies[k]) for k in shots},
        "prototypes": {str(k): lower[k] for k in shots},
        "untrained": {str(k): {"mean": 0.3, "ci95": 0.02, "n_episodes": 2} for k in shots},
        "parameters": {"total": 1_760_800.0, "backbone": 1_723_872.0, "per_seed": [1_760_800]},
        "flops": 96_500_000.0,
        "provenance": {
            **surroundings(),
            "params_digest": {stage: digest([stage, method]) for stage in ("search", "train", "evaluate")},
            "data_digest": digest(dataset),
            "episodes_digest": digest([dataset, "episodes"]),
            "recipe_digest": digest("recipe"),
            "official_data": True,
            "reproducible": True,
        },
    }


def write_table(path: pathlib.Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def episode_rows(accuracies: Mapping[int, Mapping[int, Sequence[float]]]) -> list[dict[str, Any]]:
    return [
        {"seed": seed, "k_shot": k, "episode": episode, "read_out": read_out, "accuracy": factor * value}
        for read_out, factor in (("linear_probe", 1.0), ("prototypes", 0.9))
        for k, of_shot in accuracies.items()
        for seed, values in of_shot.items()
        for episode, value in enumerate(values)
    ]


def trace_rows(ranks: bool) -> list[dict[str, Any]]:
    """Two rounds of a pruning search over four candidates, or the lines of a search that scores nothing."""
    if not ranks:
        return [{"seed": 0, "round": 0, "step": 0, "event": "drawn", "cell": "", "edge": "", "operation": "",
                 "rank": "", "seconds": 0.0}]  # fmt: skip
    rows = []
    for number in range(2):
        for place in range(4):
            rows.append(
                {
                    "seed": 0, "round": number, "step": len(rows), "event": "pruned" if place < 2 else "kept",
                    "cell": "normal", "edge": place, "operation": NORMAL[place],
                    "metantk_condition": 10.0 ** (4 - place - number), "linear_regions": 100.0 + 7 * place + number,
                    "rank": place, "seconds": 0.1, "metantk_condition_change_0": 0.1 * place,
                }
            )  # fmt: skip
    return rows


def stability() -> dict[str, Any]:
    """As `pipeline.strategies.stability.summarise` gives it."""
    tau = {"tau": 0.62, "low": 0.31, "high": 0.93}
    chance = {"tau": -0.05, "low": -0.36, "high": 0.26}
    rounds = [
        {
            "seed": 0,
            "round": number,
            "n_candidates": 4,
            "between_repeats": {"metantk_condition": 0.6 + 0.04 * number, "linear_regions": None if number else -0.05},
            "between_indicators": 0.1,
        }
        for number in range(2)
    ]
    return {
        "n_repeats": 2,
        "rounds": rounds,
        "between_repeats": {"metantk_condition": tau, "linear_regions": chance},
        "between_indicators": {"tau": 0.1, "low": -0.2, "high": 0.4},
        "verdict": {"metantk_condition": "signal", "linear_regions": "noise"},
        "warning": "The ranking of candidates by linear_regions agrees between repeats no better than chance.",
    }


def write_inputs(
    folder: pathlib.Path,
    method: str,
    accuracies: Mapping[int, Mapping[int, Sequence[float]]],
    *,
    dataset: str = "doublemnist",
    changes: Mapping[str, Any] | None = None,
) -> None:
    """All files that the stages before compare leave for one method.

    Args:
        accuracies: of every episode by shot and architecture seed.
        changes: what differs in the measured file, keys joined by dots, e.g. {"provenance.official_data": False}.
    """
    content = measured(method, dataset, accuracies)
    for key, value in (changes or {}).items():
        *path, last = key.split(".")
        inner = content
        for part in path:
            inner = inner[part]
        inner[last] = value
    name, ranks = f"{method}_{dataset}", method not in ("random", "conv4")
    write_json(folder / f"results/measured/{name}.json", content)
    write_table(folder / f"results/episodes/{name}.csv", episode_rows(accuracies))
    seeds = content["seeds"]
    architectures = [{"seed": seed, "genotype": f"{method} genotype {seed}", "graph": graph()} for seed in seeds]
    genotype = {
        "method": method,
        "dataset": dataset,
        "budget": content["budget"],
        "space": content["space"],
        "architectures": architectures,
        "network": {"channels": 16, "n_cells": 5},
        "stability": stability() if ranks else None,
        "params_digest": content["provenance"]["params_digest"]["search"],
        "data_digest": content["provenance"]["data_digest"],
    }
    write_json(folder / f"search/{name}/genotype.json", genotype)
    write_table(folder / f"search/{name}/trace.csv", trace_rows(ranks))
    cost = {"wall_seconds": 75.0, "device_seconds": 140.0, "network_evaluations": 504 if ranks else 0,
            "peak_memory_mib": 900.0, "not_finite": {}, **surroundings()}  # fmt: skip
    write_json(folder / f"search/{name}/cost.json", cost)
    curve = [
        {"seed": seed, "epoch": epoch, "learning_rate": 0.05, "loss": 3.0 / epoch, "train_accuracy": 1 - 0.8 / epoch,
         "seconds": 5.0}
        for seed in seeds
        for epoch in (1, 2, 3)
    ]  # fmt: skip
    write_table(folder / f"models/{name}/curve.csv", curve)
    write_json(folder / f"models/{name}/cost.json", {"wall_seconds": 310.0, "device_seconds": 600.0, **surroundings()})


def arguments(method: str, dataset: str = "doublemnist", **others: str) -> list[str]:
    """The command line of the compare stage, as the workflow writes it."""
    name = f"{method}_{dataset}"
    given = {
        "measured": f"results/measured/{name}.json",
        "accuracies": f"results/episodes/{name}.csv",
        "control": f"results/measured/random_{dataset}.json",
        "control-accuracies": f"results/episodes/random_{dataset}.csv",
        "genotype": f"search/{name}/genotype.json",
        "trace": f"search/{name}/trace.csv",
        "search-cost": f"search/{name}/cost.json",
        "curve": f"models/{name}/curve.csv",
        "train-cost": f"models/{name}/cost.json",
        "out": f"results/{name}.json",
        "row": f"results/rows/{name}.csv",
        "drawing": f"results/drawings/{name}.svg",
        **others,
    }
    return [part for key, value in given.items() for part in (f"--{key}", value)]


def run_stage(stage, argv: Sequence[str]) -> None:
    """Run a stage in this process, in the present folder."""
    parser = argparse.ArgumentParser()
    stage.add_arguments(parser)
    stage.run(parser.parse_args(argv))


def compared(method: str, dataset: str = "doublemnist", **others: str) -> dict[str, Any]:
    """Run the compare stage in the present folder; the result it writes."""
    argv = arguments(method, dataset, **others)
    run_stage(compare, argv)
    return json.loads(pathlib.Path(argv[argv.index("--out") + 1]).read_text())


def example(folder: pathlib.Path, **changes: Any) -> dict[str, Any]:
    """The result of a search beside its random control, made in `folder`, which must be the present one."""
    write_inputs(folder, "random", CONTROL)
    write_inputs(folder, "metantk", FOUND, changes=changes)
    return compared("metantk")


def frozen(stage: str, stem: str) -> str:
    """A frozen parameter file in its place in the present folder; returns its digest."""
    content = {"stage": stage, "dataset": "doublemnist", "budget": "laptop", "seed": 0, "params": {}, "code": "0"}
    write_json(f"build/params/{stage}_{stem}.json", content)
    return digest(content)


def with_sources() -> dict[str, Any]:
    """The result of a search made in the present folder, with all that it is recomputed from; contents stand for
    weights, images and episodes."""
    weights, episodes = "models/metantk_doublemnist/weights.safetensors", "data/episodes/doublemnist.csv"
    prepared = "data/prepared/doublemnist"
    for path in map(pathlib.Path, (weights, episodes, f"{prepared}.images.npy", f"{prepared}.index.csv")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {path}")
    write_json(f"{prepared}.manifest.json", {"digest": digest("doublemnist")})
    digests = {stage: frozen(stage, "metantk_doublemnist") for stage in ("evaluate", "compare")}
    same = {"provenance.episodes_digest": sha256(episodes)}
    own = {"provenance.weights_sha256": sha256(weights), "provenance.params_digest.evaluate": digests["evaluate"]}
    write_inputs(pathlib.Path(), "random", CONTROL, changes=same)
    write_inputs(pathlib.Path(), "metantk", FOUND, changes=same | own)
    return compared("metantk", params="build/params/compare_metantk_doublemnist.json")


def without(result: Mapping[str, Any], place: str) -> dict[str, Any]:
    """A copy of a result in which the key at `place` (joined by dots) is missing."""
    changed = copy.deepcopy(dict(result))
    *path, last = place.split(".")
    inner = changed
    for part in path:
        inner = inner[part]
    del inner[last]
    return changed
