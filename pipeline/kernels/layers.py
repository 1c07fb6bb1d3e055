"""Gram matrices of per-sample weight gradients, layer by layer, from the layer's inputs and output gradients.

With x_n the input and g_n the output gradient of sample n, the weight gradient of a linear map applied at the
positions t is G_n = sum_t g_n[t] x_n[t]'. Its Gram has two forms with equal results:

- materialised: K[n, m] = <G_n, G_m>, about n T p + n^2 p products for a weight of p entries;
- position pairs: K[n, m] = sum_{t, s} (g_n[t]' g_m[s]) (x_n[t]' x_m[s]), about n^2 T^2 (c_in + c_out) products
  (the algebra of ghost norms, Goodfellow 2015, extended from norms to pairs).

`pairs_are_cheaper` says which one costs less.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.kernels.products import has_onednn, inner_products

MOST_PAIRS = 1 << 24
"""Largest matrix of position pairs that is formed, in entries."""
LEAST_ALONE = 128 << 10
"""Bytes of one image's map from which a CPU is faster with depthwise gradients image by image; measured."""
MOST_UNFOLDED = 36
"""Inputs of one output up to which a CPU is faster with all taps in one product than with one each; measured."""


@dataclass(frozen=True)
class LinearMap:
    """A linear layer on the last axis."""

    n_groups = 1
    n_taps = 1

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return functional.linear(x, weight, bias)

    def input_gradient(self, gradient: Tensor, x: Tensor, weight: Tensor, into: Tensor | None = None) -> Tensor:
        return _added(gradient @ weight, into)

    def taps(self, x: Tensor, gradient: Tensor) -> Iterator[Tensor]:
        """Inputs (n T c_in) that each tap of the weight meets: here one."""
        yield x.reshape(len(x), -1, x.shape[-1])

    def positions(self, gradient: Tensor) -> Tensor:
        """Output gradients (n T c_out)."""
        return gradient.reshape(len(gradient), -1, gradient.shape[-1])


