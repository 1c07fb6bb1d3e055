"""The state of a graph's vertex, and what the vertex passes on."""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, one_hot


class VertexCell(nn.GRUCell):
    """A gated recurrent unit whose inputs are types of vertices and whose hidden states are sums of messages.

    The share of the types in its gates is computed apart, once for all states that a vertex passes through.
    """

    def gates(self, types: Tensor) -> Tensor:
        """The share of the types (...) in the gates, shape (... 3 hs)."""
        return linear(one_hot(types, self.input_size).to(self.weight_ih.dtype), self.weight_ih, self.bias_ih)

    def forward(self, gates: Tensor, received: Tensor | None) -> Tensor:
        """States (b hs) from such gates (b 3 hs) and what the vertices received (b hs), None for nothing.

        With r and u the halves of sigmoid(gates + W h + b), and n = tanh(gates + r * (W h + b)): (1 - u) n + u h.
        """
        hs = self.hidden_size
        known = self.bias_hh if received is None else linear(received, self.weight_hh, self.bias_hh)
        reset, update = (gates[..., : 2 * hs] + known[..., : 2 * hs]).sigmoid().chunk(2, -1)
        new = torch.addcmul(gates[..., 2 * hs :], reset, known[..., 2 * hs :]).tanh()
        return new - update * new if received is None else torch.lerp(new, received, update)


class Messages(nn.Module):
    """m_u = sigmoid(W_g s_u + b) * (W_m s_u), where s_u is the state of vertex u and its number, one-hot.

    Zhang et al., "D-VAE: A Variational Autoencoder for Directed Acyclic Graphs", NeurIPS 2019, equation 5.
    """

    def __init__(self, hs: int, n_vertices: int):
        super().__init__()
        self.n_vertices = n_vertices
        self.gate = nn.Linear(hs + n_vertices, hs)
        self.mapper = nn.Linear(hs + n_vertices, hs, bias=False)

    def forward(self, states: Tensor, vertex: int) -> Tensor:
        """The messages (b hs) of one vertex of b graphs in these states (b hs)."""
        number = states.new_zeros(len(states), self.n_vertices)
        number[:, vertex] = 1
        known = torch.cat([states, number], 1)
        return self.gate(known).sigmoid() * self.mapper(known)
