"""The fast engine: one forward and one backward pass for all images.

Calls of convolutions and linear maps are rerouted, for the time of the forward pass, to an autograd function whose
backward takes the layer's Gram the moment its output gradient exists and then forgets both. Gradients of weights are
never summed over images, operations that do not run cost nothing, and neither modules nor parameters are touched.

GroupNorms of maps are computed as part of the sum, or of the ReLU, that they go into, and the gradients of all layers
that read one ReLU are added up by the layers: memory traffic takes as long as the products of matrices.

With `low_memory` the outputs of weighted layers in front of another one or of a GroupNorm are computed again rather
than kept for the backward pass.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from pipeline.kernels import layers, maps
from pipeline.kernels.engines import ENGINES
from pipeline.kernels.errors import UnsupportedLayerError

MOST_RECOMPUTED = 2
"""Layers in a row that low_memory computes again for one activation."""
_IN_PLACE = (
    "The input of {} was changed in place after it had been read. Use no in-place operations in the network, or "
    "engine='loop'."
)


@ENGINES.register("fast")
def fast_grams(
    network: nn.Module, weights: dict[str, nn.Parameter], images: Tensor, *, low_memory: bool = False
) -> dict[str, Tensor]:
    """Gram (n n) float64 per weight."""
    images = _like_activations(images)
    tally = _Tally(weights, len(images), anchor=images.new_zeros(()).requires_grad_(), low_memory=low_memory)
    with _Rerouted(tally):
        outputs = _computed(network(images))
    if outputs.requires_grad:
        try:
            torch.autograd.grad(outputs.sum(), tally.anchor, allow_unused=True)
        except RuntimeError as error:
            if "modified by an inplace operation" in str(error):
                raise UnsupportedLayerError(_IN_PLACE.format("a layer")) from error
            raise
    return tally.close()


class _Tally:
    """Grams so far.

    Attributes:
        n: number of images.
        anchor: a scalar without effect that every weighted layer depends on, so that each gets an output gradient.
        low_memory: whether outputs of weighted layers are computed again rather than kept.
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
            raise UnsupportedLayerError(_IN_PLACE.format("a layer"))
        return self.layer(self.source, self.weight, self.bias)


def _recipe_of(x: Tensor) -> _Recipe | None:
    recipe = getattr(x, "_recipe", None)
    return recipe if recipe is not None and recipe.version == x._version else None


class _Weighted(torch.autograd.Function):
    """A weighted layer that reports its output gradient to the tally on the way back."""

    @staticmethod
    def forward(ctx, anchor, x, weight, bias, layer, name, tally, recipe, sink):
        ctx.layer, ctx.name, ctx.tally, ctx.recipe, ctx.sink = layer, name, tally, recipe, sink
        ctx.save_for_backward(weight, *(() if recipe else (x,)))
        return layer(x, weight, bias)

    @staticmethod
    def backward(ctx, gradient):
        weight, *kept = ctx.saved_tensors
        x = kept[0] if kept else ctx.recipe.output()
        ctx.recipe = None
        gradient = _like_activations(gradient)
        ctx.tally.add(ctx.name, ctx.layer, x, gradient, weight)
        back = None
        if ctx.needs_input_grad[1]:
            back = ctx.layer.input_gradient(gradient, x, weight, ctx.sink and ctx.sink.gradient)
            if ctx.sink is not None:
                ctx.sink.gradient, back = back, None
        return None, back, None, None, None, None, None, None, None


def _weighted(tally: _Tally, x: Tensor, weight: Tensor, bias: Tensor | None, layer: layers.Layer, name: str) -> Tensor:
    recipe = _recipe_of(x)
    tally.uses[name] += 1
    weight = weight.detach()
    output = _Weighted.apply(tally.anchor, x, weight, bias, layer, name, tally, recipe, _sink_of(x))
    depth = recipe.depth if recipe else 0
    if tally.low_memory and depth < MOST_RECOMPUTED:
        output._recipe = _Recipe(layer, recipe or x.detach(), weight, bias, output)
    return output


class _Sink:
    """Where the layers that read one map add up their gradients, in place of a tensor each.

    Attributes:
        gradient: the sum so far, None before the first.
    """

    def __init__(self, x: Tensor):
        self.version = x._version
        self.gradient: Tensor | None = None

    def close(self, other: Tensor | None) -> Tensor | None:
        """All gradients at the map, `other` those that came another way; the sink is empty afterwards."""
        total, self.gradient = self.gradient, None
        if total is None or other is None:
            return other if total is None else total
        return total.add_(other)


def _sink_of(x: Tensor) -> _Sink | None:
    sink = getattr(x, "_sink", None)
    return sink if sink is not None and sink.version == x._version else None


class _Rectified(torch.autograd.Function):
    """ReLU of a map; layers that read it add their gradients to a sink."""

    @staticmethod
    def forward(ctx, x, sinks):
        ctx.set_materialize_grads(False)
        output = x.clamp_min(0)
        ctx.sink = _Sink(output)
        sinks.append(ctx.sink)
        ctx.save_for_backward(output)
        return output

    @staticmethod
    def backward(ctx, gradient):
        return _through_relu(ctx.sink.close(gradient), *ctx.saved_tensors), None


