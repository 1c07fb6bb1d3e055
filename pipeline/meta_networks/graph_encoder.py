"""Architectures, as graphs with typed vertices, to vectors: a recurrent network along the edges, in both directions."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from pipeline.meta_networks.messages import Messages
from pipeline.spaces.graph_form import GraphForm


class GraphEncoder(nn.Module):
    """H_v = GRU(type of v, sum of the messages of v's predecessors); once along the edges and once against them.

    Zhang et al., "D-VAE", NeurIPS 2019, equations 3 to 6 and section 3.2. All graphs share the form's edges, so that
    each vertex takes one step for the whole batch.
    """

    def __init__(self, form: GraphForm, hs: int):
        super().__init__()
        self.form = form
        self.cell, self.cell_back = nn.GRUCell(form.n_types, hs), nn.GRUCell(form.n_types, hs)
        self.messages, self.messages_back = Messages(hs, form.n_vertices), Messages(hs, form.n_vertices)
        self.unify = nn.Linear(2 * hs, hs)

    def forward(self, types: Tensor) -> Tensor:
        """One vector (b hs) for each graph, from types (b v). Raises GenotypeError for types of no architecture."""
        self.form.check(types)
        kinds, vertices = one_hot(types, self.form.n_types).to(self.unify.weight.dtype), range(self.form.n_vertices)
        last = self._walk(kinds, vertices, self.form.predecessors, self.cell, self.messages)
        first = self._walk(kinds, reversed(vertices), self.form.successors, self.cell_back, self.messages_back)
        return self.unify(torch.cat([last, first], 1))

    @staticmethod
    def _walk(
        kinds: Tensor, order: Iterable[int], senders: Sequence[Sequence[int]], cell: nn.GRUCell, messages: Messages
    ) -> Tensor:
        """The state (b hs) of the vertex that is visited last."""
        sent: dict[int, Tensor] = {}
        for vertex in order:
            received = torch.stack([sent[sender] for sender in senders[vertex]]).sum(0) if senders[vertex] else None
            state = cell(kinds[:, vertex], received)
            sent[vertex] = messages(state, vertex)
        return state
