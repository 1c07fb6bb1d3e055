"""ANIL: as MAML, but only the classifier adapts; the features are learned once for all tasks.

Raghu, Raghu, Bengio, Vinyals: "Rapid Learning or Feature Reuse? Towards Understanding the Effectiveness of MAML", ICLR
2020.
"""

from dataclasses import dataclass

from pipeline.core.config import with_default
from pipeline.methods import METHODS
from pipeline.recipes.adapted_settings import AdaptingConv4, GradientTraining


@dataclass(frozen=True)
class Learning(GradientTraining):
    """Knobs of MAML with an inner loop over the head alone."""

    adapts: str = with_default(GradientTraining, "adapts", "head")


@METHODS.register("anil")
class Anil(AdaptingConv4):
    """Second-order gradients, the head adapts."""

    Learning = Learning
