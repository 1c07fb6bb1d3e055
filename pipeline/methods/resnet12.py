"""ResNet12: a residual network of twelve layers, the usual backbone of few-shot learning; nothing is searched.

Tian et al.: "Rethinking Few-Shot Image Classification: a Good Embedding Is All You Need?", ECCV 2020.
"""

from pipeline.methods import METHODS
from pipeline.recipes.fixed import FixedConfig, only_architecture


@METHODS.register("resnet12")
class ResNet12:
    """The hand-made baseline `resnet12`."""

    Config = FixedConfig

    @staticmethod
    def space(config: FixedConfig) -> str:
        return "resnet12"

    @staticmethod
    def search(config: FixedConfig, context) -> list:
        """The one architecture, once per seed."""
        return only_architecture("resnet12", config)
