"""A latent vector to a graph, vertex by vertex and edge by edge; and how likely it writes a given graph."""

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, linear

from pipeline.meta_networks.vertices import Messages, VertexCell
from pipeline.spaces.graph_form import GraphForm


class GraphDecoder(nn.Module):
    """Writes graphs one vertex at a time: first the vertex's type, then its edges from the nearest vertex to the first.

    The state of the vertex written last tells the next type; the states of two vertices tell whether an edge joins
    them; every edge changes the state of the vertex it leads to (Zhang et al., "D-VAE", NeurIPS 2019, section 3.3).
    """

    def __init__(self, form: GraphForm, hs: int, nz: int):
        super().__init__()
        self.form = form
        self.begin = nn.Linear(nz, hs)
        self.cell = VertexCell(form.n_types, hs)
        self.messages = Messages(hs, form.n_vertices)
        self.type_head = nn.Sequential(nn.Linear(hs, 2 * hs), nn.ReLU(), nn.Linear(2 * hs, form.n_types))
        self.edge_head = nn.Sequential(nn.Linear(2 * hs, 4 * hs), nn.ReLU(), nn.Linear(4 * hs, 1))

    def surprise(self, z: Tensor, types: Tensor) -> Tensor:
        """Minus the log-probability of each graph, every decision given the true ones before it (teacher forcing).

        The topology is the form's. So the states that a vertex passes through as its edges come in are known sums of
        messages, and come from one step for all its edges and the whole batch; all edges, and all types, are then
        scored at once.

        Args:
            z: latent vectors, shape (b nz).
            types: of the vertices, shape (b v).

        Returns:
            shape (b,): the sum over the types of all vertices but the first and over all pairs of vertices. Raises
            GenotypeError for types of no architecture.
        """
        self.form.check(types)
        gates = self.cell.gates(types).unbind(1)
        final = [self._first_state(z)]
        sent, passed, places, joined = [self.messages(final[0], 0)], [], [], []
        for vertex in range(1, self.form.n_vertices):
            senders = self.form.predecessors[vertex]
            received = torch.stack([torch.zeros_like(sent[0]), *(sent[sender] for sender in senders)]).cumsum(0)
            states = self.cell(gates[vertex].expand(len(received), -1, -1), received)
            for source in reversed(range(vertex)):
                places.append((source, len(passed) + sum(sender > source for sender in senders)))
                joined.append(source in senders)
            passed += states.unbind()
            final.append(states[-1])
            sent.append(self.messages(final[-1], vertex))
        sources, targets = torch.tensor(places, device=z.device).T
        as_source, as_target = self._as_source(torch.stack(final[:-1])), self._as_target(torch.stack(passed))
        edges = self._edge_logits(as_source[sources], as_target[targets])
        truth = edges.new_tensor(joined)[:, None].expand_as(edges)
        of_edges = binary_cross_entropy_with_logits(edges, truth, reduction="none").sum(0)
        logits = self.type_head(torch.stack(final[:-1], 1))
        return of_edges + cross_entropy(logits.transpose(1, 2), types[:, 1:], reduction="none").sum(1)

    @torch.no_grad()
    def write(self, z: Tensor, draws: Tensor | None) -> tuple[Tensor, Tensor]:
        """Graphs written from latent vectors, all at once.

        Whatever is written at the last vertex's place is an end; an end is joined by all vertices that lead nowhere,
        and nothing follows it.

        Args:
            z: latent vectors, shape (b nz).
            draws: uniform numbers in [0, 1), shape (b v v+1), which alone decide: [:, v, 0] the type of vertex v by
                its cumulative probabilities, [:, v, 1 + u] whether an edge leads from u to v. None writes the
                likeliest type, and edges more likely than not.

        Returns:
            types, long (b v), starts where nothing is written after an early end, and adjacency, boolean (b v v), true
            at [u, v] for an edge from u to v.
        """
        form, b = self.form, len(z)
        types = torch.full((b, form.n_vertices), form.start, device=z.device)
        adjacency = torch.zeros(b, form.n_vertices, form.n_vertices, dtype=torch.bool, device=z.device)
        state = self._first_state(z)
        as_source, sent = [self._as_source(state)], [self.messages(state, 0)]
        is_open = torch.ones(b, dtype=torch.bool, device=z.device)
        for vertex in range(1, form.n_vertices):
            if vertex == form.n_vertices - 1:
                kind = torch.full_like(types[:, 0], form.end)
            else:
                kind = self._choose_type(state, None if draws is None else draws[:, vertex, 0])
            types[:, vertex] = kind.where(is_open, form.start)
            ends = is_open & (kind == form.end)
            leads_nowhere = ~adjacency[:, :vertex].any(2)
            adjacency[:, :vertex, vertex] = leads_nowhere & ends[:, None]
            is_open &= ~ends
            if vertex == form.n_vertices - 1:
                break
            gates = self.cell.gates(kind)
            state, received = self.cell(gates, None), torch.zeros_like(sent[0])
            for source in reversed(range(vertex)):
                logit = self._edge_logits(as_source[source], self._as_target(state))
                joins = is_open & ((logit > 0) if draws is None else (draws[:, vertex, 1 + source] < logit.sigmoid()))
                adjacency[:, source, vertex] |= joins
                if joins.any():
                    received = torch.addcmul(received, sent[source], joins[:, None].to(received))
                    state = self.cell(gates, received)
            as_source.append(self._as_source(state))
            sent.append(self.messages(state, vertex))
        return types, adjacency

    def _first_state(self, z: Tensor) -> Tensor:
        kinds = torch.full((len(z),), self.form.start, device=z.device)
        return self.cell(self.cell.gates(kinds), self.begin(z).tanh())

    def _as_source(self, states: Tensor) -> Tensor:
        """The share of a source's state in the hidden layer of the edge head; computed once for all its edges."""
        return linear(states, self.edge_head[0].weight[:, : states.shape[-1]], self.edge_head[0].bias)

    def _as_target(self, states: Tensor) -> Tensor:
        return linear(states, self.edge_head[0].weight[:, states.shape[-1] :])

    def _edge_logits(self, as_source: Tensor, as_target: Tensor) -> Tensor:
        _, activation, last = self.edge_head
        return last(activation(as_source + as_target)).squeeze(-1)

    def _choose_type(self, states: Tensor, draws: Tensor | None) -> Tensor:
        logits = self.type_head(states)
        if draws is None:
            return logits.argmax(-1)
        passed = logits.softmax(-1).cumsum(-1) <= draws[:, None]
        return passed.sum(-1).clamp(max=self.form.n_types - 1)
