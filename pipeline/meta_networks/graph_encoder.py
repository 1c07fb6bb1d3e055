"""Architectures, as graphs with typed vertices, to vectors: a recurrent network along the edges, in both directions."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipeline.meta_networks.vertices import Messages, VertexCell
from pipeline.spaces.graph_form import GraphForm


class GraphEncoder(nn.Module):
    """H_v = GRU(type of v, sum of the messages of v's predecessors); once along the edges and once against them.

    Zhang et al., "D-VAE", NeurIPS 2019, equations 3 to 6 and section 3.2. All graphs share the form's edges, so that
    each vertex takes one step for the whole batch.
    """

    def __init__(self, form: GraphForm, hs: int):
        super().__init__()
        self.form = form
        self.cell, self.cell_back = VertexCell(form.n_types, hs), VertexCell(form.n_types, hs)
        self.messages, self.messages_back = Messages(hs, form.n_vertices), Messages(hs, form.n_vertices)
        self.unify = nn.Linear(2 * hs, hs)

    def forward(self, types: Tensor) -> Tensor:
        """One vector (b hs) for each graph, from types (b v). Raises GenotypeError for types of no architecture."""
        self.form.check(types)
        vertices = range(self.form.n_vertices)
        last = self._walk(types, vertices, self.form.predecessors, self.cell, self.messages)
        first = self._walk(types, vertices[::-1], self.form.successors, self.cell_back, self.messages_back)
        return self.unify(torch.cat([last, first], 1))

    @staticmethod
    def _walk(
        types: Tensor, order: Sequence[int], senders: Sequence[Sequence[int]], cell: VertexCell, messages: Messages
    ) -> Tensor:
        """The state (b hs) of the vertex that is visited last."""
        gates = cell.gates(types).unbind(1)
        sent: dict[int, Tensor] = {}
        for vertex in order:
            received = [sent[sender] for sender in senders[vertex]]
            state = cell(gates[vertex], sum(received[1:], received[0]) if received else None)
            if vertex != order[-1]:
                sent[vertex] = messages(state, vertex)
        return state
