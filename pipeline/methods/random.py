"""Random control: architectures drawn from the space, trained and tested by the same recipe as those that were found.

What a search gains is the difference to these (Yang, Esperanca, Carlucci: "NAS evaluation is frustratingly hard",
ICLR 2020).
"""

from dataclasses import dataclass

from pipeline.core.config import knob
from pipeline.methods import METHODS
from pipeline.recipes.measuring import SPACE_BY_DATASET


@dataclass(frozen=True)
class Config:
    """Knobs of the random control."""

    space: str = knob(SPACE_BY_DATASET, "search space; the one of the method to compare with")
    n_architectures: int = knob({"laptop": 2, "gpu": 4, "paper": 4}, "distinct architectures drawn", low=1)


@METHODS.register("random")
class RandomControl:
    """Uniform draws from a space."""

    Config = Config

    @staticmethod
    def space(config: Config) -> str:
        return config.space

    @staticmethod
    def search(config: Config, context) -> list:
        """Distinct architectures; architecture i is trained with seed i."""
        from pipeline.recipes.drawn import draw_architectures

        return draw_architectures(config.space, config.n_architectures, context)