class _Padded(torch.autograd.Function):
    """A map with zeros around it, or cropped; layers that read it add their gradients to a sink, and it adds to one."""

    @staticmethod
    def forward(ctx, x, pad, sinks, source):
        ctx.set_materialize_grads(False)
        output = functional.pad(x, pad)
        ctx.pad, ctx.source, ctx.sink = pad, source, _Sink(output)
        sinks.append(ctx.sink)
        return output

    @staticmethod
    def backward(ctx, gradient):
        total = ctx.sink.close(gradient)
        if total is not None:
            total = functional.pad(total, [-size for size in ctx.pad])
            ctx.source.gradient = total if ctx.source.gradient is None else ctx.source.gradient.add_(total)
        return None, None, None, None


def _through_relu(gradient: Tensor | None, output: Tensor) -> Tensor | None:
    return None if gradient is None else torch.ops.aten.threshold_backward(_like_activations(gradient), output, 0)


class _Normed(torch.autograd.Function):
    """A GroupNorm on maps with the channels last, differentiable in its input only; its output takes no memory.

    What it stands for is computed as part of the sum it goes into (`_Combined`).
    """

    @staticmethod
    def forward(ctx, x, mean, rstd, weight, n_groups, recipe):
        ctx.n_groups, ctx.recipe = n_groups, recipe
        # the input may be shared with other layers, so keeping it costs least
        ctx.save_for_backward(mean, rstd, weight, *(() if recipe else (x,)))
        return x.new_empty(()).expand(x.shape)

    @staticmethod
    def backward(ctx, gradient):
        mean, rstd, weight, *kept = ctx.saved_tensors
        x = kept[0] if kept else ctx.recipe.output()
        ctx.recipe = None
        gradient = _like_activations(gradient)
        total = _sum_over_positions(gradient)
        rows = maps.moments_back(maps.as_rows(gradient), total, maps.as_rows(x), mean, rstd, weight, ctx.n_groups)
        return maps.as_map(rows, x.shape), None, None, None, None, None


def _sum_over_positions(gradient: Tensor) -> Tensor:
    """Sums (n 1 c), computed once for all norms that go into one sum."""
    version, total = getattr(gradient, "_total", (None, None))
    if version != gradient._version:
        total = maps.as_rows(gradient).sum(1, keepdim=True)
        gradient._total = gradient._version, total
    return total


class _Part:
    """A map that goes into a sum, times a number, as it is or through a GroupNorm.

    Attributes:
        node: what autograd follows back: the map itself, or the output of `_Normed`.
        scale, shift: (n 1 c), the norm as an affine map; None without a norm.
    """

    def __init__(
        self, node: Tensor, x: Tensor, factor: float, scale: Tensor | None = None, shift: Tensor | None = None
    ):
        self.node, self.x, self.factor, self.scale, self.shift = node, x, factor, scale, shift
        self.version = x._version

    def times(self, factor: float) -> "_Part":
        part = _Part(self.node, self.x, self.factor * factor, self.scale, self.shift)
        part.version = self.version
        return part


class _Combined(torch.autograd.Function):
    """The sum of parts, or its ReLU, in one pass."""

    @staticmethod
    def forward(ctx, parts, sinks, *nodes):
        ctx.set_materialize_grads(False)
        ctx.factors = [part.factor for part in parts]
        normed, plain = ([part for part in parts if (part.scale is None) is without] for without in (False, True))
        scaled = [(maps.as_rows(part.x), part.scale * part.factor) for part in normed]
        shift = sum(part.shift * part.factor for part in normed) if normed else None
        added = [(maps.as_rows(_like_activations(part.x)), part.factor) for part in plain]
        output = maps.as_map(maps.combination(scaled, shift, added, sinks is not None), parts[0].x.shape)
        ctx.sink = None
        if sinks is not None:
            ctx.sink = _Sink(output)
            sinks.append(ctx.sink)
            ctx.save_for_backward(output)
        return output

    @staticmethod
    def backward(ctx, gradient):
        if ctx.sink is not None:
            gradient = _through_relu(ctx.sink.close(gradient), *ctx.saved_tensors)
        if gradient is None:
            return None, None, *(None for _ in ctx.factors)
        gradient = _like_activations(gradient)
        by_factor = {factor: gradient if factor == 1 else gradient * factor for factor in set(ctx.factors)}
        return None, None, *(by_factor[factor] for factor in ctx.factors)


