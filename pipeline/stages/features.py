"""Describe every image of a prepared set by the feature network: one row of numbers per image."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.core.artifacts import read_json, sha256, write_json, writing_array
from pipeline.core.config import build
from pipeline.core.device import choose_device, use_threads
from pipeline.core.errors import ArtifactError, ConfigError
from pipeline.core.progress import say, spoken, track
from pipeline.core.tensors import read_tensors
from pipeline.core.wording import n_of
from pipeline.data import transforms
from pipeline.data.features import digest_of, seen_classes, warning_of
from pipeline.data.prepared import PreparedSet
from pipeline.data.pretrained import seen_by_imagenet
from pipeline.evaluation.cost import Meter
from pipeline.evaluation.feature_network import encoder, with_weights
from pipeline.evaluation.settings import EncodingConfig
from pipeline.stages.common import Frozen, add_prepared_arguments, data_standing, machine, read_params


def add_arguments(parser) -> None:
    add_prepared_arguments(parser)
    parser.add_argument("--network", required=True, metavar="FILE", help="weights of the feature-net stage")
    parser.add_argument("--network-facts", required=True, metavar="FILE", help="what that stage says of them")
    parser.add_argument("--params", required=True, metavar="FILE", help="frozen parameters of the features")
    parser.add_argument("--out", required=True, metavar="FILE", help="the features to write (.npy)")
    parser.add_argument("--facts", required=True, metavar="FILE", help="what to say of them (.json)")


def run(arguments) -> None:
    frozen, here = read_params(arguments.params), machine()
    prepared = PreparedSet.open(arguments.images, arguments.index, arguments.manifest, verify=True)
    require_own(frozen, prepared, arguments.params)
    config = build(EncodingConfig, frozen.params["features"], "features")
    network_facts = read_network_facts(arguments.network, arguments.network_facts, frozen)
    use_threads(here.threads)
    device = choose_device(here.device)
    meter = Meter(device)
    owner = network_facts if config.normalise_by == "network" else {"mean": prepared.mean, "std": prepared.std}
    encoding = encoder(
        with_weights(read_tensors(arguments.network, "feature-net"), arguments.network),
        prepared,
        network_facts["image_size"],
        owner["mean"],
        owner["std"],
        config.images_per_batch,
        device,
    )
    n_images = len(prepared.labels)
    with writing_array(arguments.out, (n_images, network_facts["dim"]), np.float32) as array:
        starts = range(0, n_images, config.images_per_batch)
        for start in track(starts, f"features of {frozen.dataset}: batch"):
            rows = np.arange(start, min(start + config.images_per_batch, n_images))
            array[rows] = encoding.of_images(transforms.gather(encoding.prepared, rows)).numpy()
    facts = facts_of(prepared, encoding.prepared, network_facts, frozen, config, sha256(arguments.out), meter.so_far())
    write_json(arguments.facts, facts)
    say(f"{n_of(n_images, 'image')} described in {spoken(facts['cost']['wall_seconds'])} by {network_facts['label']}")
    if facts["warning"]:
        say(f"{frozen.dataset}: {facts['warning']} Results will say so.")


def require_own(frozen: Frozen, prepared: PreparedSet, path: str) -> None:
    """Raises ConfigError when the parameters are those of another data set."""
    if frozen.dataset != prepared.name:
        raise ConfigError(
            f"{path} holds the parameters of the data set '{frozen.dataset}', but the images are those of "
            f"'{prepared.name}'. Give the files that belong together."
        )


def read_network_facts(weights: str, path: str, frozen: Frozen) -> dict[str, Any]:
    """What the feature-net stage wrote of its weights. Raises ArtifactError when they are other weights."""
    facts = read_json(path)
    try:
        source, written = facts["source"], facts["weights_sha256"]
    except (KeyError, TypeError):
        raise ArtifactError(f"{path} is not what the feature-net stage wrote. Run that stage again.") from None
    if source != frozen.source:
        raise ArtifactError(
            f"{path} is about the network of '{source}', not of '{frozen.source}'. Give that one's files."
        )
    try:
        seen = sha256(weights)
    except FileNotFoundError:
        raise ArtifactError(
            f"{weights} is missing. Run the feature-net stage (see `snakemake -n {weights}`)."
        ) from None
    if seen != written:
        raise ArtifactError(
            f"{weights} is not the file that {path} describes. Delete both and run the feature-net stage again."
        )
    return facts


def facts_of(
    prepared: PreparedSet,
    encoded: PreparedSet,
    network: Mapping[str, Any],
    frozen: Frozen,
    config: EncodingConfig,
    features_sha256: str,
    cost: Mapping[str, float],
) -> dict[str, Any]:
    """Content of the facts file.

    Args:
        encoded: the set as the network saw it.
        cost: of the encoding.
    """
    classes = network["trained_on"]["classes"]
    seen = seen_by_imagenet(prepared.name, prepared.class_names) if classes is None else classes
    of = network["trained_on"]["dataset"]
    saw = seen_classes(prepared, seen, of)
    facts = {
        "schema_version": 1,
        "dataset": frozen.dataset,
        "title": prepared.title,
        "source": frozen.source,
        "kind": prepared.kind,
        "n_images": len(prepared.labels),
        "dim": network["dim"],
        "image_size": encoded.image_size,
        "normalise_by": config.normalise_by,
        "mean": list(encoded.mean),
        "std": list(encoded.std),
        "network": network,
        "network_sha256": network["weights_sha256"],
        "saw_classes": saw,
        "warning": warning_of(prepared, network["label"], saw, of),
        "data_digest": prepared.digest,
        "features_sha256": features_sha256,
        "params_digest": frozen.digest,
        **data_standing(prepared.manifest),
        "cost": dict(cost),
    }
    return facts | {"digest": digest_of(facts)}
