"""Data set in, architectures out."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipeline.core.errors import DataError
from pipeline.meta_networks.graph_decoder import GraphDecoder
from pipeline.meta_networks.graph_encoder import GraphEncoder
from pipeline.meta_networks.set_encoder import DatasetEncoder
from pipeline.spaces.graph_form import GraphForm


class GeneratorLoss(NamedTuple):
    """The terms of a generator's loss, summed over the batch; their sum is what is minimised."""

    reconstruction: Tensor
    kl: Tensor


class Generator(nn.Module):
    """Draws architectures that suit a data set (Lee et al., "Rapid Neural Architecture Search by Learning to Generate
    Graphs from Datasets", ICLR 2021, section 3.2).

    A data set becomes a normal distribution of latent vectors; a latent vector becomes a graph.

    Attributes:
        form: the graphs it writes.
        idle: parts that the published network holds and never uses, a graph encoder among them. No result depends on
            them, nor do they get gradients; with them the numbers of parameters are the published ones.
    """

    def __init__(self, feature_dim: int = 512, hs: int = 56, nz: int = 56, *, form: GraphForm):
        """
        Args:
            feature_dim: length of an image's feature.
            hs: width of the states of vertices; need not be nz (in the published network it must).
            nz: width of the set encoder and of latent vectors, a multiple of 4.
            form: of the graphs.

        Raises ConfigError for another nz.
        """
        super().__init__()
        self.form = form
        self.datasets = DatasetEncoder(feature_dim, nz)
        self.mean, self.log_variance = nn.Linear(nz, nz), nn.Linear(nz, nz)
        self.decoder = GraphDecoder(form, hs, nz)
        self.idle = nn.ModuleDict(
            {
                "graphs": GraphEncoder(form, hs),
                "graph_mean": nn.Linear(hs, nz),
                "graph_log_variance": nn.Linear(hs, nz),
                "unify": nn.Linear(2 * hs, hs),
                "features": nn.Linear(feature_dim, nz),
            }
        )

    def encode(self, features: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Latent vectors (b nz) of data sets, from features (b n_classes n_images feature_dim).

        Without a generator they are the means, as for validation and for search; with one they are drawn from it.
        """
        return self._latent(*self._distribution(features), generator)

    def loss(
        self, features: Tensor, types: Tensor, generator: torch.Generator | None, beta: float = 0.005
    ) -> GeneratorLoss:
        """How little each data set's latent vector tells of its architecture, and how far it is from a standard normal.

        reconstruction = - sum log p(graph | z);  kl = beta * KL(N(mean, variance) | N(0, 1)), both over the batch.

        Args:
            features: shape (b n_classes n_images feature_dim).
            types: of the vertices of each data set's architecture, shape (b v).
            generator: of the latent noise; without one, z is the mean.
            beta: weight of the divergence.
        """
        if len(features) != len(types):
            raise DataError(f"Every data set goes with one architecture; got {len(features)} and {len(types)}.")
        mean, log_variance = self._distribution(features)
        z = self._latent(mean, log_variance, generator)
        divergence = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum()
        return GeneratorLoss(self.decoder.surprise(z, types).sum(), beta * divergence)

    def sample(self, z: Tensor, generator: torch.Generator | None, stochastic: bool = True) -> tuple[Tensor, Tensor]:
        """One graph for each latent vector (b nz); not every graph is an architecture, `form.valid` tells which.

        Args:
            z: latent vectors.
            generator: of all draws; not needed where `stochastic` is false, which takes what is likeliest.

        Returns:
            types, long (b v), and adjacency, boolean (b v v), as `GraphDecoder.write` gives them.
        """
        draws = self.draws(len(z), generator).to(z) if stochastic else None
        return self.decoder.write(z, draws)

    def draws(self, n_graphs: int, generator: torch.Generator) -> Tensor:
        """The uniform numbers that decide `n_graphs` graphs: float32, shape (n_graphs v v+1)."""
        n = self.form.n_vertices
        return torch.rand(n_graphs, n, n + 1, generator=generator, device=generator.device)

    def _distribution(self, features: Tensor) -> tuple[Tensor, Tensor]:
        read = self.datasets(features)
        return self.mean(read), self.log_variance(read)

    @staticmethod
    def _latent(mean: Tensor, log_variance: Tensor, generator: torch.Generator | None) -> Tensor:
        if generator is None:
            return mean
        noise = torch.randn(mean.shape, generator=generator, device=generator.device, dtype=mean.dtype).to(mean.device)
        return mean + NOISE * noise * (log_variance / 2).exp()


NOISE = 0.01
"""How much of the latent's standard deviation is drawn in training (`eps_scale` of the published code)."""
