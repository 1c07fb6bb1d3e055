"""The auxiliary classifier: a second one at two thirds of the depth, whose loss helps the cells before it to learn."""

import torch
from torch import nn

SQUEEZED, WIDE = 128, 768
SIDE = 2


class AuxiliaryHead(nn.Module):
    """Logits from the map of a cell in the middle (Szegedy et al., CVPR 2015; widths as in DARTS, ICLR 2019).

    ReLU, mean over a 2x2 grid of regions, 1x1 convolution to 128 channels, 2x2 convolution to 768, linear classifier;
    norm and ReLU behind both convolutions. DARTS pools over windows of five pixels with a stride of three (CIFAR) or
    two (ImageNet), which gives 2x2 for its two image sizes only; regions of a grid take maps of any size.
    """

    def __init__(self, channels: int, n_classes: int):
        super().__init__()
        self.squeeze = nn.Sequential(
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(SIDE),
            nn.Conv2d(channels, SQUEEZED, 1, bias=False),
            nn.BatchNorm2d(SQUEEZED),
            nn.ReLU(),
        )
        self.widen = nn.Sequential(nn.Conv2d(SQUEEZED, WIDE, SIDE, bias=False), nn.BatchNorm2d(WIDE), nn.ReLU())
        self.classifier = nn.Linear(WIDE, n_classes)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logits (n, n_classes) from a map (n, channels, h, w)."""
        return self.classifier(self.widen(self.squeeze(features)).flatten(1))
