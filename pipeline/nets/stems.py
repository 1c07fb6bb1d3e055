"""What stands before the cells: from images to the two maps that the first cell reads."""

from collections.abc import Callable

from torch import nn

from pipeline.core.errors import UnknownNameError
from pipeline.nets.blocks import HalvingPool

StemParts = tuple[nn.Module, nn.Module]
"""(images to the first map, first map to the second): the first cell takes them for the outputs of k-2 and k-1."""


def _plain(c_in: int, c_out: int) -> StemParts:
    """3x3 convolution and norm; both maps are the same."""
    return nn.Sequential(nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out)), nn.Identity()


def _downsampling(c_in: int, c_out: int) -> StemParts:
    """Three 3x3 convolutions of stride 2, norms, ReLUs between them: maps of a quarter and an eighth of the side."""
    first = nn.Sequential(
        nn.Conv2d(c_in, c_out // 2, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(c_out // 2),
        nn.ReLU(),
        nn.Conv2d(c_out // 2, c_out, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(c_out),
    )
    second = nn.Sequential(
        nn.ReLU(), nn.Conv2d(c_out, c_out, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(c_out)
    )
    return first, second


def _pooling(c_in: int, c_out: int) -> StemParts:
    """Two 3x3 convolutions, each with norm and 2x2 max pooling, a ReLU between them: a quarter of the side.

    Both maps are the same (Lian et al., ICLR 2020). Maps of one row or column are not pooled further.
    """
    first = (nn.Conv2d(c_in, c_out // 2, 3, padding=1, bias=False), nn.BatchNorm2d(c_out // 2), HalvingPool())
    second = (nn.Conv2d(c_out // 2, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), HalvingPool())
    return nn.Sequential(*first, nn.ReLU(), *second), nn.Identity()


STEMS: dict[str, Callable[[int, int], StemParts]] = {
    "none": lambda c_in, c_out: (nn.Identity(), nn.Identity()),
    "plain": _plain,
    "downsampling": _downsampling,
    "pooling": _pooling,
}
HALVING = frozenset({"downsampling"})
"""Stems whose second map has half the side of the first."""


def make_stem(name: str, c_in: int, c_out: int) -> StemParts:
    """The stem called `name`, from `c_in` to `c_out` channels. Raises UnknownNameError, with the nearest known name."""
    if name not in STEMS:
        raise UnknownNameError("stem", name, STEMS)
    return STEMS[name](c_in, c_out)
