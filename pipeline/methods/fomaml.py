"""First-order MAML: as MAML, but no derivative goes through the steps on the support set.

Finn, Abbeel, Levine: "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML 2017, section 5.2.
"""

from dataclasses import dataclass

from pipeline.core.config import knob
from pipeline.methods import METHODS
from pipeline.recipes.adapted_settings import REFERENCES, GradientTraining
from pipeline.recipes.fixed import FixedConfig, only_architecture


@dataclass(frozen=True)
class Learning(GradientTraining):
    """Knobs of MAML with the first-order gradient."""

    first_order: bool = knob(
        True, "take the gradient of the query loss at the adapted weights for that at the start: no second derivatives"
    )


@METHODS.register("fomaml")
class FirstOrderMaml:
    """First-order gradients, all weights adapt."""

    Config = FixedConfig
    Learning = Learning
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
