"""Knobs of the networks that are trained from scratch, of their training and of their few-shot test.

The `paper` rows are the recipe of MetaNTK-NAS (Wang et al., 2022), which follows RFS (Tian et al., ECCV 2020).
"""

from dataclasses import dataclass

from pipeline.core.config import knob


@dataclass(frozen=True)
class NetworkConfig:
    """The network that stands on a genotype, both in the search and in the final training."""

    channels: int = knob({"laptop": 16, "gpu": 48, "paper": 48}, "channels of the first cells; a multiple of 16", low=1)
    n_cells: int = knob(5, "cells of the network; reductions stand at one and two thirds", low=2, high=99)


@dataclass(frozen=True)
class TrainConfig:
    """Supervised training on the base classes."""

    epochs: int = knob(
        {
            "laptop": 7,
            "laptop/doublemnist": 2,
            "laptop/cifarfs": 6,
            "laptop/fc100": 6,
            "laptop/omniglot": 3,
            "laptop/tieredimagenet": 1,
            "gpu": 50,
            "gpu/tieredimagenet": 15,
            "paper": 100,
            "paper/tieredimagenet": 60,
        },
        "passes over the base classes",
        low=1,
    )
    batch_size: int = knob(
        {
            "laptop": 64,
            "gpu": 128,
            "paper": 64,
            "paper/8cells": 40,
            "paper/tieredimagenet": 64,
            "paper/tieredimagenet/8cells": 56,
        },
        "images per step; a last, smaller batch of an epoch is dropped",
        low=1,
    )
    learning_rate: float = knob(
        {"laptop": 0.05, "gpu": 0.05, "paper": 0.02, "paper/tieredimagenet": 0.01},
        "learning rate at the start (step, cosine) or at its peak (one_cycle)",
        low=0,
    )
    schedule: str = knob(
        {"laptop": "one_cycle", "gpu": "one_cycle", "paper": "step"},
        "how the learning rate falls",
        choices=("step", "cosine", "one_cycle"),
    )
    milestones: tuple[int, ...] = knob(
        {"laptop": (), "gpu": (), "paper": (60, 80), "paper/tieredimagenet": (30, 40, 50)},
        "step schedule: epochs after which the learning rate is multiplied by decay",
        low=1,
    )
    decay: float = knob(0.1, "step schedule: factor at each milestone", low=0, high=1)
    optimiser: str = knob("sgd", "rule of the weight updates", choices=("sgd", "adam"))
    momentum: float = knob(0.9, "momentum of sgd, first beta of adam", low=0, high=1)
    weight_decay: float = knob(5e-4, "L2 penalty on all weights", low=0)
    drop_path: float = knob(
        {"laptop": 0.0, "gpu": 0.1, "paper": 0.2, "paper/tieredimagenet": 0.1},
        "drop path: probability in the last epoch; it grows linearly with the epochs",
        low=0,
        high=1,
    )
    pad: int | None = knob(
        None, "random crop: border added around an image; null is 8 from 64 pixels on and 4 below", low=0
    )
    jitter: float = knob(0.4, "strength of brightness, contrast and saturation jitter", low=0, high=1)
    flip: bool = knob(
        {
            "laptop": True,
            "gpu": True,
            "paper": True,
            **{f"{budget}/{name}": False for budget in ("laptop", "gpu") for name in ("doublemnist", "omniglot")},
        },
        "random horizontal flip; characters have none, except in the paper's recipe",
    )
    init: str = knob(
        "torch_default",
        "distribution of the initial weights",
        choices=("torch_default", "kaiming_fanout", "kaiming_fanin"),
    )
    use_trainval: bool = knob(False, "train on the validation classes too")
    precision: str = knob(
        {"laptop": "float32", "gpu": "bfloat16", "paper": "float32"},
        "arithmetic of the forward and backward pass; weights stay float32",
        choices=("float32", "bfloat16"),
    )
    channels_last: bool = knob({"laptop": True, "gpu": True, "paper": False}, "memory layout with channels innermost")
    compile: bool = knob(False, "compile the network with torch.compile; pays off in long trainings on a GPU")


@dataclass(frozen=True)
class EvaluateConfig:
    """The few-shot test on the stored episodes of the novel classes."""

    n_augmented_support: int = knob(
        {"laptop": 0, "gpu": 5, "paper": 5},
        "augmented copies of each support image that the read-out learns from; 0 takes the image itself",
        low=0,
    )
    inverse_regularisation: float = knob(1.0, "linear probe: C, the inverse strength of its L2 penalty", low=1e-12)
    max_iter: int = knob(1000, "linear probe: most steps of its solver", low=1)
    batch_size: int = knob(256, "images per forward pass", low=1)
    n_untrained_episodes: int = knob(
        {"laptop": 600, "gpu": 1000, "paper": 1000},
        "stored episodes, the first ones, on which the untrained network is tested",
        low=2,
    )
    n_resamples: int = knob(1000, "samples of the bootstrap over classes and images", low=10)
