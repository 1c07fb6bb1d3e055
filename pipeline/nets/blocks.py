"""What the hand-made backbones share."""

import torch
from torch import nn


class HalvingPool(nn.Module):
    """2x2 max pooling that leaves maps of a single row or column as they are, so that small images can be used."""

    def __init__(self):
        super().__init__()
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if min(x.shape[-2:]) < 2 else self.pool(x)
