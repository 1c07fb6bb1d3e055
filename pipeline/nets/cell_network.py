"""Stacks of cells: the macro skeleton that search networks and networks trained from scratch share."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from pipeline.core.errors import ConfigError
from pipeline.nets.auxiliary import AuxiliaryHead
from pipeline.nets.cells import Cell, DiscreteCell
from pipeline.nets.drop_path import DropPath
from pipeline.nets.ops import OPERATIONS, Operations
from pipeline.nets.stems import HALVING, make_stem

CellShape = tuple[int, int, int, bool, bool]
"""(c_before, c_previous, channels, reduction, after_reduction): the arguments of a cell that its place decides."""


def reduction_cells(n_cells: int) -> set[int]:
    """Which cells halve the map and double the channels: those at 1/3 and 2/3 of the depth (1, 3 of 5; 2, 5 of 8).

    A stack of two cells has one reduction, its second cell; a single cell has none.
    """
    if n_cells < 1:
        raise ConfigError(f"n_cells is {n_cells}; a network needs at least 1 cell.")
    return {n_cells // 3, 2 * n_cells // 3} - {0}


class CellNetwork(nn.Module):
    """Stem, cells, what closes the last map, global average pool, linear classifier.

    Args:
        make_cell: the cell of one place in the stack.
        in_channels: channels of the images.
        channels: channels of the nodes of the first cells.
        n_cells: cells in the stack; `reduction_cells` says which of them reduce.
        n_classes: outputs of the classifier.
        stem: a name of `pipeline.nets.stems`; "none" feeds the images to the first cells directly, and `in_channels`
            must then equal the stem's channels.
        stem_multiplier: channels of the stem, as a multiple of `channels`.
        final_activation: a norm and a ReLU close the last map (search networks have it, trained ones do not).
    """

    def __init__(
        self,
        make_cell: Callable[[CellShape], Cell],
        *,
        in_channels: int,
        channels: int,
        n_cells: int,
        n_classes: int,
        stem: str = "plain",
        stem_multiplier: int = 1,
        final_activation: bool,
    ):
        super().__init__()
        if min(channels, n_classes, stem_multiplier) < 1:
            raise ConfigError(
                f"channels is {channels}, n_classes is {n_classes} and stem_multiplier is {stem_multiplier}; "
                "each must be at least 1."
            )
        c_stem = channels * stem_multiplier
        if stem == "none" and in_channels != c_stem:
            raise ConfigError(f"Without a stem the images need {c_stem} channels; in_channels is {in_channels}.")
        self.stem, self.second_stem = make_stem(stem, in_channels, c_stem)
        self.cells = nn.ModuleList(_stack(make_cell, c_stem, channels, n_cells, stem in HALVING))
        self.feature_dim: int = self.cells[-1].out_channels
        norm = nn.BatchNorm2d(self.feature_dim)
        self.final = nn.Sequential(norm, nn.ReLU()) if final_activation else nn.Identity()
        self.classifier = nn.Linear(self.feature_dim, n_classes)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """(n, feature_dim) from images (n, in_channels, h, w)."""
        return self._features_and_map(images, len(self.cells) - 1)[0]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (n, n_classes) of images (n, in_channels, h, w)."""
        return self.classifier(self.features(images))

    def _features_and_map(self, images: torch.Tensor, place: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The features, and the map that the cell at `place` gives on the way to them."""
        before = self.stem(images)
        previous = seen = self.second_stem(before)
        for k, cell in enumerate(self.cells):
            before, previous = previous, cell(before, previous)
            if k == place:
                seen = previous
        return self.final(previous).mean(dim=(2, 3)), seen


class TrainableCellNetwork(CellNetwork):
    """The network of a genotype, for training from scratch; one drop path state, `drop_path`, rules all its cells.

    Args:
        normal, reduce: per intermediate node, the (operation, input node) pairs of the two kinds of cell.
        auxiliary: put an auxiliary classifier on the cell at two thirds of the depth, the second reduction cell.
        table: the operations by name.
        The others are those of `CellNetwork`.
    """

    def __init__(
        self,
        normal: Sequence[Sequence[tuple[str, int]]],
        reduce: Sequence[Sequence[tuple[str, int]]],
        *,
        n_cells: int,
        n_classes: int,
        auxiliary: bool = False,
        table: Operations = OPERATIONS,
        **more: int | str,
    ):
        drop_path = DropPath()

        def make_cell(shape: CellShape) -> Cell:
            reduction = shape[3]
            return DiscreteCell(reduce if reduction else normal, drop_path, *shape, table=table)

        super().__init__(make_cell, n_cells=n_cells, n_classes=n_classes, final_activation=False, **more)
        self.drop_path = drop_path
        self._place = 2 * n_cells // 3
        # the last module: all others draw the same initial weights with and without it
        self.auxiliary = AuxiliaryHead(self.cells[self._place].out_channels, n_classes) if auxiliary else None

    def forward(self, images: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Logits (n, n_classes); in training mode with an auxiliary classifier (logits, its logits)."""
        if self.auxiliary is None or not self.training:
            return super().forward(images)
        features, seen = self._features_and_map(images, self._place)
        return self.classifier(features), self.auxiliary(seen)


def _stack(
    make_cell: Callable[[CellShape], Cell], c_stem: int, channels: int, n_cells: int, after_reduction: bool
) -> list[Cell]:
    reductions = reduction_cells(n_cells)
    cells: list[Cell] = []
    c_before = c_previous = c_stem
    for k in range(n_cells):
        reduction = k in reductions
        channels = channels * 2 if reduction else channels
        cells.append(make_cell((c_before, c_previous, channels, reduction, after_reduction)))
        c_before, c_previous, after_reduction = c_previous, cells[-1].out_channels, reduction
    return cells
