"""Conv-4 as a space of one."""

from pipeline.nets.conv4 import N_BLOCKS, Conv4
from pipeline.spaces import SPACES
from pipeline.spaces.single import SingleSpace


@SPACES.register("conv4")
class Conv4Space(SingleSpace):
    """Four plain convolution blocks; `channels` is the width of all of them (64 in the papers)."""

    network = Conv4
    blocks = ("conv_3x3 + pool",) * N_BLOCKS
