"""Conv-4 with flattened features as a space of one."""

from torch import nn

from pipeline.core.errors import ConfigError
from pipeline.nets.conv4 import N_BLOCKS, Conv4Flat
from pipeline.nets.init import construct
from pipeline.spaces import SPACES
from pipeline.spaces.single import SingleSpace


@SPACES.register("conv4_flat")
class Conv4FlatSpace(SingleSpace):
    """Four plain convolution blocks, for images of one size; `channels` is the width of all (32 in the papers)."""

    network = Conv4Flat
    blocks = ("conv_3x3 + pool",) * N_BLOCKS
    one_image_size = True

    def build(
        self,
        genotype: str,
        *,
        n_classes: int,
        channels: int,
        n_cells: int | None = None,
        in_channels: int = 3,
        stem: str = "plain",
        stem_multiplier: int = 1,
        auxiliary: bool = False,
        image_size: int | None = None,
    ) -> nn.Module:
        """The network for images of `image_size` pixels a side. Raises ConfigError without it."""
        del n_cells, stem, stem_multiplier, auxiliary
        self.from_text(genotype)
        if image_size is None:
            raise ConfigError(
                f"The space {self.name} builds networks for images of one size, and none was given. "
                "Pass `image_size`, the side of the images in pixels."
            )
        return construct(
            lambda: Conv4Flat(n_classes=n_classes, image_size=image_size, channels=channels, in_channels=in_channels)
        )
