"""Regularised evolution: a population in which the oldest dies, whatever its worth (Real et al., AAAI 2019).

With several indicators members are compared by the sum of their ranks, as in TEG-NAS (Chen et al., 2021).
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from pipeline.core.errors import CapabilityError, ConfigError
from pipeline.strategies import STRATEGIES
from pipeline.strategies.indicators import Indicator, Measured, best_by_ranks, mean, require_finite

CHOICES = ("population", "history")


@STRATEGIES.register("regularised_evolution")
class RegularisedEvolution:
    """Ask for a random population, then for one child a cycle: the mutation of the best of a tournament.

    Args:
        space: anything with `sample`, `mutate`, `to_text` and `from_text`.
        indicators: what members are compared by.
        generator: where all draws come from.
        population_size: members; the child of a cycle takes the place of the oldest.
        tournament_size: members drawn without replacement, of which the best becomes the parent.
        n_cycles: children in all.
        choose_from: what is found is the best of the last "population", as published, or of the whole "history".

    Raises CapabilityError without a generator or indicators, ConfigError for sizes that do not fit together.
    """

    needs: ClassVar[str] = "mutates"

    def __init__(
        self,
        space,
        indicators: Sequence[Indicator],
        generator: torch.Generator | None = None,
        *,
        population_size: int = 256,
        tournament_size: int = 64,
        n_cycles: int = 1000,
        choose_from: str = "population",
    ):
        if generator is None or not indicators:
            raise CapabilityError("Evolution needs a generator to draw from and at least one indicator to compare by.")
        if not 1 <= tournament_size <= population_size:
            raise ConfigError(
                f"The tournament has {tournament_size} members and the population {population_size}; a tournament has "
                "at least one, and no more than the population."
            )
        if choose_from not in CHOICES:
            raise ConfigError(f"choose_from is '{choose_from}'; allowed are {', '.join(CHOICES)}.")
        self.space, self.indicators, self.generator = space, tuple(indicators), generator
        self.population_size, self.tournament_size, self.n_cycles = population_size, tournament_size, n_cycles
        self.choose_from = choose_from
        self.round = 0
        self._texts: list[str] = []
        self._values: dict[str, list[float]] = {item.name: [] for item in self.indicators}
        self._asked = [space.to_text(space.sample(generator)) for _ in range(population_size)]

    @property
    def finished(self) -> bool:
        return self.round > self.n_cycles

    def ask(self) -> list:
        """The first population, then one child a cycle; the same genotype may be asked for more than once."""
        return [] if self.finished else [self.space.from_text(text) for text in self._asked]

    def sizes_left(self) -> list[int]:
        """Number of candidates of every question still to come, this one included."""
        sizes = [self.population_size, *[1] * self.n_cycles]
        return sizes[self.round :]

    def tell(self, measured: Mapping[str, Measured]) -> list:
        """Take in the values of what was asked for and, unless it was the last cycle, breed the next child.

        Raises ScoreError when an indicator has no finite value for any member of the first population.
        """
        for item in self.indicators:
            values = [mean(row) for row in measured[item.name].values]
            if not self._texts:
                require_finite(item.name, values)
            self._values[item.name] += values
        self._texts += self._asked
        self.round += 1
        self._asked = [] if self.finished else [self._child()]
        return []

    def _child(self) -> str:
        alive = range(len(self._texts) - self.population_size, len(self._texts))
        drawn = torch.randperm(len(alive), generator=self.generator)[: self.tournament_size].tolist()
        parent = self._best([alive[i] for i in drawn])
        return self.space.to_text(self.space.mutate(self.space.from_text(self._texts[parent]), self.generator))

    def _best(self, members: Sequence[int]) -> int:
        columns = [([self._values[item.name][i] for i in members], item.higher_is_better) for item in self.indicators]
        return members[best_by_ranks(columns)]

    def found(self) -> list:
        """The best genotype."""
        first = max(0, len(self._texts) - self.population_size) if self.choose_from == "population" else 0
        return [self.space.from_text(self._texts[self._best(range(first, len(self._texts)))])]

    # ------------------------------------------------------------------ leaving and coming back
    def state_dict(self) -> dict[str, Any]:
        return {
            "texts": list(self._texts),
            "values": {name: list(values) for name, values in self._values.items()},
            "asked": list(self._asked),
            "round": self.round,
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._texts, self._asked, self.round = list(state["texts"]), list(state["asked"]), state["round"]
        self._values = {name: list(values) for name, values in state["values"].items()}
        self.generator.set_state(state["generator"])
