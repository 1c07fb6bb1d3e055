"""MAML: a start of Conv-4 from which a few gradient steps adapt to a task.

Finn, Abbeel, Levine: "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML 2017. Nothing is
searched; all methods that adapt stand beside it.
"""

from pipeline.methods import METHODS
from pipeline.recipes.adapted_settings import AdaptingConv4


@METHODS.register("maml")
class Maml(AdaptingConv4):
    """Second-order gradients, all weights adapt."""
