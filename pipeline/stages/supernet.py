"""Meta-train the relaxed supernet that a method decodes architectures from, once per shot, on the base classes."""

from typing import Any

import pandas as pd

from pipeline.core import artifacts, provenance
from pipeline.core.artifacts import digest, sha256
from pipeline.core.checkpoint import Checkpoint
from pipeline.core.progress import say, spoken
from pipeline.core.tensors import write_tensors
from pipeline.stages.common import add_prepared_arguments, checkpoint_path, data_standing
from pipeline.stages.meta_learned import NAMED_BY, Setting, learn_all, tensors_of


def add_arguments(parser) -> None:
    add_prepared_arguments(parser)
    parser.add_argument("--params", required=True, metavar="FILE", help="frozen parameters of the meta-training")
    for name in ("weights", "curve", "facts"):
        parser.add_argument(f"--{name}", required=True, metavar="FILE", help=f"where to write the {name}")


def run(arguments) -> None:
    setting = Setting.read(arguments, "supernet", "Supernet")
    frozen, tasks, prepared = setting.frozen, setting.frozen.params["episodes"], setting.prepared
    starts = setting.supernet_starts(tasks["n_way"], tasks["k_shots"])
    belongs = {"params_digest": frozen.digest, "data_digest": prepared.digest}
    checkpoint = Checkpoint(
        checkpoint_path("supernet", frozen.method, frozen.dataset),
        {"params": frozen.digest, "data": prepared.digest},
    )
    learned, cost = learn_all(starts, setting, tasks["n_way"], checkpoint, setting.method.phases(setting.config))
    write_tensors(arguments.weights, tensors_of(starts, learned), {"network": "supernet", **belongs})
    rows = [{"k_shot": start.k_shot, **row} for start, one in zip(starts, learned, strict=True) for row in one["curve"]]
    artifacts.write_csv(arguments.curve, pd.DataFrame(rows))
    network = setting.supernet(tasks["n_way"]).network
    content: dict[str, Any] = {
        "schema_version": 1,
        "kind": "supernet",
        "method": frozen.method,
        "dataset": frozen.dataset,
        "dataset_title": prepared.title,
        "budget": frozen.budget,
        "space": setting.method.space(setting.method.Config()),
        "knobs": frozen.params["supernet"],
        "n_way": tasks["n_way"],
        "parameters": sum(value.numel() for value in network.parameters()),
        "training": {
            str(start.k_shot): {
                "iterations": setting.config.n_iterations,
                "best_iteration": one["iteration"],
                "validation_accuracy": one["accuracy"],
                "validation_ci95": one["ci95"],
            }
            for start, one in zip(starts, learned, strict=True)
        },
        "weights_sha256": sha256(arguments.weights),
        **belongs,
        "cost": dict(cost),
        "reproducible": setting.device.type == "cpu",
        "provenance": {**data_standing(prepared.manifest), **provenance.gather(setting.device)},
    }
    content["digest"] = digest({name: content[name] for name in NAMED_BY})
    artifacts.write_json(arguments.facts, content)
    checkpoint.clear()
    say(f"supernet meta-trained in {spoken(cost['wall_seconds'])} -> {arguments.weights}")
