"""No search: architectures drawn uniformly from a space, as controls of those that are found in it."""

from dataclasses import dataclass
from typing import ClassVar

from pipeline.core.config import knob
from pipeline.core.rng import torch_stream
from pipeline.strategies.runner import Context, Found


@dataclass(frozen=True)
class DrawnConfig:
    """Knobs of a random control."""

    n_architectures: int = knob({"laptop": 2, "gpu": 4, "paper": 4}, "distinct architectures drawn", low=1)


def draw_architectures(space_name: str, n: int, context: Context) -> list[Found]:
    """`n` distinct architectures of a space, the first with seed 0; the run's seed decides which."""
    from pipeline import spaces, strategies

    strategy = strategies.get("random_search")(
        spaces.get(space_name)(),
        generator=torch_stream(context.seed, "random architectures"),
        n_architectures=n,
    )
    return [Found(seed, genotype) for seed, genotype in enumerate(strategy.found())]


class DrawnMethod:
    """A method that draws from one space, whatever it is asked for; a subclass names it, or takes it from a knob."""

    Config = DrawnConfig
    drawn_from: ClassVar[str]

    @classmethod
    def space(cls, config: DrawnConfig) -> str:
        return cls.drawn_from

    @classmethod
    def search(cls, config: DrawnConfig, context) -> list[Found]:
        """Distinct architectures; architecture i is trained with seed i."""
        return draw_architectures(cls.space(config), config.n_architectures, context)
