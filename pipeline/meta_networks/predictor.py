"""Data set and architecture in, accuracy out."""

import torch
from torch import Tensor, nn

from pipeline.core.errors import DataError
from pipeline.meta_networks.graph_encoder import GraphEncoder
from pipeline.meta_networks.set_encoder import DatasetEncoder
from pipeline.spaces.graph_form import GraphForm

GRAPHS_AT_ONCE = 1024


class Predictor(nn.Module):
    """The normalised accuracy of an architecture trained on a data set (Lee et al., ICLR 2021, section 3.3).

    Attributes:
        form: the graphs it reads.
        idle: parts that the published network holds and never uses; see `Generator`.
    """

    def __init__(self, feature_dim: int = 512, hs: int = 512, nz: int = 56, *, form: GraphForm):
        """
        Args:
            feature_dim: length of an image's feature.
            hs: width of the states of vertices and of the last hidden layer.
            nz: width of the set encoder and of the vectors of data sets and graphs, a multiple of 4.
            form: of the graphs.

        Raises ConfigError for another nz.
        """
        super().__init__()
        self.form = form
        self.datasets, self.graphs = DatasetEncoder(feature_dim, nz), GraphEncoder(form, hs)
        self.to_latent = nn.Linear(hs, nz)
        self.join, self.rate = nn.Linear(2 * nz, hs), nn.Linear(hs, 1)
        self.idle = nn.ModuleDict(
            {
                "log_variance": nn.Linear(hs, nz),
                "unify": nn.Linear(2 * hs, hs),
                "features": nn.Linear(feature_dim, nz),
            }
        )

    def encode(self, features: Tensor) -> Tensor:
        """Vectors (b nz) of data sets, from features (b n_classes n_images feature_dim)."""
        return self.datasets(features)

    def encode_graphs(self, types: Tensor) -> Tensor:
        """Vectors (g nz) of architectures, from the types (g v) of their vertices."""
        return self.to_latent(self.graphs(types))

    def forward(self, features: Tensor, types: Tensor) -> Tensor:
        """Predictions (b,), one for each pair of a data set and an architecture.

        Args:
            features: shape (b n_classes n_images feature_dim).
            types: of the vertices, shape (b v).
        """
        if len(features) != len(types):
            raise DataError(f"Every data set goes with one architecture; got {len(features)} and {len(types)}.")
        pairs = torch.cat([self.encode(features), self.encode_graphs(types)], 1)
        return self.rate(self.join(pairs).tanh()).squeeze(1)

    def score(self, datasets: Tensor, graphs: Tensor) -> Tensor:
        """The mean prediction of each architecture over drawings of one data set's images.

        Args:
            datasets: vectors of the drawings, shape (r nz), from `encode`.
            graphs: vectors of the architectures, shape (g nz), from `encode_graphs`.

        Returns:
            shape (g,). The predictions are those of `forward` on all r * g pairs; what depends on a data set or a graph
            alone is computed once.
        """
        of_datasets, of_graphs = self.join.weight.split([datasets.shape[1], graphs.shape[1]], 1)
        read = (datasets @ of_datasets.T + self.join.bias)[:, None]
        hidden = [(read + part @ of_graphs.T).tanh().mean(0) for part in graphs.split(GRAPHS_AT_ONCE)]
        return self.rate(torch.cat(hidden)).squeeze(1)
