"""The fast engine: one forward and one backward pass for all images.

Calls of convolutions and linear maps are rerouted, for the time of the forward pass, to an autograd function whose
backward takes the layer's Gram the moment its output gradient exists and then forgets both. Gradients of weights are
never summed over images, operations that do not run cost nothing, and neither modules nor parameters are touched.

Outputs of depthwise convolutions that feed another weighted layer are not kept for the backward pass: computing them
again costs less than the memory they would take. With `low_memory` the same goes for all weighted layers in front of
another one or of a GroupNorm.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from pipeline.kernels import layers
from pipeline.kernels.engines import ENGINES
from pipeline.kernels.errors import UnsupportedLayerError

MOST_RECOMPUTED = 2
"""Layers in a row that low_memory computes again for one activation."""


@ENGINES.register("fast")
def fast_grams(
    network: nn.Module, weights: dict[str, nn.Parameter], images: Tensor, *, low_memory: bool = False
) -> dict[str, Tensor]:
    """Gram (n n) float64 per weight."""
    images = _like_activations(images)
    tally = _Tally(weights, len(images), anchor=images.new_zeros(()).requires_grad_(), low_memory=low_memory)
    with _Rerouted(tally):
        outputs = network(images)
    if outputs.requires_grad:
        torch.autograd.grad(outputs.sum(), tally.anchor, allow_unused=True)
    return tally.close()


class _Tally:
    """Grams so far.

    Attributes:
        n: number of images.
        anchor: a scalar without effect that every weighted layer depends on, so that each gets an output gradient.
        low_memory: whether more activations than the cheapest are computed again rather than kept.
        uses: how often the forward pass used each weight.
    """

    def __init__(self, weights: dict[str, nn.Parameter], n: int, anchor: Tensor, low_memory: bool):
        self.names = {id(weight): name for name, weight in weights.items()}
        self.n, self.anchor, self.low_memory = n, anchor, low_memory
        self.uses: Counter[str] = Counter()
        self.grams: dict[str, Tensor] = {}
        self.gradients: dict[str, list[Tensor]] = {}

    def add(self, name: str, layer: layers.Layer, x: Tensor, gradient: Tensor, weight: Tensor) -> None:
        """Take in one use of a weight. The gradients of all its uses are summed before their Gram is taken."""
        if self.uses[name] == 1:
            self.grams[name] = layers.gram(layer, x, gradient, weight).double()
            return
        new = list(layers.weight_gradients(layer, x, gradient))
        before = self.gradients.get(name)
        self.gradients[name] = new if before is None else [a + b for a, b in zip(before, new, strict=True)]

    def close(self) -> dict[str, Tensor]:
        """All Grams, in the order of the network's weights."""
        for name, blocks in self.gradients.items():
            self.grams[name] = sum(layers.outer(rows) for rows in blocks).double()
        return {name: self.grams[name] for name in self.names.values() if name in self.grams}


class _Recipe:
    """How to compute a layer's output again, and whether it is still what the layer gave.

    Attributes:
        depth: layers that have to be computed for it.
    """

    def __init__(
        self, layer: layers.Layer, source: "Tensor | _Recipe", weight: Tensor, bias: Tensor | None, output: Tensor
    ):
        self.layer, self.source, self.weight, self.bias = layer, source, weight, bias
        self.depth = 1 + (source.depth if isinstance(source, _Recipe) else 0)
        self.version = output._version
        self.source_version = None if isinstance(source, _Recipe) else source._version

    def output(self) -> Tensor:
        """The output, anew. Raises UnsupportedLayerError when the input was overwritten in the meantime."""
        if isinstance(self.source, _Recipe):
            return self.layer(self.source.output(), self.weight, self.bias)
        if self.source._version != self.source_version:
            raise UnsupportedLayerError(
                "The input of a convolution was changed in place after the convolution had read it. Use no in-place "
                "operations in the network, or engine='loop'."
            )
        return self.layer(self.source, self.weight, self.bias)


def _recipe_of(x: Tensor) -> _Recipe | None:
    recipe = getattr(x, "_recipe", None)
    return recipe if recipe is not None and recipe.version == x._version else None


