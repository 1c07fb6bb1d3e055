"""ResNet-18 as torchvision defines it (He et al., CVPR 2016), a network that images are described by."""

import torch
from torch import nn

from pipeline.core.vision import torchvision
from pipeline.nets.drop_path import DropPath

FEATURE_DIM = 512


class ResNet18(nn.Module):
    """7x7 convolution of stride 2, 3x3 max pooling, four groups of two residual blocks, average pool, classifier.

    From images of 32 x 32 pixels the last group makes one pixel.

    Args:
        n_classes: outputs of the classifier; None for a network that only gives features.

    Attributes:
        body: everything before the classifier, its weights under torchvision's names.
        drop_path: state every network has; no branch here asks it.
    """

    feature_dim = FEATURE_DIM

    def __init__(self, *, n_classes: int | None = None):
        super().__init__()
        self.body = torchvision().models.resnet18(weights=None)
        self.body.fc = nn.Identity()
        self.classifier = nn.Identity() if n_classes is None else nn.Linear(FEATURE_DIM, n_classes)
        self.drop_path = DropPath()

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """(n, 512) from images (n, 3, h, w)."""
        return self.body(images)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (n, n_classes)."""
        return self.classifier(self.features(images))
