"""The network of NAS-Bench-201 (Dong and Yang, ICLR 2020): three stages of equal cells, residual blocks between them.

A cell has four nodes. Node 0 is its input, each other node the sum of operations on all earlier ones, the last its
output; widths and map sizes stay as they are inside a stage.
"""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from pipeline.core.errors import ConfigError
from pipeline.nets.cells import NodeSums, check_mask, masked_plan
from pipeline.nets.drop_path import DropPath
from pipeline.nets.ops import Operation, ReluConvNorm, make_operation

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""(source node, target node) of every edge, in the benchmark's order."""
N_COMPUTED = 3
N_STAGES = 3
_PLACES = tuple((source, target - 1) for source, target in EDGES)


class DenseCell(NodeSums):
    """A cell of one width whose nodes read all earlier ones: (n, channels, h, w) to the same shape."""

    def __init__(self):
        super().__init__()
        self.plan = [[] for _ in range(N_COMPUTED)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        nodes, begun = [x], {}
        for groups in self.plan:
            nodes.append(self._node(groups, nodes, begun))
        return nodes[-1]


class MaskedDenseCell(DenseCell):
    """Every candidate on every edge; each edge is the mean of those the mask allows."""

    def __init__(self, operations: Sequence[str], channels: int):
        super().__init__()
        self.edges = nn.ModuleList()
        self._table: list[list[Operation | None]] = []
        for _ in EDGES:
            candidates = {name: make_operation(name, channels, 1) for name in operations if name != "none"}
            self.edges.append(nn.ModuleDict(candidates))
            self._table.append([candidates.get(name) for name in operations])

    def set_mask(self, rows: Sequence[Sequence[bool]]) -> None:
        """Choose the active operations: one row per edge, one entry per operation."""
        self.plan = masked_plan(_PLACES, N_COMPUTED, rows, self._table)


class DiscreteDenseCell(DenseCell):
    """One chosen operation per edge, each followed by drop path unless it is the identity; `none` is left out."""

    def __init__(self, names: Sequence[str], channels: int, drop_path: DropPath):
        super().__init__()
        self.drop_path = drop_path
        self.edges = nn.ModuleList()
        for (source, target), name in zip(_PLACES, names, strict=True):
            if name == "none":
                continue
            operation = make_operation(name, channels, 1)
            self.edges.append(operation)
            if not self.plan[target]:
                self.plan[target].append((1.0, []))
            self.plan[target][0][1].append((source, operation))

    def _finish(self, operation: Operation, start: torch.Tensor) -> torch.Tensor:
        result = operation.finish(start)
        return result if operation.is_identity else self.drop_path(result)


class ResidualReduction(nn.Module):
    """Halves the map: two 3x3 ReLU-convolution-norms beside a 2x2 mean with a 1x1 convolution."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.first = ReluConvNorm(c_in, c_out, 3, 2)
        self.second = ReluConvNorm(c_out, c_out, 3, 1)
        # sizes are rounded up, as those of the convolution beside it are
        self.pool = nn.AvgPool2d(2, 2, ceil_mode=True)
        self.shortcut = nn.Conv2d(c_in, c_out, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.shortcut(self.pool(x)) + self.second(self.first(x))


class StageNetwork(nn.Module):
    """Stem, stages of cells, norm and ReLU, global average pool, linear classifier.

    Args:
        make_cell: the cell of a number of channels.
        in_channels: channels of the images.
        channels: channels of the stem and of the first stage; each later stage has twice as many.
        n_cells: cells in all, spread over three stages, the earlier ones taking what is left over (15 are 5, 5, 5;
            5 are 2, 2, 1); a stage without cells, and the reduction before it, are left out.
        n_classes: outputs of the classifier.
        stem: False feeds the images to the first cell directly; `in_channels` must then equal `channels`.
    """

    def __init__(
        self,
        make_cell: Callable[[int], nn.Module],
        *,
        in_channels: int,
        channels: int,
        n_cells: int,
        n_classes: int,
        stem: bool = True,
    ):
        super().__init__()
        if min(channels, n_classes, n_cells) < 1:
            raise ConfigError(
                f"channels is {channels}, n_cells is {n_cells} and n_classes is {n_classes}; each must be at least 1."
            )
        if not stem and in_channels != channels:
            raise ConfigError(f"Without a stem the images need {channels} channels; in_channels is {in_channels}.")
        convolution = (nn.Conv2d(in_channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        self.stem = nn.Sequential(*convolution) if stem else nn.Identity()
        self.cells = nn.ModuleList()
        for stage in range(min(N_STAGES, n_cells)):
            if stage:
                self.cells.append(ResidualReduction(channels, 2 * channels))
                channels *= 2
            in_stage = n_cells // N_STAGES + (stage < n_cells % N_STAGES)
            self.cells.extend(make_cell(channels) for _ in range(in_stage))
        self.feature_dim = channels
        self.final = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())
        self.classifier = nn.Linear(channels, n_classes)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """(n, feature_dim) from images (n, in_channels, h, w)."""
        x = self.stem(images)
        for cell in self.cells:
            x = cell(x)
        return self.final(x).mean(dim=(2, 3))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (n, n_classes) of images (n, in_channels, h, w)."""
        return self.classifier(self.features(images))


class TrainableStageNetwork(StageNetwork):
    """The network of six chosen operations, for training from scratch; `drop_path` rules all its cells."""

    def __init__(self, names: Sequence[str], **sizes: int):
        drop_path = DropPath()
        super().__init__(lambda channels: DiscreteDenseCell(names, channels, drop_path), **sizes)
        self.drop_path = drop_path


class MaskedStageNetwork(StageNetwork):
    """A network of masked cells that share one mask.

    Attributes:
        mask: the mask in force, boolean, shape (1, 6, n_operations).
    """

    def __init__(self, operations: Sequence[str], **sizes: int | bool):
        super().__init__(lambda channels: MaskedDenseCell(operations, channels), **sizes)
        self.mask_shape = (1, len(EDGES), len(operations))
        self.mask: torch.Tensor | None = None

    def set_mask(self, mask: torch.Tensor) -> None:
        """Run only the operations that `mask` allows, each edge as the mean of its active operations.

        Args:
            mask: boolean, shape (1, 6, n_operations).

        Weights are left alone. Raises GenotypeError for another type or shape.
        """
        check_mask(mask, self.mask_shape, "this supernet")
        self.mask = mask.clone()
        for cell in self.cells:
            if isinstance(cell, MaskedDenseCell):
                cell.set_mask(mask[0].tolist())
