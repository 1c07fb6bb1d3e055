"""The candidate operations of every cell space, each written once.

An operation is `finish(begin(x))`. `begin` has no weights (a ReLU, a pooling, or nothing) and depends only on the node
it reads and on the stride, so a cell computes it once per node and hands the result to the `finish` of every operation
that starts with it; operations with the same `shared` word and stride have the same `begin`. All convolutions are free
of bias, all ReLUs are out of place.

Layer compositions: DARTS (Liu et al. 2019, appendix A.1) for `darts`; MetaNTK-NAS (2022) for `darts_fewshot`; T-NAS
(Lian et al. 2020) for `tnas`, whose factorised reduction differs on odd maps.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import torch
from torch import nn
from torch.nn import functional

from pipeline.core.errors import UnknownNameError
from pipeline.nets.norms import ScaledNorm


class Operation(nn.Module, ABC):
    """Base of all operations: maps (n, c_in, h, w) to (n, c_out, ceil(h / stride), ceil(w / stride)).

    Attributes:
        shared: the word for what `begin` computes; equal words and strides mean equal results on equal inputs.
        is_identity: the operation returns its input.
    """

    shared: str = "itself"
    is_identity: bool = False
    begin: nn.Module

    @abstractmethod
    def finish(self, begun: torch.Tensor) -> torch.Tensor:
        """The rest of the operation, from the result of `begin`."""

    def weighted(self, begun: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """`weight * finish(begun)`, for a weight of shape ()."""
        return weight * self.finish(begun)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.finish(self.begin(x))


class NormedOperation(Operation):
    """Base of the operations that end with a norm, which can take a weight upon itself."""

    norm: nn.Module

    @abstractmethod
    def before_norm(self, begun: torch.Tensor) -> torch.Tensor:
        """What the norm reads, from the result of `begin`."""

    def finish(self, begun: torch.Tensor) -> torch.Tensor:
        return self.norm(self.before_norm(begun))

    def weighted(self, begun: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        if isinstance(self.norm, ScaledNorm):
            return self.norm.scaled(self.before_norm(begun), weight)
        return super().weighted(begun, weight)


class Zero(Operation):
    """No connection: zeros of the shape the edge would have."""

    def __init__(self, stride: int):
        super().__init__()
        self.begin = nn.Identity()
        self.stride = stride

    def finish(self, begun: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(begun[:, :, :: self.stride, :: self.stride])


class Skip(Operation):
    """The input itself."""

    is_identity = True

    def __init__(self):
        super().__init__()
        self.begin = nn.Identity()

    def finish(self, begun: torch.Tensor) -> torch.Tensor:
        return begun


class FactorizedReduce(NormedOperation):
    """Halves the map: ReLU, two 1x1 convolutions of stride 2, the second shifted by one pixel, concat, norm.

    Args:
        zeros_first: where an axis is odd, put the row of zeros that one convolution lacks in front of the map (for the
            first convolution, as T-NAS does) rather than behind it (for the shifted one). Even maps need none.
    """

    shared = "rectified"

    def __init__(self, c_in: int, c_out: int, zeros_first: bool = False):
        super().__init__()
        self.zeros_first = zeros_first
        self.begin = nn.ReLU()
        self.conv = nn.Conv2d(c_in, c_out // 2, 1, stride=2, bias=False)
        self.shifted_conv = nn.Conv2d(c_in, c_out - c_out // 2, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(c_out)

    def before_norm(self, begun: torch.Tensor) -> torch.Tensor:
        if self.zeros_first:
            h, w = (size % 2 for size in begun.shape[2:])
            shifted = begun[:, :, 1 - h :, 1 - w :]
            begun = functional.pad(begun, (w, 0, h, 0)) if h or w else begun
        else:
            # a negative pad crops: row and column 0 leave, zeros enter at the far sides
            shifted = functional.pad(begun, (-1, 1, -1, 1))
        return torch.cat([self.conv(begun), self.shifted_conv(shifted)], dim=1)


class ReluConvNorm(NormedOperation):
    """ReLU, full convolution, norm."""

    shared = "rectified"

    def __init__(self, c_in: int, c_out: int, kernel_size: int, stride: int):
        super().__init__()
        self.begin = nn.ReLU()
        self.conv = nn.Conv2d(c_in, c_out, kernel_size, stride=stride, padding=kernel_size // 2, bias=False)
        self.norm = nn.BatchNorm2d(c_out)

    def before_norm(self, begun: torch.Tensor) -> torch.Tensor:
        return self.conv(begun)


class DepthwiseConv(NormedOperation):
    """ReLU, depthwise convolution, 1x1 convolution, norm."""

    shared = "rectified"

    def __init__(self, channels: int, kernel_size: int, stride: int, dilation: int = 1):
        super().__init__()
        self.begin = nn.ReLU()
        # taps as far apart as outputs are: the pixels between are never read, and without them nothing is dilated,
        # for which libraries have faster code
        self.every = stride if stride == dilation else 1
        stride, dilation = stride // self.every, dilation // self.every
        padding = dilation * (kernel_size // 2)
        self.depthwise = nn.Conv2d(
            channels, channels, kernel_size, stride, padding, dilation=dilation, groups=channels, bias=False
        )
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def before_norm(self, begun: torch.Tensor) -> torch.Tensor:
        if self.every > 1:
            # windows of one pixel: the same as a slice by steps, whose gradient takes several passes more
            begun = functional.avg_pool2d(begun, 1, self.every)
        return self.pointwise(self.depthwise(begun))


class TwiceDepthwiseConv(Operation):
    """Two `DepthwiseConv` in a row (the separable convolution of DARTS); only the first carries the stride."""

    shared = "rectified"

    def __init__(self, channels: int, kernel_size: int, stride: int):
        super().__init__()
        self.first = DepthwiseConv(channels, kernel_size, stride)
        self.second = DepthwiseConv(channels, kernel_size, 1)

    @property
    def begin(self) -> nn.Module:
        return self.first.begin

    def finish(self, begun: torch.Tensor) -> torch.Tensor:
        return self.second(self.first.finish(begun))

    def weighted(self, begun: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return self.second.weighted(self.second.begin(self.first.finish(begun)), weight)


class FactorizedConv(NormedOperation):
    """ReLU, full 1xk convolution, full kx1 convolution, norm; nothing between the two convolutions."""

    shared = "rectified"

    def __init__(self, channels: int, kernel_size: int, stride: int):
        super().__init__()
        half = kernel_size // 2
        self.begin = nn.ReLU()
        self.row = nn.Conv2d(channels, channels, (1, kernel_size), stride, (0, half), bias=False)
        self.column = nn.Conv2d(channels, channels, (kernel_size, 1), 1, (half, 0), bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def before_norm(self, begun: torch.Tensor) -> torch.Tensor:
        return self.column(self.row(begun))


def channels_last(x: torch.Tensor) -> torch.Tensor:
    """The map x (n, c, h, w) with its channels side by side in memory; works inside `torch.vmap` too."""
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


class MaxPool(nn.MaxPool2d):
    """Max pooling with torch's results; on the CPU over channels-last memory, where torch is four times faster.

    What comes out lies in memory as what went in.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.device.type != "cpu":
            return super().forward(x)
        pooled = super().forward(channels_last(x))
        return pooled.contiguous() if x.is_contiguous() else pooled


