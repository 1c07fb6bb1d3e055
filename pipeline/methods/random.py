"""Random control: architectures drawn from the space, trained and tested by the same recipe as those that were found.

What a search gains is the difference to these (Yang, Esperanca, Carlucci: "NAS evaluation is frustratingly hard",
ICLR 2020).
"""

from dataclasses import dataclass

from pipeline.core.config import knob
from pipeline.methods import METHODS
from pipeline.recipes.drawn import DrawnConfig, DrawnMethod
from pipeline.recipes.measuring import SPACE_BY_DATASET


@dataclass(frozen=True)
class Config(DrawnConfig):
    """Knobs of the random control."""

    space: str = knob(SPACE_BY_DATASET, "search space; the one of the method to compare with")


@METHODS.register("random")
class RandomControl(DrawnMethod):
    """Uniform draws from the space of a knob."""

    Config = Config

    @classmethod
    def space(cls, config: Config) -> str:
        return config.space
