"""First-order MAML: as MAML, but no derivative goes through the steps on the support set.

Finn, Abbeel, Levine: "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML 2017, section 5.2.
"""

from dataclasses import dataclass

from pipeline.core.config import with_default
from pipeline.methods import METHODS
from pipeline.recipes.adapted_settings import AdaptingConv4, GradientTraining


@dataclass(frozen=True)
class Learning(GradientTraining):
    """Knobs of MAML with the first-order gradient."""

    first_order: bool = with_default(GradientTraining, "first_order", True)


@METHODS.register("fomaml")
class FirstOrderMaml(AdaptingConv4):
    """First-order gradients, all weights adapt."""

    Learning = Learning
