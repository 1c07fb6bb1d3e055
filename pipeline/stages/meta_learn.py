"""Meta-learn a start for every architecture of a search, on episodes of the base classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch

from pipeline.core import artifacts, provenance
from pipeline.core.artifacts import read_json
from pipeline.core.checkpoint import Checkpoint
from pipeline.core.progress import say, spoken
from pipeline.core.tensors import write_tensors
from pipeline.core.wording import n_of
from pipeline.stages.common import add_prepared_arguments, checkpoint_path
from pipeline.stages.meta_learned import Setting, Start, learn_all, tensors_of


def add_arguments(parser) -> None:
    parser.add_argument("--genotype", required=True, metavar="FILE", help="architectures of the search stage")
    add_prepared_arguments(parser)
    parser.add_argument("--params", required=True, metavar="FILE", help="frozen parameters of the meta-learning")
    for name in ("weights", "curve", "cost"):
        parser.add_argument(f"--{name}", required=True, metavar="FILE", help=f"where to write the {name}")


def run(arguments) -> None:
    setting, genotype = Setting.read(arguments), read_json(arguments.genotype)
    frozen, tasks = setting.frozen, setting.frozen.params["episodes"]
    starts = setting.starts(genotype, tasks["n_way"], tasks["k_shots"])
    checkpoint = Checkpoint(
        checkpoint_path("meta_learn", frozen.method, frozen.dataset),
        {"params": frozen.digest, "data": setting.prepared.digest, "architectures": genotype["architectures"]},
    )
    learned, cost = learn_all(starts, setting, tasks["n_way"], checkpoint)
    facts = {
        "method": genotype["method"],
        "dataset": genotype["dataset"],
        "space": genotype["space"],
        **tasks,
        "architectures": [without_graph(row) for row in genotype["architectures"]],
        "params_digest": frozen.digest,
        "data_digest": setting.prepared.digest,
    }
    write_tensors(arguments.weights, tensors_of(starts, learned), facts)
    artifacts.write_csv(arguments.curve, curve_table(starts, learned))
    artifacts.write_json(arguments.cost, cost_record(cost, starts, learned, setting.device))
    checkpoint.clear()
    say(f"{n_of(len(starts), 'start')} meta-learned in {spoken(cost['wall_seconds'])} -> {arguments.weights}")


def without_graph(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of genotype.json as far as meta-learning depends on it."""
    return {name: value for name, value in row.items() if name != "graph"}


def curve_table(starts: Sequence[Start], learned: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """A row per start and test of it."""
    return pd.DataFrame(
        [
            {"seed": start.row["seed"], "k_shot": start.k_shot, "architecture": int(start.name.split("/")[0]), **row}
            for start, one in zip(starts, learned, strict=True)
            for row in one["curve"]
        ]
    )


def cost_record(
    cost: Mapping[str, float], starts: Sequence[Start], learned: Sequence[Mapping[str, Any]], device: torch.device
) -> dict[str, Any]:
    """Content of cost.json."""
    return {
        **cost,
        "networks": [
            {
                "seed": start.row["seed"],
                "k_shot": start.k_shot,
                "wall_seconds": sum(row["seconds"] for row in one["curve"]),
                "best_iteration": one["iteration"],
            }
            for start, one in zip(starts, learned, strict=True)
        ],
        "reproducible": device.type == "cpu",
        **provenance.gather(device),
    }
