"""Random architectures of T-NAS's space, each with a start that is meta-learned as those that T-NAS decodes.

The control of T-NAS and Auto-MAML: what their searches gain is the difference to these.
"""

from dataclasses import dataclass

from pipeline.core.config import knob
from pipeline.methods import METHODS
from pipeline.recipes.adapted_settings import REFERENCES, CellTraining


@dataclass(frozen=True)
class Config:
    """Knobs of the random control."""

    n_architectures: int = knob({"laptop": 2, "gpu": 4, "paper": 4}, "distinct architectures drawn", low=1)


@METHODS.register("randomtnas")
class RandomTNas:
    """Uniform draws from the space `tnas`."""

    Config = Config
    Learning = CellTraining
    learner = "gradient"
    control = "maml"
    references = REFERENCES

    @staticmethod
    def space(config: Config) -> str:
        return "tnas"

    @staticmethod
    def search(config: Config, context) -> list:
        """Distinct architectures; architecture i is meta-learned with seed i."""
        from pipeline.recipes.drawn import draw_architectures

        return draw_architectures("tnas", config.n_architectures, context)
