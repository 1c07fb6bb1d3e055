"""ANIL: as MAML, but only the classifier adapts; the features are learned once for all tasks.

Raghu, Raghu, Bengio, Vinyals: "Rapid Learning or Feature Reuse? Towards Understanding the Effectiveness of MAML", ICLR
2020.
"""

from dataclasses import dataclass

from pipeline.core.config import knob
from pipeline.methods import METHODS
from pipeline.recipes.adapted_settings import REFERENCES, GradientTraining
from pipeline.recipes.fixed import FixedConfig, only_architecture


@dataclass(frozen=True)
class Learning(GradientTraining):
    """Knobs of MAML with an inner loop over the head alone."""

    adapts: str = knob(
        "head",
        "what the steps move: all, the head (the last layer, `classifier`), or the weights (all but the alphas)",
        choices=("all", "head", "weights"),
    )


@METHODS.register("anil")
class Anil:
    """Second-order gradients, the head adapts."""

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