class _Pending(Tensor):
    """A sum of parts that is computed when something other than a sum, a multiple or a ReLU asks for it.

    Without it every normalised map would be written, and read again for the sum over the operations of a node.
    """

    @staticmethod
    def __new__(cls, parts: list[_Part]) -> "_Pending":
        like = parts[0].x
        return Tensor._make_wrapper_subclass(cls, like.shape, dtype=like.dtype, device=like.device)

    def __init__(self, parts: list[_Part]):
        self._parts: list[_Part] = parts
        self._value: Tensor | None = None

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return function(*_computed(args), **_computed(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        raise UnsupportedLayerError(
            f"{function} was called on a sum that the fast engine has put off. Use engine='loop'."
        )


def _computed(value: Any) -> Any:
    """`value` with the pending sums in it computed."""
    if type(value) is _Pending:
        if vars(value)["_value"] is None:
            vars(value)["_value"] = _combine(vars(value)["_parts"], None)
        return vars(value)["_value"]
    if isinstance(value, tuple | list):
        return type(value)(_computed(item) for item in value) if type(value) in (tuple, list) else value
    if isinstance(value, dict):
        return {key: _computed(item) for key, item in value.items()}
    return value


def _combine(parts: list[_Part], sinks: list[_Sink] | None) -> Tensor:
    if any(part.x._version != part.version for part in parts):
        raise UnsupportedLayerError(_IN_PLACE.format("a norm or of a sum"))
    return _Combined.apply(parts, sinks, *(part.node for part in parts))


def _is_pending(value: Any) -> bool:
    """Whether it is a sum whose value nobody has asked for."""
    return type(value) is _Pending and vars(value)["_value"] is None


def _parts_of(value: Any) -> list[_Part] | None:
    """The parts of a pending sum whose value nobody has asked for, or of a map; None for anything else."""
    if _is_pending(value):
        return vars(value)["_parts"]
    value = _computed(value)
    return [_Part(value, value, 1.0)] if isinstance(value, Tensor) and _is_map(value) else None


def _is_map(x: Tensor) -> bool:
    return x.ndim == 4 and x.device.type == "cpu"


def _add(input, other, **kwargs):
    if kwargs or _Pending not in (type(input), type(other)):
        return NotImplemented
    left, right = _parts_of(input), _parts_of(other)
    if left is None or right is None:
        return NotImplemented
    alike = left[0].x.shape == right[0].x.shape and left[0].x.dtype == right[0].x.dtype
    return _Pending(left + right) if alike else NotImplemented


def _multiply(input, other, **kwargs):
    if kwargs or not isinstance(other, int | float) or not _is_pending(input):
        return NotImplemented
    # a weighted sum is complete: several operations are about to read it
    return _combine([part.times(other) for part in _parts_of(input)], None)


def _relu(input, inplace=False, **kwargs):
    parts = _parts_of(input)
    if inplace or kwargs or parts is None:
        return NotImplemented
    sinks: list[_Sink] = []
    if _is_pending(input) and len(parts) == 1:
        output = _combine(parts, sinks)
    else:
        output = _Rectified.apply(_like_activations(_computed(input)), sinks)
    output._sink = sinks[0]
    return output


def _pad(input, pad, mode="constant", value=None):
    input = _computed(input)
    sink = _sink_of(input)
    if sink is None or mode != "constant" or value or input.ndim != 4:
        return NotImplemented
    # several layers shift one map alike
    done = vars(input).setdefault("_padded", {})
    output = done.get(tuple(pad))
    if output is None or _sink_of(output) is None:
        sinks: list[_Sink] = []
        output = done[tuple(pad)] = _Padded.apply(input, tuple(pad), sinks, sink)
        output._sink = sinks[0]
    return output


def _group_norm(tally, input, num_groups, weight=None, bias=None, eps=1e-5, cudnn_enabled=True):
    input = _computed(input)
    if not _is_map(input):
        return torch.group_norm(input, num_groups, weight, bias, eps)
    recipe = _recipe_of(input) if tally.low_memory else None
    x = _like_activations(input)
    c = x.shape[1]
    scale, shift = (
        x.new_full((c,), fill) if part is None else part.detach() for part, fill in ((weight, 1), (bias, 0))
    )
    # many norms may read one map, such as a pool's; where they scale alike their gradients are added up first
    key, known = getattr(input, "_moments", (None, None))
    if key != (input._version, num_groups, eps):
        mean, rstd = maps.moments(maps.as_rows(x.detach()), num_groups, eps)
        key, known = (input._version, num_groups, eps), [mean, rstd, None, None]
        input._moments = key, known
    mean, rstd, same_scale, node = known
    if node is None or not torch.equal(same_scale, scale):
        node = _Normed.apply(x, mean, rstd, scale, num_groups, recipe)
        known[2:] = scale, node
    gain = rstd * scale
    return _Pending([_Part(node, x.detach(), 1.0, gain, torch.addcmul(shift, mean, gain, value=-1))])


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
        short_cut = _SHORT_CUTS.get(function)
        result = NotImplemented if short_cut is None else short_cut(*args, **kwargs)
        if result is NotImplemented:
            result = function(*_computed(args), **_computed(kwargs))
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
    input = _computed(input)
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
    input = _computed(input)
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


_SHORT_CUTS: dict[Callable, Callable[..., Tensor]] = {
    functional.pad: _pad,
    functional.relu: _relu,
    torch.relu: _relu,
    Tensor.relu: _relu,
    Tensor.add: _add,
    torch.add: _add,
    Tensor.mul: _multiply,
    torch.mul: _multiply,
}
"""Faster ways through functions without weights; NotImplemented where there is none."""


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
