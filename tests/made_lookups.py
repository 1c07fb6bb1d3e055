"""Looked-up results as the look-up stage writes them, with the files shown beside them; small, from numbers alone."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.core.artifacts import digest, sha256, write_csv, write_json, write_text
from pipeline.report.drawing import draw_architectures
from pipeline.report.lookups import lookup_row
from tests.made_results import stability, surroundings, trace_rows, write_table

TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
BEST = {"cifar10": 0.943733, "cifar100": 0.735133}
FOUND = {0: 0.9390, 1: 0.9350, 2: 0.9310}
CONTROL = {0: 0.9310, 1: 0.9330, 2: 0.9200}
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
OPERATIONS = ("nor_conv_3x3", "skip_connect", "nor_conv_1x1", "avg_pool_3x3", "none", "nor_conv_3x3")


def cell_graph() -> dict[str, Any]:
    """A cell of four nodes as a genotype file draws it."""
    edges = [[*edge, name] for edge, name in zip(EDGES, OPERATIONS, strict=True) if name != "none"]
    return {"cells": [{"name": "cell", "nodes": ["input", "1", "2", "output"], "edges": edges}]}


def over_seeds(values: Sequence[float]) -> dict[str, Any]:
    return {"mean": sum(values) / len(values), "per_seed": list(values)}


def standings(accuracies: Mapping[int, float], best: float) -> dict[str, Any]:
    values = list(accuracies.values())
    return {
        "accuracy": over_seeds(values),
        "rank": over_seeds([1 + round(20000 * (best - value)) for value in values]),
        "regret": over_seeds([best - value for value in values]),
    }


def anytime(accuracies: Mapping[int, float], of: str, n: int = 40) -> list[dict[str, Any]]:
    """Incumbents that climb to the accuracy of the found architecture."""
    return [
        {"seed": seed, "of": of, "points": [[i, value - 0.3 / (i + seed) + 0.3 / (n + seed)] for i in range(1, n + 1)]}
        for seed, value in accuracies.items()
    ]


def looked_up(
    method: str = "tegnas_evo",
    dataset: str = "cifar10",
    found: Mapping[int, float] = FOUND,
    control: Mapping[int, float] | None = CONTROL,
    **changes: Any,
) -> dict[str, Any]:
    """A result without files.

    Args:
        found, control: accuracy by search seed; no control where it is None.
        changes: top-level keys to replace.
    """
    best = BEST[dataset]
    return {
        "schema_version": 1,
        "kind": "looked_up",
        "method": method,
        "dataset": dataset,
        "dataset_title": TITLES[dataset],
        "budget": "laptop",
        "space": "nas_bench_201",
        "seeds": list(found),
        "protocol": {
            "setting": "table", "part": "test", "n_epochs": 200, "n_architectures": 15625, "table": "nas_bench_201",
        },
        **standings(found, best),
        "elsewhere": {"imagenet16": {"mean": 0.4238}},
        "best": {"genotype": "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_1x1~1|+|...|", "accuracy": best},
        "space_mean": {"mean": 0.8706, "sd": 0.1224},
        "control": control and {
            "method": "random_search",
            "n_architectures": [66] * len(control),
            "genotypes": [{"seed": seed, "text": f"random genotype {seed}"} for seed in control],
            **standings(control, best),
            "search_cost": {"wall_seconds": 70.0, "device_seconds": 69.0, "network_evaluations": 1188},
        },
        "anytime": anytime(found, "method") + (anytime(control, "control") if control else []),
        "genotypes": [{"seed": seed, "text": f"{method} genotype {seed}"} for seed in found],
        "parameters": {"total": 1_073_466.0, "per_seed": [1_073_466] * len(found)},
        "flops": 153_274_000.0,
        "search_cost": {
            "wall_seconds": 75.0, "device_seconds": 74.0, "network_evaluations": 1200, "peak_memory_mib": 900.0,
            "not_finite": {}, "reproducible": True,
        },
        "search_stability": stability(),
        "artifacts": {},
        "provenance": {
            **surroundings(),
            "hardware": {"search": surroundings()["hardware"]},
            "params_digest": {"search": digest([method, "search"]), "look_up": digest([method, "look_up"])},
            "data_digest": digest(dataset),
            "official_data": True,
            "table": {"source": "a table of 15,625 accuracies", "sha256": digest("table"), "official": False,
                      "lacks": "accuracies of single seeds on two of the data sets"},
            "files": {},
            "command": f"snakemake --cores 4 --config budget=laptop -- results/{method}_{dataset}.json",
        },
        **changes,
    }  # fmt: skip


def genotype_trace(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Lines of a search that measures whole architectures, those of its control after them."""
    return [
        {
            "seed": curve["seed"], "round": place, "step": place, "operation": "", "rank": "", "seconds": 0.1,
            "event": "evaluated" if curve["of"] == "method" else "control", "genotype": f"cell {place % 7}",
            "linear_regions": 100.0 + 7 * (place % 11), "linear_regions_repeat_0": 100.0,
        }
        for curve in result["anytime"]
        for place in range(len(curve["points"]))
    ]  # fmt: skip


def write_lookup(folder: pathlib.Path, result: dict[str, Any], name: str | None = None) -> dict[str, Any]:
    """Write a looked-up result, its row and the files shown with it below `folder`, the present one.

    Args:
        name: of the files; the method's and data set's names when None.

    Returns the result with its artifacts filled in.
    """
    name = name or f"{result['method']}_{result['dataset']}"
    paths = {
        "genotype": f"search/{name}/genotype.json",
        "trace": f"search/{name}/trace.csv",
        "search_cost": f"search/{name}/cost.json",
        "table": "data/tables/nas_bench_201.csv",
        "table_facts": "data/tables/nas_bench_201.json",
        "manifest": f"data/prepared/{result['dataset']}.manifest.json",
        "drawing": f"results/drawings/{name}.svg",
    }
    architectures = [
        {"seed": one["seed"], "genotype": one["text"], "graph": cell_graph()} for one in result["genotypes"]
    ]
    for role in ("genotype", "search_cost", "table", "table_facts", "manifest"):
        write_json(folder / paths[role], {"role": role})
    write_table(folder / paths["trace"], genotype_trace(result) or trace_rows(True))
    write_text(folder / paths["drawing"], draw_architectures(architectures, "Cells"))
    result["artifacts"] = paths
    result["provenance"]["files"] = {path: sha256(folder / path) for path in paths.values()}
    out = f"results/{name}.json"
    write_json(folder / out, result)
    write_csv(folder / f"results/looked_up/{name}.csv", lookup_row(result, out, sha256(folder / out)))
    return result
