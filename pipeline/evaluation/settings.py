"""Knobs of the networks that are trained from scratch, of their training and of their tests.

The `paper` rows are the recipe of MetaNTK-NAS (Wang et al., 2022), which follows RFS (Tian et al., ECCV 2020); those of
CIFAR-10, CIFAR-100 and ImageNet are that of DARTS (Liu et al., ICLR 2019) as TE-NAS and TEG-NAS use it; those of all
other classification sets are the recipe with which MetaD2A (Lee et al., ICLR 2021) trains cells of NAS-Bench-201. See
docs/training.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.core.config import BUDGETS, knob

CIFAR, IMAGENET = ("cifar10", "cifar100"), ("imagenet",)
# nobody published a recipe for training from scratch on ImageNet16-120 in these spaces; it gets that of CIFAR
SMALL = (*CIFAR, "imagenet16")
DARTS_SETS = (*SMALL, *IMAGENET)
# rows of a data set go before those of its kind
CLASSIFICATION = ("classification",)
CHARACTERS = ("doublemnist", "omniglot")


def rows(names: tuple[str, ...], **by_budget: Any) -> Mapping[str, Any]:
    """Rows of a table by budget that hold for the data sets, or the kind, `names` alone."""
    return {f"{budget}/{name}": value for budget, value in by_budget.items() for name in names}


def always(value: Any) -> Mapping[str, Any]:
    """The same value in every budget."""
    return dict.fromkeys(BUDGETS, value)


@dataclass(frozen=True)
class NetworkConfig:
    """The network that stands on a genotype, in the final training."""

    channels: int = knob(
        {
            "laptop": 16,
            "gpu": 48,
            "paper": 48,
            **rows(CLASSIFICATION, gpu=16, paper=16),
            **rows(SMALL, gpu=36, paper=36),
            **rows(IMAGENET, gpu=48, paper=48),
        },
        "channels of the first cells",
        low=1,
    )
    n_cells: int = knob(
        {
            "laptop": 5,
            "gpu": 5,
            "paper": 5,
            **rows(CLASSIFICATION, gpu=15, paper=15),
            **rows(SMALL, gpu=20, paper=20),
            **rows(IMAGENET, gpu=14, paper=14),
        },
        "cells of the network; reductions stand at one and two thirds",
        low=2,
        high=99,
    )
    stem: str = knob(
        {
            "laptop": "plain",
            "gpu": "plain",
            "paper": "plain",
            **rows(IMAGENET, gpu="downsampling", paper="downsampling"),
        },
        "stack of cells: what stands before it, one convolution or three that halve the image's side each",
        choices=("plain", "downsampling"),
    )
    stem_multiplier: int = knob(
        {"laptop": 1, "gpu": 1, "paper": 1, **rows(SMALL, laptop=3, gpu=3, paper=3)},
        "stack of cells: channels of the stem, as a multiple of channels",
        low=1,
    )


@dataclass(frozen=True)
class TrainConfig:
    """Supervised training: on the base classes of a few-shot set, on the training images of a classification set."""

    epochs: int = knob(
        {
            "laptop": 7,
            "laptop/doublemnist": 2,
            "laptop/cifarfs": 6,
            "laptop/fc100": 6,
            "laptop/omniglot": 3,
            "laptop/tieredimagenet": 1,
            "laptop/cifar10": 8,
            "laptop/cifar100": 2,
            "laptop/imagenet16": 4,
            "laptop/imagenet": 1,
            "laptop/imagenet32": 2,
            "laptop/classification": 20,
            "laptop/mnist": 8,
            "laptop/svhn": 12,
            "laptop/aircraft": 12,
            "gpu": 50,
            **rows(("tieredimagenet", "imagenet32"), gpu=15, paper=60),
            **rows(CLASSIFICATION, gpu=100),
            "gpu/mnist": 20,
            **rows(SMALL, gpu=50),
            **rows(IMAGENET, gpu=10),
            "paper": 100,
            **rows(CLASSIFICATION, paper=200),
            "paper/mnist": 50,
            **rows(SMALL, paper=600),
            **rows(IMAGENET, paper=250),
        },
        "passes over the images",
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
            **rows(CLASSIFICATION, gpu=256, paper=256),
            **rows(SMALL, paper=96),
            **rows(IMAGENET, gpu=768, paper=768),
            # another number of cells is no other recipe here
            "paper/classification/8cells": 256,
            **{f"paper/{name}/8cells": 96 for name in SMALL},
            **{f"paper/{name}/8cells": 768 for name in IMAGENET},
        },
        "images per step; a last, smaller batch of an epoch is dropped",
        low=1,
    )
    learning_rate: float = knob(
        {
            "laptop": 0.05,
            "gpu": 0.05,
            "paper": 0.02,
            "paper/tieredimagenet": 0.01,
            **rows(CLASSIFICATION, gpu=0.1, paper=0.1),
            **rows(SMALL, paper=0.025),
            **rows(IMAGENET, gpu=0.5, paper=0.5),
        },
        "learning rate at the start (step, cosine) or at its peak (one_cycle)",
        low=0,
    )
    schedule: str = knob(
        {
            "laptop": "one_cycle",
            "gpu": "one_cycle",
            "paper": "step",
            **rows(CLASSIFICATION, gpu="cosine", paper="cosine"),
        },
        "how the learning rate falls",
        choices=("step", "cosine", "one_cycle"),
    )
    warm_up: int = knob(
        {"laptop": 0, "gpu": 0, "paper": 0, **rows(SMALL, gpu=2), **rows(IMAGENET, gpu=1, paper=5)},
        "first epochs, in which the schedule's rate is multiplied by epoch / warm_up",
        low=0,
    )
    milestones: tuple[int, ...] = knob(
        {
            "laptop": (),
            "gpu": (),
            "paper": (60, 80),
            **rows(("tieredimagenet", "imagenet32"), paper=(30, 40, 50)),
            **rows(CLASSIFICATION, paper=()),
        },
        "step schedule: epochs after which the learning rate is multiplied by decay",
        low=1,
        may_be_empty=True,
    )
    decay: float = knob(0.1, "step schedule: factor at each milestone", low=0, high=1)
    floor: float = knob(
        {"laptop": 1e-3, "gpu": 1e-3, "paper": 1e-3, **rows(CLASSIFICATION, gpu=0.0, paper=0.0)},
        "cosine schedule: the fraction of the learning rate that it falls to",
        low=0,
        high=1,
    )
    optimiser: str = knob("sgd", "rule of the weight updates", choices=("sgd", "adam"))
    momentum: float = knob(0.9, "momentum of sgd, first beta of adam", low=0, high=1)
    nesterov: bool = knob(
        {**always(False), **rows(CLASSIFICATION, gpu=True, paper=True), **rows(DARTS_SETS, gpu=False, paper=False)},
        "sgd looks one step of momentum ahead",
    )
    weight_decay: float = knob(
        {
            "laptop": 5e-4,
            "gpu": 5e-4,
            "paper": 5e-4,
            **rows(SMALL, gpu=3e-4, paper=3e-4),
            **rows(IMAGENET, gpu=3e-5, paper=3e-5),
        },
        "L2 penalty on all weights",
        low=0,
    )
    clip_norm: float = knob(
        {"laptop": 0.0, "gpu": 0.0, "paper": 0.0, **rows(DARTS_SETS, gpu=5.0, paper=5.0)},
        "longest gradient, all weights together; a longer one is shortened to it; 0 for no limit",
        low=0,
    )
    label_smoothing: float = knob(
        {"laptop": 0.0, "gpu": 0.0, "paper": 0.0, **rows(IMAGENET, gpu=0.1, paper=0.1)},
        "part of a label that is spread evenly over all classes",
        low=0,
        high=1,
    )
    auxiliary_weight: float = knob(
        {"laptop": 0.0, "gpu": 0.0, "paper": 0.0, **rows(DARTS_SETS, gpu=0.4, paper=0.4)},
        "stack of cells: weight of the loss of an auxiliary classifier at two thirds of the depth; 0 for none",
        low=0,
    )
    drop_path: float = knob(
        {
            "laptop": 0.0,
            "gpu": 0.1,
            "paper": 0.2,
            "paper/tieredimagenet": 0.1,
            **rows(CLASSIFICATION, gpu=0.0, paper=0.0),
            **rows(SMALL, gpu=0.1, paper=0.3),
        },
        "drop path: probability in the last epoch; it grows linearly with the epochs",
        low=0,
        high=0.99,
    )
    pad: int | None = knob(
        {
            **always(None),
            **rows(CLASSIFICATION, laptop=0, gpu=0, paper=0),
            **rows(DARTS_SETS, laptop=None, gpu=None, paper=None),
        },
        "random crop: border added around an image; null is 8 from 64 pixels on and 4 below",
        low=0,
    )
    crop_scale: float = knob(
        {"laptop": 1.0, "gpu": 1.0, "paper": 1.0, **rows(IMAGENET, laptop=0.35, gpu=0.25, paper=0.08)},
        "below 1: enlarge a random part of at least this area instead of the padded crop",
        low=0.01,
        high=1,
    )
    jitter: float = knob(
        {
            **always(0.4),
            **rows(CLASSIFICATION, laptop=0.0, gpu=0.0, paper=0.0),
            **rows(IMAGENET, laptop=0.4, gpu=0.4, paper=0.4),
        },
        "strength of brightness, contrast and saturation jitter",
        low=0,
        high=1,
    )
    hue: float = knob(
        {"laptop": 0.0, "gpu": 0.0, "paper": 0.0, **rows(IMAGENET, gpu=0.2, paper=0.2)},
        "strength of hue jitter, as a fraction of the full circle",
        low=0,
        high=0.5,
    )
    cutout: int = knob(
        {"laptop": 0, "gpu": 0, "paper": 0, **rows(CIFAR, gpu=16, paper=16), **rows(("imagenet16",), gpu=8, paper=8)},
        "side in pixels of the square of each image that is painted over; 0 for none",
        low=0,
    )
    flip: bool = knob(
        {
            **always(True),
            **rows(CHARACTERS, laptop=False, gpu=False),
            **rows(CLASSIFICATION, laptop=False, gpu=False, paper=False),
            **rows(DARTS_SETS, laptop=True, gpu=True, paper=True),
        },
        "random horizontal flip; characters have none, except in the paper's recipe",
    )
    init: str = knob(
        "torch_default",
        "distribution of the initial weights",
        choices=("torch_default", "kaiming_fanout", "kaiming_fanin"),
    )
    use_trainval: bool = knob(False, "train on the validation classes too; few-shot sets only")
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


@dataclass(frozen=True)
class AdaptConfig:
    """The few-shot test of learners whose start was meta-learned."""

    n_untrained_episodes: int = knob(
        {"laptop": 300, "gpu": 600, "paper": 1000},
        "stored episodes, the first ones, on which the learner is tested from its untrained start",
        low=2,
    )
    n_resamples: int = knob(1000, "samples of the bootstrap over classes and images", low=10)


@dataclass(frozen=True)
class TestConfig:
    """The test of a classification set on its test images."""

    __test__ = False  # the name begins like that of a test

    batch_size: int = knob(256, "images per forward pass", low=1)


@dataclass(frozen=True)
class FeatureNetConfig:
    """The network by which images are described to methods that read data sets, and its training where it is ours."""

    weights: str = knob(
        {"laptop": "own", "gpu": "imagenet", "paper": "imagenet"},
        "weights of the network: trained here on the base classes of the source, a substitute, or torchvision's for "
        "ImageNet-1k, as published",
        choices=("own", "imagenet"),
    )
    image_size: int = knob(32, "side to which images are resized for the network", low=8)
    epochs: int = knob(
        {
            "laptop": 6,
            "laptop/doublemnist": 2,
            "laptop/omniglot": 3,
            "laptop/tieredimagenet": 1,
            "gpu": 60,
            "gpu/tieredimagenet": 15,
            "paper": 90,
        },
        "own: passes over the images of the base classes",
        low=1,
    )
    batch_size: int = knob({"laptop": 64, "gpu": 128, "paper": 128}, "own: images per step", low=1)
    learning_rate: float = knob(0.05, "own: learning rate at its peak; it rises and falls once", low=0)
    weight_decay: float = knob(5e-4, "own: L2 penalty on all weights", low=0)
    jitter: float = knob(0.4, "own: strength of brightness, contrast and saturation jitter", low=0, high=1)
    flip: bool = knob(
        {
            "laptop": True,
            "gpu": True,
            "paper": True,
            **{f"{budget}/{name}": False for budget in BUDGETS for name in ("doublemnist", "omniglot")},
        },
        "own: random horizontal flip; characters have none",
    )
    precision: str = knob(
        {"laptop": "float32", "gpu": "bfloat16", "paper": "float32"},
        "own: arithmetic of the forward and backward pass",
        choices=("float32", "bfloat16"),
    )


@dataclass(frozen=True)
class EncodingConfig:
    """How images are described by that network."""

    normalise_by: str = knob(
        "dataset",
        "whose mean and standard deviation images are normalised by: the encoded data set's, as published, or those "
        "that the network was trained with",
        choices=("dataset", "network"),
    )
    images_per_batch: int = knob(256, "images per forward pass", low=1)


@dataclass(frozen=True)
class FeaturesConfig(EncodingConfig, FeatureNetConfig):
    """Both, a section of params.yaml."""
