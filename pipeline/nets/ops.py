"""The candidate operations of every cell space, each written once.

An operation is `finish(begin(x))`. `begin` has no weights (a ReLU, a pooling, or nothing) and depends only on the node
it reads and on the stride, so a cell computes it once per node and hands the result to the `finish` of every operation
that starts with it; operations with the same `shared` word and stride have the same `begin`. All convolutions are free
of bias, all ReLUs are out of place.

Layer compositions: DARTS (Liu et al. 2019, appendix A.1) for `darts`; MetaNTK-NAS (2022) for `darts_fewshot`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from pipeline.core.errors import UnknownNameError


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

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.finish(self.begin(x))


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


class FactorizedReduce(Operation):
    """Halves the map: ReLU, two 1x1 convolutions of stride 2, the second shifted by one pixel, concat, norm."""

    shared = "rectified"

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.begin = nn.ReLU()
        self.conv = nn.Conv2d(c_in, c_out // 2, 1, stride=2, bias=False)
        self.shifted_conv = nn.Conv2d(c_in, c_out - c_out // 2, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(c_out)

    def finish(self, begun: torch.Tensor) -> torch.Tensor:
        # a negative pad crops: row and column 0 leave, zeros enter at the far sides
        shifted = functional.pad(begun, (-1, 1, -1, 1))
        return self.norm(torch.cat([self.conv(begun), self.shifted_conv(shifted)], dim=1))


class ReluConvNorm(Operation):
    """ReLU, full convolution, norm."""

    shared = "rectified"

    def __init__(self, c_in: int, c_out: int, kernel_size: int, stride: int):
        super().__init__()
        self.begin = nn.ReLU()
        self.conv = nn.Conv2d(c_in, c_out, kernel_size, stride=stride, padding=kernel_size // 2, bias=False)
        self.norm = nn.BatchNorm2d(c_out)

    def finish(self, begun: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(begun))


class DepthwiseConv(Operation):
    """ReLU, depthwise convolution, 1x1 convolution, norm."""

    shared = "rectified"

    def __init__(self, channels: int, kernel_size: int, stride: int, dilation: int = 1):
        super().__init__()
        padding = dilation * (kernel_size // 2)
        self.begin = nn.ReLU()
        self.depthwise = nn.Conv2d(
            channels, channels, kernel_size, stride, padding, dilation=dilation, groups=channels, bias=False
        )
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def finish(self, begun: torch.Tensor) -> torch.Tensor:
        return self.norm(self.pointwise(self.depthwise(begun)))


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


class FactorizedConv(Operation):
    """ReLU, full 1xk convolution, full kx1 convolution, norm; nothing between the two convolutions."""

    shared = "rectified"

    def __init__(self, channels: int, kernel_size: int, stride: int):
        super().__init__()
        half = kernel_size // 2
        self.begin = nn.ReLU()
        self.row = nn.Conv2d(channels, channels, (1, kernel_size), stride, (0, half), bias=False)
        self.column = nn.Conv2d(channels, channels, (kernel_size, 1), 1, (half, 0), bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def finish(self, begun: torch.Tensor) -> torch.Tensor:
        return self.norm(self.column(self.row(begun)))


class MaxPool(nn.MaxPool2d):
    """Max pooling with torch's results; on the CPU over channels-last memory, where torch is four times faster."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.device.type != "cpu":
            return super().forward(x)
        return super().forward(x.movedim(1, -1).contiguous().movedim(-1, 1)).contiguous()


class Pool(Operation):
    """3x3 average (over real pixels only) or maximum pooling, with or without a norm behind it."""

    def __init__(self, kind: str, stride: int, norm: nn.Module):
        super().__init__()
        self.shared = kind
        if kind == "average":
            self.begin = nn.AvgPool2d(3, stride=stride, padding=1, count_include_pad=False)
        else:
            self.begin = MaxPool(3, stride=stride, padding=1)
        self.norm = norm

    def finish(self, begun: torch.Tensor) -> torch.Tensor:
        return self.norm(begun)


def _skip(channels: int, stride: int) -> Operation:
    return Skip() if stride == 1 else FactorizedReduce(channels, channels)


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


def make_operation(name: str, channels: int, stride: int) -> Operation:
    """The operation called `name` on maps of `channels`. Raises UnknownNameError, with the nearest known name."""
    if name not in OPERATIONS:
        raise UnknownNameError("operation", name, OPERATIONS)
    return OPERATIONS[name](channels, stride)
