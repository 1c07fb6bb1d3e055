"""Features of a data set's images to one vector, whatever their order: a set transformer on two levels.

Lee, Hyung and Hwang, "Rapid Neural Architecture Search by Learning to Generate Graphs from Datasets", ICLR 2021,
section 3.2; the blocks are those of Lee et al., "Set Transformer", ICML 2019, equations 6 to 11, without layer norms.
"""

import math

import torch
from torch import Tensor, nn

from pipeline.core.errors import ConfigError, DataError
from pipeline.nets.init import OwnWeights

N_HEADS = 4


class AttentionBlock(nn.Module):
    """Queries look at a set: O = q + softmax(q k' / sqrt(d)) v by heads, then O + relu(W O).

    As published, the softmax is scaled by the root of the full width d, not of a head's.
    """

    def __init__(self, query_dim: int, item_dim: int, width: int):
        super().__init__()
        if width < N_HEADS or width % N_HEADS:
            raise ConfigError(f"The width of attention must be a multiple of its {N_HEADS} heads (nz); got {width}.")
        self.query, self.output = nn.Linear(query_dim, width), nn.Linear(width, width)
        self.key, self.value = nn.Linear(item_dim, width), nn.Linear(item_dim, width)

    def forward(self, queries: Tensor, items: Tensor) -> Tensor:
        """(b m width) from queries (b m query_dim) and sets (b n item_dim)."""
        projected = self.query(queries), self.key(items), self.value(items)
        # heads as contiguous batches: products of small strided matrices are several times slower
        q, k, v = (torch.cat(one.chunk(N_HEADS, -1)) for one in projected)
        attention = torch.bmm(q, k.transpose(1, 2)).mul(1 / math.sqrt(N_HEADS * q.shape[-1])).softmax(-1)
        mixed = torch.cat(torch.baddbmm(q, attention, v).chunk(N_HEADS), -1)
        return mixed + self.output(mixed).relu()


class SelfAttention(AttentionBlock):
    """Every item of a set looks at the whole set."""

    def __init__(self, item_dim: int, width: int):
        super().__init__(item_dim, item_dim, width)

    def forward(self, items: Tensor) -> Tensor:
        """(b n width) from sets (b n item_dim)."""
        return super().forward(items, items)


class AttentionPool(OwnWeights):
    """One learned query, the seed, looks at the set."""

    def __init__(self, width: int):
        super().__init__()
        self.seed = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, 1, width)))
        self.attention = AttentionBlock(width, width, width)

    @torch.no_grad()
    def draw_weights(self, generator: torch.Generator) -> None:
        """The seed, by Xavier's rule on its shape."""
        drawn = torch.empty(self.seed.shape, device=generator.device, dtype=self.seed.dtype)
        self.seed.copy_(nn.init.xavier_uniform_(drawn, generator=generator))

    def forward(self, items: Tensor) -> Tensor:
        """(b 1 width) from sets (b n width)."""
        return self.attention(self.seed.expand(len(items), -1, -1), items)


class SetPool(nn.Sequential):
    """One vector for each set: (b n item_dim) to (b 1 width). The order of the items has no effect."""

    def __init__(self, item_dim: int, width: int):
        super().__init__(
            SelfAttention(item_dim, width), SelfAttention(width, width), AttentionPool(width), nn.Linear(width, width)
        )


class DatasetEncoder(nn.Module):
    """The images of a class to a prototype, the prototypes of all classes to one vector.

    Attributes:
        feature_dim: length of an image's feature.
        nz: length of prototypes and of the vector.
    """

    def __init__(self, feature_dim: int, nz: int):
        super().__init__()
        self.feature_dim, self.nz = feature_dim, nz
        self.within_class, self.across_classes = SetPool(feature_dim, nz), SetPool(nz, nz)

    def forward(self, features: Tensor) -> Tensor:
        """One vector for each data set.

        Args:
            features: of the images, shape (b n_classes n_images feature_dim); any numbers of classes and images.

        Returns:
            shape (b nz); the order of images in a class and of classes has no effect.
        """
        if features.ndim != 4 or features.shape[-1] != self.feature_dim or 0 in features.shape:
            raise DataError(
                f"Features have the shape (data sets, classes, images of a class, {self.feature_dim}); "
                f"got {tuple(features.shape)}."
            )
        prototypes = self.within_class(features.flatten(0, 1)).view(*features.shape[:2], self.nz)
        return self.across_classes(prototypes).squeeze(1)
