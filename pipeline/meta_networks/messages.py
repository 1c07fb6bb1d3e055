"""What a vertex of a graph passes on."""

import torch
from torch import Tensor, nn


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
