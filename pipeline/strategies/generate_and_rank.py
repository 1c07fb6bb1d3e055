"""Let something propose architectures until there are enough different usable ones, then rank them by what is measured.

MetaD2A (Lee et al., ICLR 2021) searches so: a generator proposes, a predictor measures. Whoever proposes,
architectures through which no image reaches the classifier are left out: that is seen without measuring.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch

from pipeline.core.errors import CapabilityError
from pipeline.strategies import STRATEGIES
from pipeline.strategies.indicators import Indicator, Measured, mean, rank_sums, require_finite

PROPOSALS_PER_CANDIDATE = 1000
COUNTS = ("n_proposed", "n_valid", "n_connected")
Propose = Callable[[int, torch.Generator], Sequence[Any]]


@STRATEGIES.register("generate_and_rank")
class GenerateAndRank:
    """Ask once, for `n_candidates` distinct genotypes; what is found comes in order of their ranks, the best first.

    Args:
        space: anything with `to_text(genotype)`, `from_text(text)` and `is_connected(genotype)`, and
            `sample(generator)` where nothing else proposes.
        indicators: what the genotypes are ranked by.
        generator: of the draws.
        n_candidates: how many are asked for.
        n_at_once: proposals made together; the last ones are thrown away when there are enough.
        propose: gives so many proposals, drawn from the generator: genotypes, and None for what is no genotype; None
            draws uniformly from the space.

    Attributes:
        n_proposed: proposals looked at, up to the one that made enough.
        n_valid: those that were genotypes.
        n_connected: those of them that are connected; `n_candidates` of these were different.

    Raises CapabilityError when not that many different genotypes turn up.
    """

    needs: ClassVar[str] = "samples"

    def __init__(
        self,
        space,
        indicators: Sequence[Indicator],
        generator: torch.Generator,
        *,
        n_candidates: int = 50,
        n_at_once: int = 100,
        propose: Propose | None = None,
    ):
        self.space, self.indicators = space, tuple(indicators)
        self.n_proposed = self.n_valid = self.n_connected = self.round = 0
        self._texts = self._collect(propose or self._sample, n_candidates, n_at_once, generator)

    def _sample(self, n: int, generator: torch.Generator) -> list[Any]:
        return [self.space.sample(generator) for _ in range(n)]

    def _collect(self, propose: Propose, n_candidates: int, n_at_once: int, generator: torch.Generator) -> list[str]:
        texts: dict[str, None] = {}
        most = PROPOSALS_PER_CANDIDATE * n_candidates
        while self.n_proposed < most:
            for genotype in propose(n_at_once, generator):
                self.n_proposed += 1
                if genotype is not None:
                    self.n_valid += 1
                    if self.space.is_connected(genotype):
                        self.n_connected += 1
                        texts.setdefault(self.space.to_text(genotype))
                if len(texts) == n_candidates:
                    return list(texts)
        raise CapabilityError(
            f"{n_candidates} different architectures were asked for, but only {len(texts)} turned up in "
            f"{self.n_proposed} proposals, {self.n_valid} of them valid and {self.n_connected} connected. Ask for "
            "fewer, or train what proposes longer."
        )

    def ask(self) -> list:
        """All candidates at first, in the order proposed, nothing once they have been judged."""
        return [] if self.finished else [self.space.from_text(text) for text in self._texts]

    @property
    def finished(self) -> bool:
        return self.round > 0

    def sizes_left(self) -> list[int]:
        """Number of candidates of every question still to come."""
        return [] if self.finished else [len(self._texts)]

    def tell(self, measured: Mapping[str, Measured]) -> list[int]:
        """Rank the candidates by the sum of their ranks over the indicators, each by its mean over repeats.

        Returns each candidate's place, 0 for the best; equal ones keep the order proposed. Raises ScoreError when no
        candidate has a finite value by some indicator.
        """
        columns = []
        for item in self.indicators:
            means = [mean(row) for row in measured[item.name].values]
            require_finite(item.name, means)
            columns.append((means, item.higher_is_better))
        totals = rank_sums(columns)
        order = sorted(range(len(totals)), key=totals.__getitem__)
        self._texts = [self._texts[i] for i in order]
        self.round = 1
        places = {i: place for place, i in enumerate(order)}
        return [places[i] for i in range(len(order))]

    def found(self) -> list:
        """The genotypes, best first."""
        return [self.space.from_text(text) for text in self._texts]

    def state_dict(self) -> dict[str, Any]:
        counts = {name: getattr(self, name) for name in COUNTS}
        return {"texts": list(self._texts), "round": self.round, **counts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._texts, self.round = list(state["texts"]), state["round"]
        for name in COUNTS:
            setattr(self, name, state[name])