@dataclass(frozen=True)
class Convolution:
    """A 2-d convolution's geometry; a weight is (c_out, c_in / n_groups, *kernel)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    n_groups: int

    @property
    def n_taps(self) -> int:
        return self.kernel[0] * self.kernel[1]

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return _convolve(x, weight, bias, self.stride, self.padding, self.dilation, self.n_groups)

    def input_gradient(self, gradient: Tensor, x: Tensor, weight: Tensor, into: Tensor | None = None) -> Tensor:
        """Gradient at the input (n c_in h w) from the one at the output; added to `into`, which then is the result."""
        if self._turns(x, weight):
            return self._turned(gradient, x, weight, into)
        back = torch.ops.aten.convolution_backward(
            gradient,
            x,
            weight,
            None,
            self.stride,
            self.padding,
            self.dilation,
            False,
            (0, 0),
            self.n_groups,
            (True, False, False),
        )[0]
        return _added(back, into)

    def _turns(self, x: Tensor, weight: Tensor) -> bool:
        """Whether a CPU is faster with the input gradient as convolutions with turned kernels.

        Its libraries have a fast forward for every geometry, but the backward of small batches and of dilated depthwise
        convolutions is slow.
        """
        is_slow = self.stride == (1, 1) or max(self.dilation) > 1
        return x.device.type == "cpu" and (self.n_groups == 1 or (is_slow and is_depthwise(self, weight)))

    def _turned(self, gradient: Tensor, x: Tensor, weight: Tensor, into: Tensor | None) -> Tensor:
        turned = weight if is_depthwise(self, weight) else weight.transpose(0, 1)
        axes = zip(x.shape[2:], gradient.shape[2:], self.kernel, self.stride, self.padding, self.dilation, strict=True)
        rows, columns = (list(_phases(*axis)) for axis in axes)
        dilation = tuple(d // math.gcd(d, s) for d, s in zip(self.dilation, self.stride, strict=True))
        if self.stride == (1, 1) and rows[0].start == columns[0].start == 0:
            padding = rows[0].padding, columns[0].padding
            return _convolve(gradient, turned.flip(2, 3), None, (1, 1), padding, dilation, self.n_groups, into)
        back = into
        if into is None:
            back = torch.empty(x.shape, dtype=x.dtype, memory_format=torch.channels_last)
            if len(rows) * len(columns) < self.stride[0] * self.stride[1]:
                back.zero_()
        for row, column in itertools.product(rows, columns):
            kernel = turned[:, :, row.taps, column.taps].flip(2, 3)
            padding = row.padding, column.padding
            part = _convolve(gradient, kernel, None, (1, 1), padding, dilation, self.n_groups)
            part = part[:, :, row.start : row.start + row.size, column.start : column.start + column.size]
            target = back[:, :, row.first :: self.stride[0], column.first :: self.stride[1]]
            target.copy_(part) if into is None else target.add_(part)
        return back

    def taps(self, x: Tensor, gradient: Tensor) -> Iterator[Tensor]:
        """Inputs (n T c_in) that each of the kernel's taps meets, T the output positions; views where they can be."""
        (p_h, p_w), (s_h, s_w), (d_h, d_w) = self.padding, self.stride, self.dilation
        h, w = gradient.shape[2:]
        if p_h or p_w:
            x = functional.pad(x, (p_w, p_w, p_h, p_h))
        for i, j in itertools.product(range(self.kernel[0]), range(self.kernel[1])):
            rows = slice(i * d_h, i * d_h + (h - 1) * s_h + 1, s_h)
            columns = slice(j * d_w, j * d_w + (w - 1) * s_w + 1, s_w)
            yield self.positions(x[:, :, rows, columns])

    def clipped_taps(self, x: Tensor, gradient: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Per tap, the inputs (n T c_in) it meets inside the map and the output gradients (n T c_out) there.

        With the channels last in memory, `gradient`'s at least, both are views for all taps of a column of the kernel,
        which is why `upright` makes kernels high rather than wide.
        """
        (p_h, p_w), (s_h, s_w), (d_h, d_w) = self.padding, self.stride, self.dilation
        h, w = gradient.shape[2:]
        gradient, x = gradient.permute(0, 2, 3, 1), x.permute(0, 2, 3, 1)
        if p_w:
            x = functional.pad(x, (0, 0, p_w, p_w))
        for j in range(self.kernel[1]):
            column = x[:, :, j * d_w : j * d_w + (w - 1) * s_w + 1 : s_w]
            every: dict[int, Tensor] = {}
            for i in range(self.kernel[0]):
                # output row r meets input row r * stride + i * dilation - padding
                start, first = divmod(i * d_h - p_h, s_h)
                if first not in every:
                    every[first] = column[:, first::s_h].contiguous()
                low = max(0, -start)
                high = max(low, min(h, every[first].shape[1] - start))
                yield every[first][:, low + start : high + start].flatten(1, 2), gradient[:, low:high].flatten(1, 2)

    def upright(self, x: Tensor, gradient: Tensor) -> "tuple[Convolution, Tensor, Tensor]":
        """The same layer with height and width exchanged where that makes the kernel higher than wide."""
        if self.kernel[0] >= self.kernel[1]:
            return self, x, gradient
        sizes = (getattr(self, name)[::-1] for name in ("kernel", "stride", "padding", "dilation"))
        turned = (part.transpose(2, 3).contiguous(memory_format=torch.channels_last) for part in (x, gradient))
        return Convolution(*sizes, self.n_groups), *turned

    def positions(self, gradient: Tensor) -> Tensor:
        """Output gradients (n T c_out)."""
        if gradient.stride(1) == 1:
            return gradient.permute(0, 2, 3, 1).flatten(1, 2)
        return gradient.flatten(2).mT


Layer = LinearMap | Convolution


def gram(layer: Layer, x: Tensor, gradient: Tensor, weight: Tensor) -> Tensor:
    """Gram (n n) of the per-sample weight gradients of one layer, in the dtype of its inputs.

    Args:
        x: the layer's input, samples first.
        gradient: gradient at its output.
        weight: its weight; only the shape is read.
    """
    if pairs_are_cheaper(layer, gradient, weight):
        return _gram_of_pairs(layer, x, gradient)
    total = None
    for rows in weight_gradients(layer, x, gradient):
        total = outer(rows) if total is None else total + outer(rows)
        # given back before the next block is made, which then finds it in the cache
        del rows
    return total


def outer(rows: Tensor) -> Tensor:
    """Gram (n n) of rows (n p)."""
    return inner_products(rows, rows)


def pairs_are_cheaper(layer: Layer, gradient: Tensor, weight: Tensor) -> bool:
    """Whether the form of position pairs needs fewer products than the materialised one, and fits."""
    n, n_positions, _ = layer.positions(gradient).shape
    pairs = n * n * n_positions * n_positions
    products = pairs * (weight[0].numel() + weight.shape[0])
    materialised = n * n_positions * weight.numel() + n * n * weight.numel()
    return layer.n_groups == 1 and pairs <= MOST_PAIRS and products < materialised


def _gram_of_pairs(layer: Layer, x: Tensor, gradient: Tensor) -> Tensor:
    inputs = torch.cat(list(layer.taps(x, gradient)), dim=2)
    outputs = layer.positions(gradient)
    n, n_positions, _ = outputs.shape
    inputs, outputs = inputs.flatten(0, 1), outputs.flatten(0, 1)
    pairs = outer(inputs).mul_(outer(outputs))
    return pairs.view(n, n_positions, n, n_positions).sum((1, 3))


def is_depthwise(layer: Layer, weight: Tensor) -> bool:
    """Whether every channel has a kernel of its own."""
    return layer.n_groups == weight.shape[0] > 1 and weight.shape[1] == 1


def weight_gradients(layer: Layer, x: Tensor, gradient: Tensor) -> Iterator[Tensor]:
    """Per-sample weight gradients (n p_k), in blocks that together hold every entry of the weight once."""
    n, groups, is_map = len(x), layer.n_groups, isinstance(layer, Convolution)
    depthwise = is_map and groups == x.shape[1] == gradient.shape[1] > 1
    if depthwise and x.device.type == "cpu":
        layer, x, gradient = without_dilation(layer, x, gradient)
        if layer.dilation == (1, 1):
            yield _as_more_channels(layer, x, gradient)
            return
    if is_map and groups == 1 and layer.n_taps > 1 and x.device.type == "cpu":
        if x.shape[1] * layer.n_taps <= MOST_UNFOLDED:
            yield torch.bmm(layer.positions(gradient).mT, torch.cat(list(layer.taps(x, gradient)), dim=2)).flatten(1)
            return
        layer, x, gradient = layer.upright(x, gradient)
        for inputs, outputs in layer.clipped_taps(x, gradient):
            yield torch.bmm(outputs.mT, inputs).flatten(1)
        return
    g = layer.positions(gradient)
    for tap in layer.taps(x, gradient):
        if groups == 1:
            yield torch.bmm(g.mT, tap).flatten(1)
        elif depthwise:
            yield (g * tap).sum(1)
        else:
            by_group = g.unflatten(2, (groups, -1)).permute(0, 2, 3, 1).flatten(0, 1)
            yield torch.bmm(by_group, tap.unflatten(2, (groups, -1)).transpose(1, 2).flatten(0, 1)).reshape(n, -1)


def without_dilation(layer: Convolution, x: Tensor, gradient: Tensor) -> tuple[Convolution, Tensor, Tensor]:
    """A depthwise convolution without dilation that has the same weight gradients, where there is one.

    With a stride equal to the dilation d only every d-th pixel is read. With stride 1 the pixels fall into d*d grids
    that do not meet; the result has them on a new first axis.
    """
    d = layer.dilation[0]
    if layer.dilation != (d, d) or d == 1 or layer.padding[0] % d or layer.padding[1] % d:
        return layer, x, gradient
    plain = replace(layer, stride=(1, 1), dilation=(1, 1), padding=(layer.padding[0] // d, layer.padding[1] // d))
    if layer.stride == (d, d):
        return plain, x[:, :, ::d, ::d], gradient
    if layer.stride == (1, 1) and not any(size % d for size in (*x.shape[2:], *gradient.shape[2:])):
        return plain, _grids(x, d), _grids(gradient, d)
    return layer, x, gradient


def _grids(x: Tensor, d: int) -> Tensor:
    """(d*d n c h/d w/d), a grid after the other, from (n c h w); in memory n and c come last."""
    grids = x.unflatten(3, (-1, d)).unflatten(2, (-1, d)).permute(3, 5, 2, 4, 0, 1).flatten(0, 1)
    return grids.permute(0, 3, 4, 1, 2)


def _as_more_channels(layer: Convolution, x: Tensor, gradient: Tensor) -> Tensor:
    """Per-sample gradients of a depthwise convolution: those of one with n*c channels, which has a fast rule."""
    n, c = x.shape[-4:-2]
    if x.ndim == 4 and x[0].numel() * x.element_size() >= LEAST_ALONE:
        like_weight = x.new_empty(c, 1, *layer.kernel)
        pairs = zip(gradient.split(1), x.split(1), strict=True)
        return torch.cat([_weight_gradient(layer, *pair, like_weight).reshape(1, -1) for pair in pairs])
    like_weight = x.new_empty(n * c, 1, *layer.kernel)
    return _weight_gradient(layer, _side_by_side(gradient), _side_by_side(x), like_weight).reshape(n, -1)


def _weight_gradient(layer: Convolution, gradient: Tensor, x: Tensor, like_weight: Tensor) -> Tensor:
    """Gradient of a depthwise convolution without dilation, summed over the first axis."""
    return torch.ops.aten.convolution_backward(
        gradient,
        x,
        like_weight,
        None,
        layer.stride,
        layer.padding,
        (1, 1),
        False,
        (0, 0),
        len(like_weight),
        (False, True, False),
    )[1]


def _side_by_side(x: Tensor) -> Tensor:
    """(grids, n*c, h, w), channels last in memory, from (grids n c h w) or (n c h w)."""
    x = x if x.ndim == 5 else x.unsqueeze(0)
    return x.permute(0, 3, 4, 1, 2).flatten(3).permute(0, 3, 1, 2)


def _convolve(x, weight, bias, stride, padding, dilation, n_groups, into=None) -> Tensor:
    if not has_onednn(x):
        return _added(functional.conv2d(x, weight, bias, stride, padding, dilation, n_groups), into)
    if into is not None and hasattr(torch.ops.mkldnn, "_convolution_pointwise_"):
        # adds while the result is in the cache
        return torch.ops.mkldnn._convolution_pointwise_.binary(
            into, x, weight, bias, padding, stride, dilation, n_groups, "add", 1.0, None, [], ""
        )
    # torch takes its slow path for 1x1 kernels on batches of 16 and less; this asks for oneDNN by name
    return _added(torch.mkldnn_convolution(x, weight, bias, padding, stride, dilation, n_groups), into)


def _added(value: Tensor, into: Tensor | None) -> Tensor:
    return value if into is None else into.add_(value)


@dataclass(frozen=True)
class _Phase:
    """Along one axis, the inputs first, first + stride, ... of a convolution and how gradients come back to them.

    Attributes:
        size: how many inputs.
        taps: the taps that meet them.
        padding: zeros on either side of the output gradients, for a convolution of stride 1 with the turned taps.
        start: where its results begin.
    """

    first: int
    size: int
    taps: slice
    padding: int
    start: int


def _phases(size: int, n_out: int, kernel: int, stride: int, padding: int, dilation: int) -> Iterator[_Phase]:
    """The inputs by their remainder modulo the stride, without those that no tap meets.

    Input first + stride * m meets, with tap k, the output m + (first + padding - k * dilation) / stride where that is
    whole, so that a remainder has taps of its own and none of the products is with a zero that a stride left.
    """
    common = math.gcd(stride, dilation)
    for first in range(min(stride, size)):
        meeting = (k for k in range(min(kernel, stride // common)) if (first + padding - k * dilation) % stride == 0)
        offset = next(meeting, None)
        if offset is None:
            continue
        taps = slice(offset, None, stride // common)
        reach = (len(range(kernel)[taps]) - 1) * (dilation // common)
        before = reach - (first + padding - offset * dilation) // stride
        n = len(range(first, size, stride))
        margin = max(0, before, n + reach - before - n_out)
        yield _Phase(first, n, taps, margin, margin - before)
