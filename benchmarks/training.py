"""Images per second of training from scratch, with and without the faster kinds of arithmetic.

    python benchmarks/training.py --out benchmarks/figures/training_cpu.json

Every variant trains the same network on the same random images; the variants take turns, round after round, so that a
machine that slows down slows all of them. The figures are medians over rounds, with the least and the largest.
Runs unchanged on a CUDA device, where 84 pixels and 48 channels are the default.
"""

import argparse
import dataclasses
import shutil
import statistics

import numpy as np
import torch

from pipeline.core import provenance
from pipeline.core.artifacts import write_json
from pipeline.core.device import choose_device, use_threads
from pipeline.core.progress import say
from pipeline.core.rng import numpy_stream
from pipeline.data.prepared import PreparedSet
from pipeline.evaluation.from_scratch import TrainingImages, optimiser_of, run_epoch
from pipeline.evaluation.networks import fresh_network
from pipeline.evaluation.settings import NetworkConfig, TrainConfig

# first mini-ImageNet genotype of MetaNTK-NAS, 5 cells
GENOTYPE = (
    "Genotype(normal=[[('sep_conv_3x3', 0), ('sep_conv_3x3', 1)], [('sep_conv_3x3', 1), ('sep_conv_3x3', 2)], "
    "[('conv_3x3', 0), ('sep_conv_3x3', 2)]], normal_concat=[2, 3, 4], reduce=[[('sep_conv_3x3', 0), "
    "('sep_conv_3x3', 1)], [('conv_1x5_5x1', 1), ('dil_conv_3x3', 2)], [('dil_conv_3x3', 2), ('dil_conv_3x3', 3)]], "
    "reduce_concat=[2, 3, 4])"
)
N_CLASSES = 64
VARIANTS = {
    "plain": {},
    "channels_last": {"channels_last": True},
    "bfloat16": {"precision": "bfloat16"},
    "channels_last bfloat16": {"channels_last": True, "precision": "bfloat16"},
    "channels_last compile": {"channels_last": True, "compile": True},
    "channels_last bfloat16 compile": {"channels_last": True, "precision": "bfloat16", "compile": True},
}


def random_images(n_images: int, size: int) -> PreparedSet:
    """A prepared set of noise in 64 base classes."""
    images = numpy_stream(0, "benchmark").integers(0, 256, (n_images, size, size, 3), dtype=np.uint8)
    labels = np.sort(np.arange(n_images) % N_CLASSES)
    empty = np.arange(0)
    return PreparedSet(
        name="noise",
        images=images,
        labels=labels,
        folds=np.zeros_like(labels),
        split_rows={"base": range(n_images), "validation": range(0), "novel": range(0)},
        class_names=[str(label) for label in range(N_CLASSES)],
        split_classes={"base": np.arange(N_CLASSES), "validation": empty, "novel": empty},
        mean=(0.5, 0.5, 0.5),
        std=(0.29, 0.29, 0.29),
        digest="",
        manifest={},
    )


class Variant:
    """One way of training, ready for another epoch at any time."""

    def __init__(self, config: TrainConfig, prepared: PreparedSet, channels: int, n_cells: int, device: torch.device):
        architecture = {"seed": 0, "genotype": GENOTYPE}
        size = NetworkConfig(channels=channels, n_cells=n_cells)
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        self.config, self.device, self.images = config, device, TrainingImages.of(prepared, config)
        network = fresh_network("darts_fewshot", architecture, prepared, size, config, 0)
        self.network = network.to(device=device, memory_format=layout)
        self.optimiser = optimiser_of(self.network, config)
        self.run = torch.compile(self.network) if config.compile else self.network

    def images_per_second(self) -> float:
        row = run_epoch(self.network, self.run, self.optimiser, self.images, self.config, 1, 0, self.device)
        n_steps = len(self.images.rows) // self.config.batch_size
        return n_steps * self.config.batch_size / row["seconds"]


def measure(arguments, device: torch.device) -> dict[str, dict[str, float]]:
    """Per variant the median, least and largest images per second."""
    prepared = random_images(arguments.steps * arguments.batch_size, arguments.image_size)
    base = TrainConfig(epochs=100, batch_size=arguments.batch_size, learning_rate=1e-3)
    chosen = {
        name: changes
        for name, changes in VARIANTS.items()
        if not changes.get("compile") or (device.type == "cuda" or shutil.which("g++"))
    }
    variants = {}
    for name, changes in chosen.items():
        config = dataclasses.replace(base, **{"channels_last": False, **changes})
        variants[name] = Variant(config, prepared, arguments.channels, arguments.cells, device)
        say(f"{name}: first epoch at {variants[name].images_per_second():.0f} images/s, not counted")
    figures: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(arguments.rounds):
        for name, variant in variants.items():
            figures[name].append(variant.images_per_second())
        say(f"round {number + 1}: " + ", ".join(f"{name} {found[-1]:.0f}" for name, found in figures.items()))
    return {
        name: {"median": statistics.median(found), "least": min(found), "largest": max(found)}
        for name, found in figures.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="where to write the figures (.json)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0, help="processor cores; 0 for all")
    parser.add_argument("--image-size", type=int, help="default 32, on CUDA 84")
    parser.add_argument("--channels", type=int, help="default 16, on CUDA 48")
    parser.add_argument("--cells", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, help="steps of a round; default 8, on CUDA 50")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    device = choose_device(arguments.device)
    defaults = {"image_size": (32, 84), "channels": (16, 48), "steps": (8, 50)}
    for name, (on_cpu, on_cuda) in defaults.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, on_cuda if device.type == "cuda" else on_cpu)
    settings = {
        name: getattr(arguments, name) for name in ("image_size", "channels", "cells", "batch_size", "steps", "rounds")
    }
    figures = {"images_per_second": measure(arguments, device), "settings": settings, **provenance.gather(device)}
    write_json(arguments.out, figures)


if __name__ == "__main__":
    main()
