"""Conv-4 with flattened features as a space of one."""

from pipeline.nets.conv4 import N_BLOCKS, Conv4Flat
from pipeline.spaces import SPACES
from pipeline.spaces.single import SingleSpace


@SPACES.register("conv4_flat")
class Conv4FlatSpace(SingleSpace):
    """Four plain convolution blocks, for images of one size; `channels` is the width of all (32 in the papers)."""

    network = Conv4Flat
    blocks = ("conv_3x3 + pool",) * N_BLOCKS
    one_image_size = True
