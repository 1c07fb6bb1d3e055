"""Stacks of cells: the macro skeleton that search networks and networks trained from scratch share."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from pipeline.core.errors import ConfigError
from pipeline.nets.cells import Cell, DiscreteCell
from pipeline.nets.drop_path import DropPath

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
        channels: channels of the stem and of the nodes of the first cells.
        n_cells: cells in the stack; `reduction_cells` says which of them reduce.
        n_classes: outputs of the classifier.
        stem: False feeds the images to the first cells directly; `in_channels` must then equal `channels`.
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
        stem: bool = True,
        final_activation: bool,
    ):
        super().__init__()
        if channels < 1 or n_classes < 1:
            raise ConfigError(f"channels is {channels} and n_classes is {n_classes}; both must be at least 1.")
        if not stem and in_channels != channels:
            raise ConfigError(f"Without a stem the images need {channels} channels; in_channels is {in_channels}.")
        convolution = (nn.Conv2d(in_channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        self.stem = nn.Sequential(*convolution) if stem else nn.Identity()
        self.cells = nn.ModuleList(_stack(make_cell, channels, n_cells))
        self.feature_dim: int = self.cells[-1].out_channels
        norm = nn.BatchNorm2d(self.feature_dim)
        self.final = nn.Sequential(norm, nn.ReLU()) if final_activation else nn.Identity()
        self.classifier = nn.Linear(self.feature_dim, n_classes)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """(n, feature_dim) from images (n, in_channels, h, w)."""
        before = previous = self.stem(images)
        for cell in self.cells:
            before, previous = previous, cell(before, previous)
        return self.final(previous).mean(dim=(2, 3))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (n, n_classes) of images (n, in_channels, h, w)."""
        return self.classifier(self.features(images))


class TrainableCellNetwork(CellNetwork):
    """The network of a genotype, for training from scratch; one drop path state, `drop_path`, rules all its cells.

    Args:
        normal, reduce: per intermediate node, the (operation, input node) pairs of the two kinds of cell.
    """

    def __init__(
        self,
        normal: Sequence[Sequence[tuple[str, int]]],
        reduce: Sequence[Sequence[tuple[str, int]]],
        *,
        in_channels: int,
        channels: int,
        n_cells: int,
        n_classes: int,
    ):
        drop_path = DropPath()

        def make_cell(shape: CellShape) -> Cell:
            reduction = shape[3]
            return DiscreteCell(reduce if reduction else normal, drop_path, *shape)

        super().__init__(
            make_cell,
            in_channels=in_channels,
            channels=channels,
            n_cells=n_cells,
            n_classes=n_classes,
            final_activation=False,
        )
        self.drop_path = drop_path


def _stack(make_cell: Callable[[CellShape], Cell], channels: int, n_cells: int) -> list[Cell]:
    reductions = reduction_cells(n_cells)
    cells: list[Cell] = []
    c_before = c_previous = channels
    after_reduction = False
    for k in range(n_cells):
        reduction = k in reductions
        channels = channels * 2 if reduction else channels
        cells.append(make_cell((c_before, c_previous, channels, reduction, after_reduction)))
        c_before, c_previous, after_reduction = c_previous, cells[-1].out_channels, reduction
    return cells
