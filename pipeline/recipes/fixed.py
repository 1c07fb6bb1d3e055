"""No search: an architecture made by hand, trained and tested by the same recipe as those that were found."""

from dataclasses import dataclass
from typing import ClassVar

from pipeline.core.config import knob
from pipeline.core.rng import torch_stream
from pipeline.strategies.runner import Found


@dataclass(frozen=True)
class FixedConfig:
    """Knobs of a hand-made baseline."""

    seeds: tuple[int, ...] = knob(
        {"laptop": (0,), "gpu": (0, 1, 2), "paper": (0, 1, 2)}, "the network is trained once per seed", low=0
    )


def only_architecture(space_name: str, config: FixedConfig) -> list[Found]:
    """The one architecture of a space of one, once per seed."""
    from pipeline import spaces

    space = spaces.get(space_name)()
    genotype = space.sample(torch_stream(0, "the only architecture"))
    return [Found(seed, genotype) for seed in config.seeds]


class FixedMethod:
    """A method that searches nothing; a subclass names `architecture`, a space of one."""

    Config = FixedConfig
    architecture: ClassVar[str]

    @classmethod
    def space(cls, config: FixedConfig) -> str:
        return cls.architecture

    @classmethod
    def search(cls, config: FixedConfig, context) -> list[Found]:
        """The one architecture, once per seed."""
        del context
        return only_architecture(cls.architecture, config)
