"""Random search: distinct genotypes drawn from the space, ranked by their scores where they are given any.

The control that every search has to beat: the same space, the same recipe, no signal.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from pipeline.core.errors import CapabilityError
from pipeline.strategies import STRATEGIES
from pipeline.strategies.indicators import Indicator, Measured, mean, rank_sums, require_finite

TRIES_PER_ARCHITECTURE = 1000


@STRATEGIES.register("random_search")
class RandomSearch:
    """Ask for `n_architectures` distinct genotypes once; what is found comes in order of rank, or as drawn if unscored.

    Args:
        space: anything with `sample(generator)`, `to_text(genotype)` and `from_text(text)`.
        indicators: what the genotypes are ranked by; none for plain sampling.
        generator: where the draws come from.

    Raises CapabilityError when the space does not seem to hold that many genotypes.
    """

    needs: ClassVar[str] = "samples"

    def __init__(
        self,
        space,
        indicators: Sequence[Indicator] = (),
        generator: torch.Generator | None = None,
        *,
        n_architectures: int = 1,
    ):
        if generator is None:
            raise CapabilityError("Random search draws, so it needs a generator (see pipeline.core.rng.torch_stream).")
        self.space, self.indicators = space, tuple(indicators)
        self._texts = self._draw(n_architectures, generator)
        self.round = 0

    def _draw(self, n_architectures: int, generator: torch.Generator) -> list[str]:
        texts: dict[str, None] = {}
        for _ in range(TRIES_PER_ARCHITECTURE * n_architectures):
            if len(texts) == n_architectures:
                break
            texts.setdefault(self.space.to_text(self.space.sample(generator)))
        if len(texts) < n_architectures:
            raise CapabilityError(
                f"{n_architectures} distinct architectures were asked for, but only {len(texts)} turned up in "
                f"{TRIES_PER_ARCHITECTURE * n_architectures} draws from space '{self.space.name}'. Ask for fewer."
            )
        return list(texts)

    def ask(self) -> list:
        """All genotypes at first, nothing once they have been judged."""
        return [] if self.finished else [self.space.from_text(text) for text in self._texts]

    @property
    def finished(self) -> bool:
        return self.round > 0

    def sizes_left(self) -> list[int]:
        """Number of candidates of every question still to come."""
        return [] if self.finished else [len(self._texts)]

    def tell(self, measured: Mapping[str, Measured]) -> list:
        """Rank the genotypes by the sum of their ranks; one without a finite value comes last for that indicator.

        Raises ScoreError when an indicator has no finite value at all.
        """
        columns = []
        for item in self.indicators:
            means = [mean(row) for row in measured[item.name].values]
            require_finite(item.name, means)
            columns.append((means, item.higher_is_better))
        if columns:
            totals = rank_sums(columns)
            self._texts = [self._texts[i] for i in sorted(range(len(totals)), key=lambda i: totals[i])]
        self.round = 1
        return []

    def found(self) -> list:
        """The genotypes, best first."""
        return [self.space.from_text(text) for text in self._texts]

    def state_dict(self) -> dict[str, Any]:
        return {"texts": list(self._texts), "round": self.round}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._texts, self.round = list(state["texts"]), state["round"]