class Pool(NormedOperation):
    """3x3 average (over real pixels only) or maximum pooling, with or without a norm behind it."""

    def __init__(self, kind: str, stride: int, norm: nn.Module):
        super().__init__()
        self.shared = kind
        if kind == "average":
            self.begin = nn.AvgPool2d(3, stride=stride, padding=1, count_include_pad=False)
        else:
            self.begin = MaxPool(3, stride=stride, padding=1)
        self.norm = norm

    def before_norm(self, begun: torch.Tensor) -> torch.Tensor:
        return begun


def _skip(channels: int, stride: int) -> Operation:
    return Skip() if stride == 1 else FactorizedReduce(channels, channels)


def _skip_zeros_first(channels: int, stride: int) -> Operation:
    return Skip() if stride == 1 else FactorizedReduce(channels, channels, zeros_first=True)


OPERATIONS: dict[str, Callable[[int, int], Operation]] = {
    "none": lambda c, s: Zero(s),
    "skip_connect": _skip,
    "nor_conv_1x1": lambda c, s: ReluConvNorm(c, c, 1, s),
    "nor_conv_3x3": lambda c, s: ReluConvNorm(c, c, 3, s),
    "conv_3x3": lambda c, s: DepthwiseConv(c, 3, s),
    "dil_conv_3x3": lambda c, s: DepthwiseConv(c, 3, s, dilation=2),
    "dil_conv_5x5": lambda c, s: DepthwiseConv(c, 5, s, dilation=2),
    "sep_conv_3x3": lambda c, s: TwiceDepthwiseConv(c, 3, s),
    "sep_conv_5x5": lambda c, s: TwiceDepthwiseConv(c, 5, s),
    "conv_1x5_5x1": lambda c, s: FactorizedConv(c, 5, s),
    "avg_pool_3x3": lambda c, s: Pool("average", s, nn.Identity()),
    "max_pool_3x3": lambda c, s: Pool("maximum", s, nn.Identity()),
    "avg_pool_3x3BN": lambda c, s: Pool("average", s, nn.BatchNorm2d(c)),
    "max_pool_3x3BN": lambda c, s: Pool("maximum", s, nn.BatchNorm2d(c)),
}
ZEROS_FIRST = OPERATIONS | {"skip_connect": _skip_zeros_first}
"""The operations with the factorised reduction of T-NAS."""


Operations = Mapping[str, Callable[[int, int], Operation]]
"""Names of operations and how to make one of so many channels and of a stride."""


def make_operation(name: str, channels: int, stride: int, table: Operations = OPERATIONS) -> Operation:
    """The operation called `name` on maps of `channels`. Raises UnknownNameError, with the nearest known name."""
    if name not in table:
        raise UnknownNameError("operation", name, table)
    return table[name](channels, stride)
