"""Inner products of the rows of two matrices."""

import torch
from torch import Tensor

MOST_TURNED_BYTES = 1 << 20
"""Size of the part of maps that is turned round at once; measured on processors with 1 MiB of cache per core."""


def inner_products(rows: Tensor, others: Tensor) -> Tensor:
    """Inner products (a b) of rows (a p) with rows (b p)."""
    if not (has_onednn(rows) and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return rows @ others.mT
    # torch sends products in float32 to MKL, which is slow with few long rows and, on processors of AMD, with all;
    # oneDNN in turn has a fast way for whole matrices and their transposes only
    rows = rows.contiguous()
    if not others.mT.is_contiguous():
        others = others.contiguous()
    return torch.ops.mkldnn._linear_pointwise(rows, others, None, "none", [], "")


def products_over_positions(maps: Tensor, values: Tensor) -> Tensor:
    """Sums over positions (m c q) of maps (m positions c) times values (positions q).

    A few positions at a time, as maps are turned round for it and all of one would leave the caches.
    """
    m, _, c = maps.shape
    step = max(1, MOST_TURNED_BYTES // (m * c * maps.element_size()))
    total = None
    for part, of_part in zip(maps.split(step, dim=1), values.split(step), strict=True):
        found = inner_products(part.mT.flatten(0, 1), of_part.mT)
        total = found if total is None else total.add_(found)
    return total.unflatten(0, (m, c))


def has_onednn(x: Tensor) -> bool:
    """Whether oneDNN, a library that comes with torch, computes with it."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and torch.backends.mkldnn.is_available()
