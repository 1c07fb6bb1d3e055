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


def _check_width(width: int) -> None:
    if width < N_HEADS or width % N_HEADS:
        raise ConfigError(f"The width of attention (nz) must be a multiple of its {N_HEADS} heads; got {width}.")


class SelfAttention(nn.Module):
    """Every item x of a set looks at the whole set: O = q + softmax(q k' / sqrt(d)) v by heads, then O + relu(W O).

    q, k and v are affine in x. As published, the softmax is scaled by the root of the full width d, not of a head's.
    """

    def __init__(self, item_dim: int, width: int):
        super().__init__()
        _check_width(width)
        self.scale = 1 / math.sqrt(width)
        self.project = nn.Linear(item_dim, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, items: Tensor) -> Tensor:
        """(b n width) from sets (b n item_dim)."""
        # heads as contiguous batches: products of many small strided matrices are slow
        heads = torch.cat(self.project(items).chunk(3 * N_HEADS, -1))
        q, k, v = heads.chunk(3)
        attention = torch.bmm(q, k.transpose(1, 2) * self.scale).softmax(-1)
        mixed = torch.cat(torch.baddbmm(q, attention, v).chunk(N_HEADS), -1)
        return mixed + self.output(mixed).relu()


class AttentionPool(OwnWeights):
    """One learned query, the seed, looks at the set as in `SelfAttention`.

    A single query needs no key or value of each item: q' (K x + b) is (K' q)' x + q' b, and the weighted mean of
    V x + c is V of the mean of x, plus c.
    """

    def __init__(self, width: int):
        super().__init__()
        _check_width(width)
        self.scale = 1 / math.sqrt(width)
        self.seed = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, 1, width)))
        self.query, self.key, self.value = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    @torch.no_grad()
    def draw_weights(self, generator: torch.Generator) -> None:
        """The seed, by Xavier's rule on its shape."""
        drawn = torch.empty(self.seed.shape, device=generator.device, dtype=self.seed.dtype)
        self.seed.copy_(nn.init.xavier_uniform_(drawn, generator=generator))

    def forward(self, items: Tensor) -> Tensor:
        """(b width) from sets (b n width)."""
        q = self.query(self.seed).view(N_HEADS, -1)
        keys, values = (layer.weight.view(N_HEADS, -1, layer.in_features) for layer in (self.key, self.value))
        matches = items @ torch.einsum("hc,hcd->dh", q, keys) + (q * self.key.bias.view_as(q)).sum(1)
        attention = matches.mul(self.scale).softmax(1)
        means = torch.bmm(attention.transpose(1, 2), items)
        mixed = torch.einsum("bhd,hcd->bhc", means, values).flatten(1) + self.value.bias + q.flatten()
        return mixed + self.output(mixed).relu()


class SetPool(nn.Sequential):
    """One vector for each set: (b n item_dim) to (b width). The order of the items has no effect."""

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
        prototypes = self.within_class(features.flatten(0, 1)).unflatten(0, features.shape[:2])
        return self.across_classes(prototypes)
