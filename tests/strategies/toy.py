"""A space and a score small enough to know the answer: one cell, three edges, four operations, a separable quality."""

import itertools

import torch

from pipeline.strategies.indicators import Indicator, Measured
from pipeline.strategies.prune_by_rank import Removal

QUALITY = torch.tensor([[0.0, 5.0, 1.0, 3.0], [0.0, 2.0, 9.0, 4.0], [0.0, 3.0, 1.0, 8.0]])
BEST = (1, 2, 3)
INDICATOR = Indicator("quality", higher_is_better=True)


class ToySpace:
    """Genotypes are tuples with one operation (1, 2 or 3) for each of three edges."""

    name = "toy"
    operations = ("none", "a", "b", "c")
    cell_types = ("normal",)
    edge_groups = ()
    capabilities = frozenset({"samples", "mutates", "prunes", "policy"})

    def full_mask(self) -> torch.Tensor:
        mask = torch.ones(1, 3, 4, dtype=torch.bool)
        mask[..., 0] = False
        return mask

    def genotype_of(self, mask: torch.Tensor) -> tuple[int, ...]:
        return tuple(mask[0].int().argmax(-1).tolist())

    def is_connected(self, genotype: tuple[int, ...]) -> bool:
        return 0 not in genotype

    def sample(self, generator: torch.Generator) -> tuple[int, ...]:
        return tuple(torch.randint(1, 4, (3,), generator=generator).tolist())

    def mutate(self, genotype: tuple[int, ...], generator: torch.Generator) -> tuple[int, ...]:
        edge, step = (int(torch.randint(high, (), generator=generator)) for high in (3, 2))
        changed = list(genotype)
        changed[edge] = 1 + (changed[edge] + step) % 3
        return tuple(changed)

    policy_shapes = ((3, 3),)

    def sample_from_policy(self, logits, generator):
        chosen = torch.multinomial(logits[0].detach().softmax(-1), 1, generator=generator)
        genotype = tuple((chosen.flatten() + 1).tolist())
        return genotype, logits[0].log_softmax(-1).gather(1, chosen).sum()

    def decode_policy(self, logits) -> tuple[int, ...]:
        return tuple((logits[0].argmax(-1) + 1).tolist())

    def to_text(self, genotype: tuple[int, ...]) -> str:
        return "-".join(map(str, genotype))

    def from_text(self, text: str) -> tuple[int, ...]:
        return tuple(map(int, text.split("-")))

    def everything(self) -> list[tuple[int, ...]]:
        return list(itertools.product((1, 2, 3), repeat=3))


def quality_of_mask(mask: torch.Tensor) -> float:
    """Mean quality of the active operations of each edge, added over edges, above a constant."""
    return 10 + float((QUALITY * mask[0]).sum(-1).div(mask[0].sum(-1)).sum())


def quality_of(genotype: tuple[int, ...]) -> float:
    return 10 + float(sum(QUALITY[edge, operation] for edge, operation in enumerate(genotype)))


def answer(strategy) -> dict[str, Measured]:
    """The toy score for whatever the strategy asks about."""
    candidates = strategy.ask()
    if isinstance(candidates[0], Removal):
        values = [[quality_of_mask(strategy.masked(one))] for one in candidates]
        return {"quality": Measured(values, origins=[[quality_of_mask(strategy.origin("quality"))]])}
    return {"quality": Measured([[quality_of(one)] for one in candidates])}


KNOBS = {
    "random_search": {"n_architectures": 27},
    "generate_and_rank": {"n_candidates": 27, "n_at_once": 5},
    "regularised_evolution": {"population_size": 8, "tournament_size": 4, "n_cycles": 40},
    "reinforce": {"n_steps": 150},
}


def start(name: str, seed: int = 0):
    """A fresh strategy on the toy space, with as many evaluations as it needs to know the optimum."""
    from pipeline import strategies

    generator = torch.Generator().manual_seed(seed)
    return strategies.get(name)(ToySpace(), [INDICATOR], generator, **KNOBS.get(name, {}))


def trace(name: str, seed: int = 0) -> list[str]:
    """Everything a search asks, and what it finds, as text."""
    strategy, lines = start(name, seed), []
    while not strategy.finished:
        lines.append(str(strategy.ask()))
        strategy.tell(answer(strategy))
    return [*lines, str(strategy.found())]
