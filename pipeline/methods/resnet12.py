"""ResNet12: a residual network of twelve layers, the usual backbone of few-shot learning; nothing is searched.

Tian et al.: "Rethinking Few-Shot Image Classification: a Good Embedding Is All You Need?", ECCV 2020.
"""

from pipeline.methods import METHODS
from pipeline.recipes.fixed import FixedMethod


@METHODS.register("resnet12")
class ResNet12(FixedMethod):
    """The hand-made baseline `resnet12`."""

    architecture = "resnet12"
