"""Conv4: four convolutions, the oldest backbone of few-shot learning; nothing is searched.

Vinyals et al.: "Matching Networks for One Shot Learning", NeurIPS 2016.
"""

from pipeline.methods import METHODS
from pipeline.recipes.fixed import FixedConfig, only_architecture


@METHODS.register("conv4")
class Conv4:
    """The hand-made baseline `conv4`."""

    Config = FixedConfig

    @staticmethod
    def space(config: FixedConfig) -> str:
        return "conv4"

    @staticmethod
    def search(config: FixedConfig, context) -> list:
        """The one architecture, once per seed."""
        return only_architecture("conv4", config)
