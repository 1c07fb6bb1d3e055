"""Augmentation as the knobs of a training say it."""

import torch
from torch import Tensor

from pipeline.data import transforms
from pipeline.data.prepared import PreparedSet
from pipeline.evaluation.schedules import padding
from pipeline.evaluation.settings import TrainConfig


def augmented(images: Tensor, prepared: PreparedSet, config: TrainConfig, generator: torch.Generator) -> Tensor:
    """Augmented images of a set, uint8 or float32 in 0..255, shape (n h w c) as that of `images`."""
    return transforms.augment(
        images,
        generator,
        pad=padding(config, images.shape[1]),
        jitter=config.jitter,
        flip=config.flip,
        hue=config.hue,
        crop_scale=config.crop_scale,
        cutout_side=config.cutout,
        fill=prepared.mean,
    )
