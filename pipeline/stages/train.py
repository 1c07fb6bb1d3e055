"""Train every architecture of a search from scratch, on the base classes or on the training images."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch

from pipeline.core import artifacts, provenance
from pipeline.core.artifacts import read_json
from pipeline.core.checkpoint import Checkpoint
from pipeline.core.config import build
from pipeline.core.device import choose_device, use_threads
from pipeline.core.progress import say, spoken
from pipeline.core.tensors import write_tensors
from pipeline.core.wording import n_of
from pipeline.data.prepared import PreparedSet
from pipeline.evaluation.cost import Meter
from pipeline.evaluation.from_scratch import TrainingImages, too_short, train
from pipeline.evaluation.networks import fresh_network, without_auxiliary
from pipeline.evaluation.settings import NetworkConfig, TrainConfig
from pipeline.stages.common import Frozen, add_prepared_arguments, checkpoint_path, machine, read_params


def add_arguments(parser) -> None:
    parser.add_argument("--genotype", required=True, metavar="FILE", help="architectures of the search stage")
    add_prepared_arguments(parser)
    parser.add_argument("--params", required=True, metavar="FILE", help="frozen parameters of the training")
    for name in ("weights", "curve", "cost"):
        parser.add_argument(f"--{name}", required=True, metavar="FILE", help=f"where to write the {name}")


def run(arguments) -> None:
    frozen, here = read_params(arguments.params), machine()
    genotype = read_json(arguments.genotype)
    prepared = PreparedSet.open(arguments.images, arguments.index, arguments.manifest, verify=True)
    use_threads(here.threads)
    device = choose_device(here.device)
    checkpoint = Checkpoint(
        checkpoint_path("train", frozen.method, frozen.dataset),
        {"params": frozen.digest, "data": prepared.digest, "architectures": genotype["architectures"]},
    )
    states, cost = train_all(genotype, prepared, frozen, device, checkpoint)
    write_weights(arguments.weights, states, genotype, frozen, prepared)
    artifacts.write_csv(arguments.curve, curve_table(states, genotype))
    artifacts.write_json(arguments.cost, cost_record(cost, states, genotype, device))
    checkpoint.clear()
    say(f"{n_of(len(states), 'network')} trained in {spoken(cost['wall_seconds'])} -> {arguments.weights}")


def train_all(
    genotype: Mapping[str, Any], prepared: PreparedSet, frozen: Frozen, device: torch.device, checkpoint: Checkpoint
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Train the architectures one after the other, from where the checkpoint stands.

    Returns:
        Of each architecture the weights `network` and the `curve`, and the cost of all.
    """
    config = build(TrainConfig, frozen.params["train"], "train")
    size = build(NetworkConfig, frozen.params["network"], "network")
    images = TrainingImages.of(prepared, config)
    if warning := too_short(len(images.rows), config):
        say(f"{frozen.method} on {frozen.dataset}: {warning}")
    saved = checkpoint.load() or {"finished": [], "current": None, "cost": None}
    finished, current = list(saved["finished"]), saved["current"]
    meter = Meter(device, saved["cost"])
    architectures = genotype["architectures"]
    for number, architecture in enumerate(architectures[len(finished) :], start=len(finished) + 1):
        network = fresh_network(
            genotype["space"],
            architecture,
            prepared,
            size,
            config,
            frozen.seed,
            auxiliary=config.auxiliary_weight > 0,
        )

        def keep(state: dict[str, Any]) -> None:
            checkpoint.save({"finished": finished, "current": state, "cost": meter.so_far()})

        curve = train(
            network,
            images,
            config,
            seed=frozen.seed,
            device=device,
            what=f"{frozen.method} on {frozen.dataset}: network {number} of {len(architectures)}, epoch",
            resume=current,
            after_epoch=keep,
        )
        weights = {name: value.cpu().contiguous() for name, value in without_auxiliary(network.state_dict()).items()}
        finished.append({"network": weights, "curve": curve})
        current = None
        last = curve[-1]
        say(f"network {number}: loss {last['loss']:.3f}, training accuracy {100 * last['train_accuracy']:.1f} %")
    return finished, meter.so_far()


def write_weights(
    path: str,
    states: list[dict[str, Any]],
    genotype: Mapping[str, Any],
    frozen: Frozen,
    prepared: PreparedSet,
) -> None:
    """All networks in one safetensors file, names prefixed by their place in genotype.json: `0/stem.0.weight`."""
    tensors = {f"{i}/{name}": value for i, state in enumerate(states) for name, value in state["network"].items()}
    facts = {
        "method": genotype["method"],
        "dataset": genotype["dataset"],
        "space": genotype["space"],
        "architectures": [
            {"seed": architecture["seed"], "genotype": architecture["genotype"]}
            for architecture in genotype["architectures"]
        ],
        "params_digest": frozen.digest,
        "data_digest": prepared.digest,
    }
    write_tensors(path, tensors, facts)


def curve_table(states: list[dict[str, Any]], genotype: Mapping[str, Any]) -> pd.DataFrame:
    """A row per architecture and epoch."""
    return pd.DataFrame(
        [
            {"seed": architecture["seed"], **row}
            for architecture, state in zip(genotype["architectures"], states, strict=True)
            for row in state["curve"]
        ]
    )


def cost_record(
    cost: Mapping[str, float], states: list[dict[str, Any]], genotype: Mapping[str, Any], device: torch.device
) -> dict[str, Any]:
    """Content of cost.json."""
    return {
        **cost,
        "networks": [
            {"seed": architecture["seed"], "wall_seconds": sum(row["seconds"] for row in state["curve"])}
            for architecture, state in zip(genotype["architectures"], states, strict=True)
        ],
        "reproducible": device.type == "cpu",
        **provenance.gather(device),
    }
