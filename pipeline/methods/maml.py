"""MAML: a start of Conv-4 from which a few gradient steps adapt to a task.

Finn, Abbeel, Levine: "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML 2017. Nothing is
searched; all methods that adapt stand beside it.
"""

from pipeline.methods import METHODS
from pipeline.recipes.adapted_settings import REFERENCES, GradientTraining
from pipeline.recipes.fixed import FixedConfig, only_architecture


@METHODS.register("maml")
class Maml:
    """Second-order gradients, all weights adapt."""

    Config = FixedConfig
    Learning = GradientTraining
    learner = "gradient"
    control = "maml"
    references = REFERENCES

    @staticmethod
    def space(config: FixedConfig) -> str:
        return "conv4_flat"

    @staticmethod
    def search(config: FixedConfig, context) -> list:
        """The one architecture, once per seed."""
        return only_architecture("conv4_flat", config)
