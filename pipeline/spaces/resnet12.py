"""ResNet-12 as a space of one."""

from pipeline.nets.resnet12 import WIDTHS, ResNet12
from pipeline.spaces import SPACES
from pipeline.spaces.single import SingleSpace


@SPACES.register("resnet12")
class ResNet12Space(SingleSpace):
    """Four residual blocks; `channels` is the width of the first (64 in the papers)."""

    network = ResNet12
    blocks = ("residual block + pool",) * len(WIDTHS)
