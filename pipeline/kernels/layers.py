"""Gram matrices of per-sample weight gradients, layer by layer, from the layer's inputs and output gradients.

With x_n the input and g_n the output gradient of sample n, the weight gradient of a linear map applied at the
positions t is G_n = sum_t g_n[t] x_n[t]'. Its Gram has two forms with equal results:

- materialised: K[n, m] = <G_n, G_m>, about n T p + n^2 p products for a weight of p entries;
- position pairs: K[n, m] = sum_{t, s} (g_n[t]' g_m[s]) (x_n[t]' x_m[s]), about n^2 T^2 (c_in + c_out) products
  (the algebra of ghost norms, Goodfellow 2015, extended from norms to pairs).

`gram` takes the cheaper one.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

MOST_PAIRS = 1 << 24
"""Largest matrix of position pairs that is formed, in entries."""


@dataclass(frozen=True)
class LinearMap:
    """A linear layer on the last axis."""

    @property
    def n_groups(self) -> int:
        return 1

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return functional.linear(x, weight, bias)

    def input_gradient(self, gradient: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        return gradient @ weight

    def taps(self, x: Tensor, gradient: Tensor) -> Iterator[Tensor]:
        """Inputs (n c_in T) that each tap of the weight meets: here one."""
        yield x.reshape(len(x), -1, x.shape[-1]).mT

    def positions(self, gradient: Tensor) -> Tensor:
        """Output gradients (n c_out T)."""
        return gradient.reshape(len(gradient), -1, gradient.shape[-1]).mT


@dataclass(frozen=True)
class Convolution:
    """A 2-d convolution's geometry; a weight is (c_out, c_in / n_groups, *kernel)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    n_groups: int

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return functional.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.n_groups)

    def input_gradient(self, gradient: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """Gradient at the input (n c_in h w) from the one at the output."""
        if self._turns(weight):
            # CPU libraries have no fast backward for dilated depthwise convolutions, but a fast forward
            padding = tuple(d * (k - 1) - p for d, k, p in zip(self.dilation, self.kernel, self.padding, strict=True))
            return functional.conv2d(gradient, weight.flip(2, 3), None, 1, padding, self.dilation, self.n_groups)
        return torch.ops.aten.convolution_backward(
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

    def _turns(self, weight: Tensor) -> bool:
        fits = all(p <= d * (k - 1) for d, k, p in zip(self.dilation, self.kernel, self.padding, strict=True))
        depthwise = weight.shape[1] == 1 and weight.shape[0] == self.n_groups > 1
        return depthwise and self.stride == (1, 1) and max(self.dilation) > 1 and fits and not weight.is_cuda

    def taps(self, x: Tensor, gradient: Tensor) -> Iterator[Tensor]:
        """Inputs (n c_in T) that each of the kernel's taps meets, T the output positions."""
        (p_h, p_w), (s_h, s_w), (d_h, d_w) = self.padding, self.stride, self.dilation
        h, w = gradient.shape[2:]
        if p_h or p_w:
            x = functional.pad(x, (p_w, p_w, p_h, p_h))
        for i, j in itertools.product(range(self.kernel[0]), range(self.kernel[1])):
            rows = slice(i * d_h, i * d_h + (h - 1) * s_h + 1, s_h)
            columns = slice(j * d_w, j * d_w + (w - 1) * s_w + 1, s_w)
            yield x[:, :, rows, columns].flatten(2)

    def positions(self, gradient: Tensor) -> Tensor:
        """Output gradients (n c_out T)."""
        return gradient.flatten(2)


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
    total = gradient.new_zeros(len(x), len(x))
    for rows in weight_gradients(layer, x, gradient, weight):
        total.addmm_(rows, rows.mT)
    return total


def pairs_are_cheaper(layer: Layer, gradient: Tensor, weight: Tensor) -> bool:
    """Whether the form of position pairs needs fewer products than the materialised one, and fits."""
    n, n_positions = len(gradient), layer.positions(gradient).shape[2]
    pairs = n * n * n_positions * n_positions
    products = pairs * (weight[0].numel() + weight.shape[0])
    materialised = n * n_positions * weight.numel() + n * n * weight.numel()
    return layer.n_groups == 1 and pairs <= MOST_PAIRS and products < materialised


def weight_gradients(layer: Layer, x: Tensor, gradient: Tensor, weight: Tensor) -> Iterator[Tensor]:
    """Per-sample weight gradients (n, c_out * c_in / n_groups), one tap of the kernel at a time."""
    n, groups, g = len(x), layer.n_groups, layer.positions(gradient)
    if groups == 1:
        for tap in layer.taps(x, gradient):
            yield torch.bmm(g, tap.mT).flatten(1)
    elif weight.shape[1] == 1:
        by_input = g.unflatten(1, (groups, -1))
        for tap in layer.taps(x, gradient):
            yield (by_input * tap.unsqueeze(2)).sum(3).flatten(1)
    else:
        by_group = g.unflatten(1, (groups, -1)).flatten(0, 1)
        for tap in layer.taps(x, gradient):
            yield torch.bmm(by_group, tap.unflatten(1, (groups, -1)).flatten(0, 1).mT).reshape(n, -1)


def _gram_of_pairs(layer: Layer, x: Tensor, gradient: Tensor) -> Tensor:
    n = len(x)
    inputs = torch.cat(list(layer.taps(x, gradient)), dim=1).mT.flatten(0, 1)
    outputs = layer.positions(gradient).mT.flatten(0, 1)
    pairs = (inputs @ inputs.mT) * (outputs @ outputs.mT)
    return pairs.view(n, len(pairs) // n, n, -1).sum((1, 3))
