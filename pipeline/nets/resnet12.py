"""ResNet-12, the common strong backbone of few-shot learning (Lee et al. 2019; Tian et al. 2020)."""

import itertools

import torch
from torch import nn

from pipeline.nets.blocks import HalvingPool
from pipeline.nets.drop_path import DropPath

WIDTHS = (1.0, 2.5, 5.0, 10.0)
"""Widths of the four blocks as multiples of the first: 64, 160, 320, 640."""


class ResidualBlock(nn.Module):
    """Three 3x3 convolutions with BatchNorm, a 1x1 convolution with BatchNorm beside them, sum, LeakyReLU, 2x2 pool."""

    def __init__(self, c_in: int, c_out: int, drop_path: DropPath):
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(3):
            layers += [nn.Conv2d(c_out if i else c_in, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out)]
            layers += [nn.LeakyReLU(0.1)] if i < 2 else []
        self.branch = nn.Sequential(*layers)
        self.shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out))
        self.drop_path = drop_path
        self.activation = nn.LeakyReLU(0.1)
        self.pool = HalvingPool()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pool(self.activation(self.drop_path(self.branch(x)) + self.shortcut(x)))


class ResNet12(nn.Module):
    """Four residual blocks of three convolutions each; global average pool; linear classifier.

    The variant: widths 64-160-320-640 (scaled with `channels`), LeakyReLU of slope 0.1, max pooling after every block,
    as in RFS (Tian et al. 2020); instead of their DropBlock, drop path on the residual branches.

    Attributes:
        drop_path: one state for all residual branches.
    """

    def __init__(self, *, n_classes: int, channels: int = 64, in_channels: int = 3):
        super().__init__()
        self.drop_path = DropPath()
        widths = [in_channels, *(round(channels * width) for width in WIDTHS)]
        self.blocks = nn.Sequential(
            *(ResidualBlock(c_in, c_out, self.drop_path) for c_in, c_out in itertools.pairwise(widths))
        )
        self.feature_dim = widths[-1]
        self.classifier = nn.Linear(self.feature_dim, n_classes)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """(n, feature_dim) from images (n, in_channels, h, w)."""
        return self.blocks(images).mean(dim=(2, 3))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (n, n_classes)."""
        return self.classifier(self.features(images))
