"""A short, real training on the task's images, and the accuracy on those of its images that were held out."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from pipeline.core.config import knob
from pipeline.core.errors import ConfigError
from pipeline.core.rng import torch_stream
from pipeline.core.wording import n_of
from pipeline.data.prepared import PreparedSet
from pipeline.episodes.class_tasks import task_set
from pipeline.evaluation.settings import TrainConfig
from pipeline.recipes.oracles import ORACLES, Bench, Question

PLAIN = {
    "pad": 0, "crop_scale": 1.0, "jitter": 0.0, "hue": 0.0, "cutout": 0, "flip": False, "drop_path": 0.0,
    "label_smoothing": 0.0, "clip_norm": 0.0, "auxiliary_weight": 0.0, "warm_up": 0, "optimiser": "sgd",
    "precision": "float32", "channels_last": True, "compile": False,
}  # fmt: skip
"""No augmentation, as MetaD2A trains what it found; how it trained for its database is not published.

Channels innermost take a third less time on a processor.
"""

IMAGES_PER_PASS = 512
"""In the test, which needs no gradients."""


@ORACLES.register("train_oracle")
@dataclass(frozen=True)
class TrainOracle:
    """Top-1 accuracy in per cent after training from scratch; as many network outputs as the task has classes."""

    image_size: int = knob({"laptop": 16, "gpu": 32, "paper": 32}, "side to which images are resized", low=8)
    n_images: int = knob(
        {"laptop": 150, "gpu": 200, "paper": 0}, "most images of a class, training and held out; 0 for all", low=0
    )
    held_out: float = knob(
        {"laptop": 0.5, "gpu": 0.5, "paper": 0.2},
        "share of a class's images that are tested on, not trained on",
        low=0.01,
        high=0.9,
    )
    channels: int = knob({"laptop": 8, "gpu": 16, "paper": 16}, "channels of the first cells", low=1)
    n_cells: int = knob({"laptop": 3, "gpu": 3, "paper": 15}, "cells of the network", low=1, high=99)
    epochs: int = knob({"laptop": 10, "gpu": 12, "paper": 200}, "passes over the images", low=1)
    batch_size: int = knob({"laptop": 64, "gpu": 128, "paper": 256}, "images per step", low=1)
    learning_rate: float = knob(0.1, "largest learning rate", low=0)
    schedule: str = knob(
        {"laptop": "one_cycle", "gpu": "one_cycle", "paper": "cosine"},
        "how the learning rate falls",
        choices=("step", "cosine", "one_cycle"),
    )
    momentum: float = knob(0.9, "momentum of SGD", low=0, high=1)
    weight_decay: float = knob(5e-4, "L2 penalty on all weights", low=0)
    init: str = knob(
        "kaiming_fanin",
        "distribution of the initial weights",
        choices=("torch_default", "kaiming_fanout", "kaiming_fanin"),
    )

    needs_table: ClassVar[bool] = False
    knows_tasks: ClassVar[bool] = True
    unit: ClassVar[str] = "per cent"

    def check(self, bench: Bench) -> None:
        """Nothing: a task too small to train on says so itself."""

    def facts(self, bench: Bench) -> dict[str, Any]:
        return {
            "meaning": (
                f"top-1 accuracy on held-out images of the task's own classes after {n_of(self.epochs, 'epoch')} from "
                f"scratch, {n_of(self.channels, 'channel')}, {n_of(self.n_cells, 'cell')}, {self.image_size} x "
                f"{self.image_size} pixels, no augmentation"
            )
        }

    def __call__(self, question: Question, bench: Bench) -> float:
        import torch

        from pipeline.evaluation.batch_norm import take_statistics
        from pipeline.evaluation.classification_test import classify
        from pipeline.evaluation.few_shot_test import FrozenFeatures
        from pipeline.evaluation.from_scratch import TrainingImages, train
        from pipeline.nets.init import initialise

        task, config, space = self.images_of(question.classes, bench), self.training(), bench.space
        network = space.build(
            space.from_text(question.genotype),
            n_classes=len(question.classes),
            channels=self.channels,
            n_cells=self.n_cells,
            image_size=task.image_size,
        )
        initialise(network, config.init, torch_stream(question.seed, "initial weights"))
        images = TrainingImages.of(task, config)
        if len(images.rows) < self.batch_size:
            raise ConfigError(
                f"oracle.train.batch_size is {self.batch_size}, but a task has only {n_of(len(images.rows), 'image')} "
                "to train on. Lower it, or raise database.n_classes or oracle.train.n_images."
            )
        train(network, images, config, seed=question.seed, device=bench.device, what=None)
        generator = torch_stream(question.seed, "statistics")
        order = torch.randperm(len(images.rows), generator=generator).split(config.batch_size)
        take_statistics(network, (images.batch(chosen, config, generator, bench.device) for chosen in order))
        features = FrozenFeatures(network, task, config, IMAGES_PER_PASS, bench.device)
        found = classify(features, task.rows_of_split("test"), np.arange(len(question.classes)), what=None)
        return 100 * float(found.right(1).mean())

    def images_of(self, classes: tuple[int, ...], bench: Bench) -> PreparedSet:
        """The task's images, those held out as its test split."""
        return task_set(
            bench.prepared,
            classes,
            n_images=self.n_images,
            held_out=self.held_out,
            image_size=self.image_size,
            seed=bench.seed,
        )

    def training(self) -> TrainConfig:
        """The recipe."""
        return TrainConfig(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            schedule=self.schedule,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            init=self.init,
            **PLAIN,
        )
