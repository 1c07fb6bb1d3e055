"""Pruning by rank: cut a supernet down to one architecture, in every round the operations whose loss helps most.

The search of TE-NAS (Chen, Gong, Wang, ICLR 2021) and MetaNTK-NAS (Wang et al., CVPR 2022). All operations of all edges
are tried for removal, each indicator ranks the removals by the relative change they cause, the ranks are added, and
every edge loses its best `prune_number` removals at once. When each edge has one operation left, nodes with more than
two inputs lose edges in the same way.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch

from pipeline.core.errors import CapabilityError
from pipeline.strategies import STRATEGIES
from pipeline.strategies.indicators import Indicator, Measured, mean, rank_together, relative_changes


class Removal(NamedTuple):
    """A candidate: the supernet without one operation of one edge."""

    cell: int
    edge: int
    operation: int


@dataclass(frozen=True)
class Verdict:
    """What became of one candidate.

    Attributes:
        index: its place in the question.
        changes: relative change (origin - candidate) / origin by indicator, a number per repeat.
        rank: place in the common ranking of its round, 0 first.
        event: "pruned", "kept", "edge_pruned" or "edge_kept" (the last two in the edge-group phase).
        values: mean value of the candidate by indicator.
    """

    index: int
    candidate: Removal
    changes: Mapping[str, Sequence[float]]
    rank: int
    event: str
    values: Mapping[str, float]


def without(mask: torch.Tensor, removal: Removal) -> torch.Tensor:
    """A copy of the mask (cell edge op) in which one operation is off."""
    mask = mask.clone()
    mask[tuple(removal)] = False
    return mask


@STRATEGIES.register("prune_by_rank")
class PruneByRank:
    """Ask/tell pruning of a mask over (cell type, edge, operation).

    Args:
        space: anything with `full_mask()` (boolean, cell edge op), `edge_groups` (ranges of edges that end in one node;
            empty where nodes keep all their inputs) and `genotype_of(mask)`.
        indicators: what the candidates are ranked by; equal sums of ranks keep the order of the first.
        prune_number: operations that an edge loses per round; near the end as many as leave one.
        edges_per_group: inputs that a node keeps.

    The origin of each indicator's comparisons is the present mask. With `stale_origin_in_groups` an indicator's origin
    stays, during the edge-group phase, what it was when that phase began; within one group this shifts all changes
    alike, so only rounding and ties can differ.
    """

    needs: ClassVar[str] = "prunes"

    def __init__(
        self,
        space,
        indicators: Sequence[Indicator],
        generator: torch.Generator | None = None,
        *,
        prune_number: int = 1,
        edges_per_group: int = 2,
    ):
        del generator  # nothing is drawn
        if not indicators:
            raise CapabilityError("Pruning by rank needs at least one indicator to rank by.")
        self.space, self.indicators = space, tuple(indicators)
        self.prune_number, self.edges_per_group = prune_number, edges_per_group
        self.mask = space.full_mask().clone()
        self.round = 0
        self._n_groups_done = 0
        self._stale_mask = self.mask

    # ------------------------------------------------------------------ what is left to do
    def _single_path(self) -> bool:
        return bool((self.mask.sum(-1) <= 1).all())

    def _groups(self) -> list[tuple[int, range]]:
        """(cell type, edges) of every node that has to lose inputs."""
        wide = [range(*bounds) for bounds in self.space.edge_groups if bounds[1] - bounds[0] > self.edges_per_group]
        return [(cell, edges) for cell in range(len(self.mask)) for edges in wide]

    def _active(self, cell: int, edge: int) -> list[int]:
        return self.mask[cell, edge].nonzero().flatten().tolist()

    def ask(self) -> list[Removal]:
        """The removals to measure next, in index order; none when the search is over."""
        if not self._single_path():
            return [
                Removal(cell, edge, operation)
                for cell, edges in enumerate(self.mask.sum(-1).tolist())
                for edge, n_active in enumerate(edges)
                if n_active > 1
                for operation in self._active(cell, edge)
            ]
        groups = self._groups()
        if self._n_groups_done == len(groups):
            return []
        cell, edges = groups[self._n_groups_done]
        return [Removal(cell, edge, operation) for edge in edges for operation in self._active(cell, edge)]

    @property
    def finished(self) -> bool:
        return not self.ask()

    def sizes_left(self) -> list[int]:
        """Number of candidates of every question still to come, this one included."""
        n_active, sizes = self.mask.sum(-1), []
        while (n_active > 1).any():
            sizes.append(int(n_active[n_active > 1].sum()))
            quota = self._quota(int(n_active[0, 0]))
            n_active = torch.where(n_active > 1, (n_active - quota).clamp(min=1), n_active)
        return sizes + [len(edges) for _, edges in self._groups()[self._n_groups_done :]]

    def _quota(self, n_active_first: int) -> int:
        return max(1, min(self.prune_number, n_active_first - 1))

    def origin(self, indicator: str) -> torch.Tensor:
        """The mask that `indicator` compares the present candidates with."""
        stale = {item.name for item in self.indicators if item.stale_origin_in_groups}
        return self._stale_mask if indicator in stale and self._single_path() else self.mask

    def masked(self, removal: Removal) -> torch.Tensor:
        """The mask of a candidate."""
        return without(self.mask, removal)

    # ------------------------------------------------------------------ learning the answers
    def tell(self, measured: Mapping[str, Measured]) -> list[Verdict]:
        """Prune after all candidates of `ask()` have been measured.

        Args:
            measured: per indicator the values of the candidates, in the order of `ask()`, and of their origins.

        Returns what became of each candidate, in the order in which they were ranked. A candidate without a finite
        value ranks last for that indicator. Raises ScoreError when an indicator has no finite value at all.
        """
        candidates, in_groups = self.ask(), self._single_path()
        changes = {item.name: relative_changes(measured[item.name], item.name) for item in self.indicators}
        order, _ = rank_together((changes[item.name].means(), not item.higher_is_better) for item in self.indicators)
        ranked = [candidates[i] for i in order]
        pruned = set(ranked[: -self.edges_per_group] if in_groups else self._first_of_each_edge(ranked))
        verdicts = [
            Verdict(
                index=i,
                candidate=candidates[i],
                changes={name: one.rows[i] for name, one in changes.items()},
                rank=rank,
                event=("edge_" if in_groups else "") + ("pruned" if candidates[i] in pruned else "kept"),
                values={name: mean(one.values[i]) for name, one in measured.items()},
            )
            for rank, i in enumerate(order)
        ]
        self._prune(pruned, in_groups)
        return verdicts

    def _first_of_each_edge(self, ranked: Sequence[Removal]) -> Iterator[Removal]:
        quota = self._quota(int(self.mask[0, 0].sum()))
        left = {(c, e): min(quota, len(self._active(c, e)) - 1) for c, e, _ in ranked}
        for removal in ranked:
            if left[removal[:2]] > 0:
                left[removal[:2]] -= 1
                yield removal

    def _prune(self, removals: set[Removal], in_groups: bool) -> None:
        mask = self.mask.clone()
        for removal in removals:
            mask[tuple(removal)] = False
        self.mask = mask
        self.round += 1
        if in_groups:
            self._n_groups_done += 1
        else:
            self._stale_mask = mask

    def found(self) -> list:
        """The genotype of the present mask; final once the search is over."""
        return [self.space.genotype_of(self.mask)]

    # ------------------------------------------------------------------ leaving and coming back
    def state_dict(self) -> dict[str, Any]:
        return {
            "mask": self.mask,
            "stale_mask": self._stale_mask,
            "round": self.round,
            "n_groups_done": self._n_groups_done,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.mask, self._stale_mask = state["mask"].clone(), state["stale_mask"].clone()
        self.round, self._n_groups_done = state["round"], state["n_groups_done"]