class _Weighted(torch.autograd.Function):
    """A weighted layer that reports its output gradient to the tally on the way back."""

    @staticmethod
    def forward(ctx, anchor, x, weight, bias, layer, name, tally, recipe):
        ctx.layer, ctx.name, ctx.tally, ctx.recipe = layer, name, tally, recipe
        ctx.save_for_backward(weight, *(() if recipe else (x,)))
        return layer(x, weight, bias)

    @staticmethod
    def backward(ctx, gradient):
        weight, *kept = ctx.saved_tensors
        x = kept[0] if kept else ctx.recipe.output()
        ctx.recipe = None
        gradient = _like_activations(gradient)
        ctx.tally.add(ctx.name, ctx.layer, x, gradient, weight)
        back = ctx.layer.input_gradient(gradient, x, weight) if ctx.needs_input_grad[1] else None
        return None, back, None, None, None, None, None, None


def _weighted(tally: _Tally, x: Tensor, weight: Tensor, bias: Tensor | None, layer: layers.Layer, name: str) -> Tensor:
    recipe = _recipe_of(x)
    tally.uses[name] += 1
    weight = weight.detach()
    output = _Weighted.apply(tally.anchor, x, weight, bias, layer, name, tally, recipe)
    depth = recipe.depth if recipe else 0
    if depth < MOST_RECOMPUTED if tally.low_memory else depth == 0 and layers.is_depthwise(layer, weight):
        output._recipe = _Recipe(layer, recipe or x.detach(), weight, bias, output)
    return output


class _GroupNorm(torch.autograd.Function):
    """GroupNorm on maps with the channels last, differentiable in its input only.

    In this layout torch's own forward does not centre before it squares; its error moves activations near zero to the
    other side of the next ReLU.
    """

    @staticmethod
    def forward(ctx, x, n_groups, weight, bias, eps, recipe):
        _, c, h, w = x.shape
        ctx.n_groups, ctx.recipe = n_groups, recipe
        scale = x.new_ones(c) if weight is None else weight
        shift = x.new_zeros(c) if bias is None else bias
        rows = x.permute(0, 2, 3, 1).flatten(1, 2)
        mean = _group_mean(rows.sum(1), n_groups, h * w)
        centred = rows - _per_channel(mean, c)
        variance = _group_mean((centred * centred).sum(1), n_groups, h * w)
        rstd = torch.rsqrt(variance + eps)
        # the input may be shared with other layers, so keeping it costs least
        ctx.save_for_backward(mean, rstd, scale, *(() if recipe else (x,)))
        output = torch.addcmul(shift, centred, _per_channel(rstd, c) * scale)
        return output.unflatten(1, (h, w)).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx, gradient):
        mean, rstd, scale, *kept = ctx.saved_tensors
        x = kept[0] if kept else ctx.recipe.output()
        ctx.recipe = None
        _, c, h, w = x.shape
        gradient = _like_activations(gradient).permute(0, 2, 3, 1).flatten(1, 2)
        rows = x.permute(0, 2, 3, 1).flatten(1, 2)
        # with z = rstd (x - mean) and s = scale gradient: rstd (s - mean(s) - z mean(z s)), the means over a group
        mean, rstd = _per_channel(mean, c), _per_channel(rstd, c)
        total = gradient.sum(1, keepdim=True)
        along = (gradient * rows).sum(1, keepdim=True) - mean * total
        flat, sloped = (
            _per_channel(_group_mean((scale * part).squeeze(1), ctx.n_groups, h * w), c) for part in (total, along)
        )
        slope = rstd.pow(3) * sloped
        back = torch.addcmul(slope * mean - rstd * flat, gradient, rstd * scale).addcmul_(rows, slope, value=-1)
        return back.unflatten(1, (h, w)).permute(0, 3, 1, 2), None, None, None, None, None


def _group_mean(sums: Tensor, n_groups: int, n_positions: int) -> Tensor:
    """(n n_groups) means from sums over positions (n c)."""
    by_group = sums.unflatten(1, (n_groups, -1))
    return by_group.sum(2) / (by_group.shape[2] * n_positions)


