"""The cell space of DARTS (Liu et al. 2019): four nodes a cell, separable and dilated convolutions, poolings."""

from pipeline.spaces import SPACES
from pipeline.spaces.cell_space import CellSpace


@SPACES.register("darts")
class Darts(CellSpace):
    """14 edges a cell, 7 operations and `none`."""

    n_nodes = 4
    operations = (
        "none",
        "skip_connect",
        "sep_conv_3x3",
        "sep_conv_5x5",
        "dil_conv_3x3",
        "dil_conv_5x5",
        "avg_pool_3x3",
        "max_pool_3x3",
    )
