"""Conv-4, the four-block backbone of Matching Networks and Prototypical Networks (Vinyals 2016, Snell et al. 2017)."""

import torch
from torch import nn

from pipeline.core.errors import DataError
from pipeline.nets.blocks import HalvingPool
from pipeline.nets.drop_path import DropPath
from pipeline.nets.norm_pool import conv_norm_pool_relu, fits

N_BLOCKS = 4


class Conv4(nn.Module):
    """Four times 3x3 convolution, BatchNorm, ReLU, 2x2 max pooling; global average pool; linear classifier.

    The variant: all blocks of equal width (64 in the papers), convolutions without bias, and features that are averaged
    over the last map instead of flattened, so that their number does not depend on the size of the images.

    Attributes:
        drop_path: state every network has; a chain has no branch to drop, so it changes nothing here.
    """

    def __init__(self, *, n_classes: int, channels: int = 64, in_channels: int = 3):
        super().__init__()
        self.blocks = nn.Sequential(*(self._block(channels if i else in_channels, channels) for i in range(N_BLOCKS)))
        self.feature_dim = channels
        self.classifier = nn.Linear(channels, n_classes)
        self.drop_path = DropPath()

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """(n, feature_dim) from images (n, in_channels, h, w)."""
        return self.blocks(images).mean(dim=(2, 3))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (n, n_classes)."""
        return self.classifier(self.features(images))

    @staticmethod
    def _block(c_in: int, c_out: int) -> nn.Module:
        convolution = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(c_out), nn.ReLU(), HalvingPool())


class FlatBlock(nn.Sequential):
    """3x3 convolution with bias, BatchNorm, ReLU and 2x2 max pooling.

    ReLU and maximum commute, also in their gradients; after the pooling there is a quarter of the work.
    """

    def __init__(self, c_in: int, c_out: int):
        super().__init__(
            nn.Conv2d(c_in, c_out, 3, padding=1), nn.BatchNorm2d(c_out, eps=1e-3), HalvingPool(), nn.ReLU()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        convolution, norm, pool, relu = self
        if fits(norm, x):
            return conv_norm_pool_relu(convolution, norm, x)
        return relu(pool(norm(convolution(x))))


class Conv4Flat(nn.Module):
    """Conv-4 as in MAML and the meta-learner LSTM (Finn et al. 2017, Ravi and Larochelle 2017), for images of one size.

    Four times 3x3 convolution with bias, BatchNorm (eps 1e-3), ReLU, 2x2 max pooling; the last map flattened; linear
    classifier. With 32 channels, images of 84 pixels and 5 classes it has 32,901 parameters.

    Attributes:
        drop_path: state every network has; a chain has no branch to drop, so it changes nothing here.
    """

    def __init__(self, *, n_classes: int, image_size: int, channels: int = 32, in_channels: int = 3):
        super().__init__()
        self.image_size = image_size
        self.blocks = nn.Sequential(*(FlatBlock(channels if i else in_channels, channels) for i in range(N_BLOCKS)))
        self.feature_dim = channels * max(image_size // 2**N_BLOCKS, 1) ** 2
        self.classifier = nn.Linear(self.feature_dim, n_classes)
        self.drop_path = DropPath()

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """(n, feature_dim) from images (n, in_channels, image_size, image_size). Raises DataError for other sizes."""
        if images.shape[-2:] != (self.image_size, self.image_size):
            raise DataError(
                f"A network whose features are flattened was built for images of {self.image_size} x {self.image_size} "
                f"pixels and was given {images.shape[-2]} x {images.shape[-1]}. Build it with the images' `image_size`."
            )
        return self.blocks(images).flatten(1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (n, n_classes)."""
        return self.classifier(self.features(images))