def _per_channel(by_group: Tensor, c: int) -> Tensor:
    """(n 1 c) from (n n_groups)."""
    return by_group.repeat_interleave(c // by_group.shape[1], 1).unsqueeze(1)


def _group_norm(tally, input, num_groups, weight=None, bias=None, eps=1e-5, cudnn_enabled=True):
    if input.ndim != 4 or input.device.type != "cpu":
        return torch.group_norm(input, num_groups, weight, bias, eps)
    parts = [None if part is None else part.detach() for part in (weight, bias)]
    recipe = _recipe_of(input) if tally.low_memory else None
    return _GroupNorm.apply(_like_activations(input), num_groups, *parts, eps, recipe)


class _Rerouted(TorchFunctionMode):
    """Sends calls that use a counted weight to `_Weighted`, and refuses those it has no rule for."""

    def __init__(self, tally: _Tally):
        super().__init__()
        self.tally = tally

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        rule = _RULES.get(function)
        if rule is not None:
            return rule(self.tally, *args, **kwargs)
        result = function(*args, **kwargs)
        if isinstance(result, Tensor):
            self._refuse(function, args, kwargs)
        return result

    def _refuse(self, function: Callable, args: tuple, kwargs: dict[str, Any]) -> None:
        for argument in (*args, *kwargs.values()):
            name = self.tally.names.get(id(argument))
            if name is not None:
                raise UnsupportedLayerError(
                    f"The weight '{name}' is used by {getattr(function, '__name__', function)}, for which the fast "
                    "engine has no rule (it has conv2d and linear). Use engine='loop', or add a rule to "
                    "pipeline/kernels/engines/fast.py."
                )


def _conv2d(tally, input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    name = _name_of(tally, weight, "conv2d", input)
    stride, dilation = _pair(stride), _pair(dilation)
    kernel = tuple(weight.shape[2:])
    if padding == "same":
        input, padding = _pad_same(input, kernel, dilation)
    elif padding == "valid":
        padding = (0, 0)
    layer = layers.Convolution(kernel, stride, _pair(padding), dilation, groups)
    if name is None:
        return layer(input, weight, bias)
    return _weighted(tally, _like_activations(input), weight, bias, layer, name)


def _linear(tally, input, weight, bias=None):
    name = _name_of(tally, weight, "linear", input)
    layer = layers.LinearMap()
    if name is None:
        return layer(input, weight, bias)
    return _weighted(tally, input, weight, bias, layer, name)


_RULES: dict[Callable, Callable[..., Tensor]] = {
    functional.conv2d: _conv2d,
    functional.linear: _linear,
    functional.group_norm: _group_norm,
    torch.group_norm: _group_norm,
}


def _name_of(tally: _Tally, weight: Tensor, function: str, x: Tensor) -> str | None:
    """The counted weight's name, None for a constant. Refuses computed weights."""
    name = tally.names.get(id(weight))
    if name is None:
        if weight.grad_fn is not None:
            raise UnsupportedLayerError(
                f"A {function} of the network uses a weight that is computed from others (a parametrisation, weight "
                "norm or a shared generator). The fast engine needs plain weights: use engine='loop'."
            )
        return None
    if len(x) != tally.n:
        raise UnsupportedLayerError(
            f"The input of '{name}' has {len(x)} rows for {tally.n} images. The fast engine needs the images on the "
            "first axis of every layer's input: use engine='loop'."
        )
    return name


def _like_activations(x: Tensor) -> Tensor:
    """Maps on a CPU with the channels last, where convolutions and pools are several times faster."""
    if x.ndim == 4 and x.device.type == "cpu":
        return x.contiguous(memory_format=torch.channels_last)
    return x.contiguous()


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    if isinstance(value, int):
        return (value, value)
    value = tuple(value)
    return value * 2 if len(value) == 1 else value


def _pad_same(x: Tensor, kernel: tuple[int, int], dilation: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
    """What `padding='same'` means: the odd pixel, where there is one, goes to the far side."""
    total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    odd = [t % 2 for t in total]
    if any(odd):
        x = functional.pad(x, (0, odd[1], 0, odd[0]))
    return x, (total[0] // 2, total[1] // 2)
