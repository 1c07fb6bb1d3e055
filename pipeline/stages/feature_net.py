"""Get the network that describes images: trained on the base classes of the source, or with published weights."""

import pathlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from pipeline.core import artifacts
from pipeline.core.artifacts import alone, sha256
from pipeline.core.checkpoint import Checkpoint
from pipeline.core.config import build
from pipeline.core.device import choose_device, use_threads
from pipeline.core.progress import say
from pipeline.core.tensors import write_tensors
from pipeline.core.wording import n_of
from pipeline.data import pretrained, transforms
from pipeline.data.prepared import PreparedSet, require_few_shot
from pipeline.evaluation.cost import Meter
from pipeline.evaluation.feature_network import fresh_feature_network, recipe, with_weights
from pipeline.evaluation.from_scratch import TrainingImages, too_short, train
from pipeline.evaluation.settings import FeatureNetConfig
from pipeline.nets.resnet18 import FEATURE_DIM, ResNet18
from pipeline.stages.common import Frozen, add_prepared_arguments, checkpoint_path, data_standing, machine, read_params

CURVE = ("epoch", "learning_rate", "loss", "train_accuracy", "seconds")
Made = tuple[ResNet18, list[dict[str, float]], dict[str, Any]]


@dataclass(frozen=True)
class Asked:
    """What a network is made from.

    Attributes:
        folder: where its files will lie.
        resume: the state of a training that was broken off, or None.
        after_epoch: is given the state after each epoch.
    """

    prepared: PreparedSet
    config: FeatureNetConfig
    frozen: Frozen
    device: torch.device
    folder: pathlib.Path
    resume: dict[str, Any] | None
    after_epoch: Callable[[dict[str, Any]], None]


def add_arguments(parser) -> None:
    add_prepared_arguments(parser)
    parser.add_argument("--params", required=True, metavar="FILE", help="frozen parameters of the source's network")
    for name in ("weights", "curve", "facts"):
        parser.add_argument(f"--{name}", required=True, metavar="FILE", help=f"where to write the {name}")


def run(arguments) -> None:
    frozen, here = read_params(arguments.params), machine()
    prepared = PreparedSet.open(arguments.images, arguments.index, arguments.manifest, verify=True)
    require_few_shot(prepared, "A source, whose base classes tasks are made of,")
    config = build(FeatureNetConfig, frozen.params["features"], "features")
    use_threads(here.threads)
    checkpoint = Checkpoint(
        checkpoint_path("feature_net", frozen.dataset), {"params": frozen.digest, "data": prepared.digest}
    )
    saved, device = checkpoint.load(), choose_device(here.device)
    meter = Meter(device, saved and saved["cost"])

    def keep(state: dict[str, Any]) -> None:
        checkpoint.save({"training": state, "cost": meter.so_far()})

    folder, resume = pathlib.Path(arguments.weights).parent, saved and saved["training"]
    network, curve, facts = WEIGHTS[config.weights](Asked(prepared, config, frozen, device, folder, resume, keep))
    cost = meter.so_far()
    belongs = {"params_digest": frozen.digest, "data_digest": prepared.digest}
    weights = {name: value.cpu().contiguous() for name, value in network.body.state_dict().items()}
    write_tensors(arguments.weights, weights, {"network": "resnet18", **belongs})
    artifacts.write_csv(arguments.curve, pd.DataFrame(curve, columns=list(CURVE)))
    common = {
        "schema_version": 1,
        "network": "resnet18",
        "dim": FEATURE_DIM,
        "weights": config.weights,
        "image_size": config.image_size,
        "source": frozen.dataset,
        "source_title": prepared.title,
        "weights_sha256": sha256(arguments.weights),
        **belongs,
        "cost": cost,
    }
    artifacts.write_json(arguments.facts, common | facts)
    checkpoint.clear()
    say(f"{facts['label']} -> {arguments.weights}")


def own(asked: Asked) -> Made:
    """Train on the base classes."""
    prepared, config, frozen = asked.prepared, asked.config, asked.frozen
    training = recipe(config)
    images = TrainingImages.of(transforms.resized(prepared, config.image_size), training)
    if warning := too_short(len(images.rows), training, "features"):
        say(f"feature network of {frozen.dataset}: {warning}")
    classes = [prepared.class_names[class_id] for class_id in prepared.classes_of(prepared.search_split)]
    network = fresh_feature_network(len(classes), training, frozen.seed)
    curve = train(
        network,
        images,
        training,
        seed=frozen.seed,
        device=asked.device,
        what=f"feature network of {frozen.dataset}: epoch",
        section="features",
        resume=asked.resume,
        after_epoch=asked.after_epoch,
    )
    say(f"loss {curve[-1]['loss']:.3f}, training accuracy {100 * curve[-1]['train_accuracy']:.1f} %")
    facts = {
        "label": f"ResNet-18 trained here on the {n_of(len(classes), 'base class', 'base classes')} of "
        f"{prepared.title} "
        "(a substitute for the published ImageNet weights)",
        "substitute": True,
        "trained_on": {
            "dataset": frozen.dataset,
            "title": prepared.title,
            "split": prepared.search_split,
            "classes": classes,
            "n_classes": len(classes),
            "n_images": len(images.rows),
            "epochs": len(curve),
            **data_standing(prepared.manifest),
        },
        "mean": list(prepared.mean),
        "std": list(prepared.std),
    }
    return network, curve, facts


def imagenet(asked: Asked) -> Made:
    """Bring torchvision's weights for ImageNet-1k."""
    waiting = asked.folder / ".downloads"
    cache = pathlib.Path(torch.hub.get_dir()) / "checkpoints"
    with alone(waiting.with_name(".downloads.lock")):
        found = pretrained.find_resnet18(waiting, mirror=machine().mirror, cache=cache)
        network = with_weights(pretrained.read_weights(found.path), found.path)
        shutil.rmtree(waiting, ignore_errors=True)
    standing = "" if found.official else ", from a mirror's variant of the file, not the official one"
    facts = {
        "label": f"ResNet-18 with torchvision's ImageNet weights{standing}",
        "substitute": False,
        "trained_on": {
            "dataset": "imagenet",
            "title": "ImageNet-1k",
            "split": "train",
            "classes": None,
            "n_classes": pretrained.N_CLASSES,
            "n_images": pretrained.N_IMAGES,
        },
        "file": {"name": found.name, "sha256": found.sha256, "official": found.official, "url": found.source.url},
        "mean": list(pretrained.MEAN),
        "std": list(pretrained.STD),
    }
    return network, [], facts


WEIGHTS: dict[str, Callable[[Asked], Made]] = {"own": own, "imagenet": imagenet}
