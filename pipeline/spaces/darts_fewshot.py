"""The few-shot cell space of MetaNTK-NAS (2022): three nodes a cell, factorised and depthwise 3x3 convolutions."""

from pipeline.spaces import SPACES
from pipeline.spaces.cell_space import CellSpace


@SPACES.register("darts_fewshot")
class DartsFewShot(CellSpace):
    """9 edges a cell, 7 operations and `none`; `conv_3x3` is depthwise separable."""

    n_nodes = 3
    operations = (
        "none",
        "skip_connect",
        "sep_conv_3x3",
        "dil_conv_3x3",
        "avg_pool_3x3BN",
        "max_pool_3x3BN",
        "conv_1x5_5x1",
        "conv_3x3",
    )
