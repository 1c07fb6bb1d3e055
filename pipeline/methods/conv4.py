"""Conv4: four convolutions, the oldest backbone of few-shot learning; nothing is searched.

Vinyals et al.: "Matching Networks for One Shot Learning", NeurIPS 2016.
"""

from pipeline.methods import METHODS
from pipeline.recipes.fixed import FixedMethod


@METHODS.register("conv4")
class Conv4(FixedMethod):
    """The hand-made baseline `conv4`."""

    architecture = "conv4"
