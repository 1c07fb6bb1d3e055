"""The fast engine: one forward and one backward pass for all samples.

Calls of convolutions and linear maps are rerouted, for the time of one forward pass, to an autograd function whose
backward adds the layer's Gram the moment its output gradient exists and then forgets it. Gradients of weights are
never formed, operations that do not run cost nothing, and neither modules nor parameters are touched.
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


@ENGINES.register("fast")
def fast_grams(
    network: nn.Module, weights: dict[str, nn.Parameter], images: Tensor, *, low_memory: bool = False
) -> dict[str, Tensor]:
    """Gram (n n) float64 per weight."""
    if images.device.type == "cpu" and images.ndim == 4:
        images = images.contiguous(memory_format=torch.channels_last)
    tally = _Tally(weights, len(images), anchor=images.new_zeros(()).requires_grad_())
    with _Rerouted(tally):
        outputs = network(images)
    if outputs.requires_grad:
        torch.autograd.grad(outputs.sum(), tally.anchor, allow_unused=True)
    return tally.close()


class _Tally:
    """Grams so far.

    Attributes:
        anchor: a scalar without effect that every weighted layer depends on, so that each gets an output gradient.
    """

    def __init__(self, weights: dict[str, nn.Parameter], n: int, anchor: Tensor):
        self.names = {id(weight): name for name, weight in weights.items()}
        self.n, self.anchor = n, anchor
        self.uses: Counter[str] = Counter()
        self.grams: dict[str, Tensor] = {}
        self.rows: dict[str, list[Tensor]] = {}

    def add(self, name: str, layer: layers.Layer, x: Tensor, gradient: Tensor, weight: Tensor) -> None:
        """Count one use of a weight. Gradients of a weight with several uses are summed before their Gram is taken."""
        if self.uses[name] == 1:
            self.grams[name] = layers.gram(layer, x, gradient, weight).double()
            return
        new = list(layers.weight_gradients(layer, x, gradient, weight))
        before = self.rows.get(name)
        self.rows[name] = new if before is None else [a + b for a, b in zip(before, new, strict=True)]

    def close(self) -> dict[str, Tensor]:
        """All Grams, in the order of the network's weights."""
        for name, rows in self.rows.items():
            self.grams[name] = sum(block @ block.mT for block in rows).double()
        return {name: self.grams[name] for name in self.names.values() if name in self.grams}


class _Weighted(torch.autograd.Function):
    """A weighted layer that reports its output gradient to the tally on the way back."""

    @staticmethod
    def forward(ctx, anchor, x, weight, bias, layer, name, tally):
        ctx.layer, ctx.name, ctx.tally = layer, name, tally
        ctx.save_for_backward(x, weight)
        return layer(x, weight, bias)

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        gradient = _like_activations(gradient)
        ctx.tally.add(ctx.name, ctx.layer, x, gradient, weight)
        back = ctx.layer.input_gradient(gradient, x, weight) if ctx.needs_input_grad[1] else None
        return None, back, None, None, None, None, None


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
    return _Weighted.apply(tally.anchor, _like_activations(input), weight.detach(), bias, layer, name, tally)


def _linear(tally, input, weight, bias=None):
    name = _name_of(tally, weight, "linear", input)
    layer = layers.LinearMap()
    if name is None:
        return layer(input, weight, bias)
    return _Weighted.apply(tally.anchor, input, weight.detach(), bias, layer, name, tally)


_RULES: dict[Callable, Callable[..., Tensor]] = {functional.conv2d: _conv2d, functional.linear: _linear}


def _name_of(tally: _Tally, weight: Tensor, function: str, x: Tensor) -> str | None:
    """The counted weight's name, None for a constant; one more use is noted. Refuses computed weights."""
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
    tally.uses[name] += 1
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
