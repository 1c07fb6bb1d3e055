"""Test the trained networks on the test images of a classification set, beside the same networks untrained."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.core import artifacts
from pipeline.core.artifacts import sha256
from pipeline.core.config import build
from pipeline.core.errors import DataError
from pipeline.core.progress import say
from pipeline.core.types import CLASSIFICATION
from pipeline.evaluation.classification_test import Classified, classify, estimate, mean_and_interval, tops
from pipeline.evaluation.networks import outputs_of
from pipeline.evaluation.settings import TestConfig
from pipeline.stages.trained import Trained, add_trained_arguments, size_of

SPLIT = "test"


def add_arguments(parser) -> None:
    add_trained_arguments(parser)
    parser.add_argument("--params", required=True, metavar="FILE", help="frozen parameters of the test")
    parser.add_argument("--measured", required=True, metavar="FILE", help="where to write accuracies and intervals")
    parser.add_argument("--accuracies", required=True, metavar="FILE", help="where to write each class's right images")


def run(arguments) -> None:
    measured, table = assess(arguments)
    artifacts.write_csv(arguments.accuracies, table)
    artifacts.write_json(arguments.measured, measured)
    say(spoken_result(measured))


def assess(arguments) -> tuple[dict[str, Any], pd.DataFrame]:
    """Test what the arguments name; nothing is written.

    Returns:
        Accuracies and intervals with their provenance, and the right images of each class.
    """
    networks = Trained.read(arguments)
    prepared, frozen = networks.prepared, networks.frozen
    if prepared.kind != CLASSIFICATION:
        raise DataError(
            f"{prepared.name} is a few-shot data set: a network knows none of the classes it is tested on, so there is "
            "no accuracy of its own classifier. Run the evaluate stage instead."
        )
    config = build(TestConfig, frozen.params["test"], "test")
    found, untrained, sizes = measure(networks, config)
    ks = tops(prepared.n_classes(SPLIT))
    protocol = {
        "setting": "classification",
        "n_classes": prepared.n_classes(SPLIT),
        "n_train_images": len(prepared.rows_of_split(prepared.search_split)),
        "n_test_images": len(prepared.rows_of_split(SPLIT)),
    }
    measured = {
        **networks.facts(protocol, sizes),
        "accuracy": {f"top{k}": estimate(found, k) for k in ks},
        "untrained": {f"top{k}": mean_and_interval(untrained, k) for k in ks},
        "provenance": {**networks.provenance(), "weights_sha256": sha256(arguments.weights)},
    }
    return measured, class_table(networks, found, ks)


def measure(
    networks: Trained, config: TestConfig
) -> tuple[list[Classified], list[Classified], list[Mapping[str, int]]]:
    """What each network made of the test images, trained and untrained; and their sizes."""
    prepared = networks.prepared
    rows, outputs = prepared.rows_of_split(SPLIT), outputs_of(prepared, networks.train)
    found, untrained, sizes = [], [], []
    for name, network, state in networks.networks():
        sizes.append(size_of(network, prepared))
        untrained.append(classify(networks.features(network, config.batch_size), rows, outputs, f"{name}, untrained"))
        network.load_state_dict(state)
        found.append(classify(networks.features(network, config.batch_size), rows, outputs, name))
    return found, untrained, sizes


def class_table(networks: Trained, found: Sequence[Classified], ks: Sequence[int]) -> pd.DataFrame:
    """A row per architecture and class: its test images and those whose class is among the first k."""
    names = networks.prepared.class_names
    tables = []
    for seed, one in zip(networks.seeds, found, strict=True):
        classes = np.unique(one.classes)
        counts = {"n_right" if k == 1 else f"n_right_top{k}": one.right(k) for k in ks}
        columns: dict[str, Any] = {
            "seed": seed,
            "class": [names[label] for label in classes],
            "n": np.bincount(one.classes)[classes],
        }
        columns |= {
            name: np.bincount(one.classes[right], minlength=len(names))[classes] for name, right in counts.items()
        }
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def spoken_result(measured: Mapping[str, Any]) -> str:
    accuracies = ", ".join(
        f"{name} {100 * block['mean']:.2f} % (untrained {100 * measured['untrained'][name]['mean']:.2f} %)"
        for name, block in measured["accuracy"].items()
    )
    return f"{measured['method']} on {measured['dataset']}: {accuracies}"
