"""Reverse and forward mode for many directions at once, through layers that couple the images of a batch.

`torch.autograd.grad` goes back once for every cotangent. Here the recorded graph is walked once for a whole block of
them: a gradient is (m, *shape of the value), and the layers that cost time have rules of their own in which the
cotangents are further images of one large batch or further rows of one matrix product. Every other layer is asked for
one cotangent after the other, so any network is differentiated as torch does it, only some parts more slowly. The same
goes for tangents, which walk the graph from its leaves to its end.

Maps are kept with the channels last in memory, where these products and a CPU's convolutions of few channels are
fastest.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline.kernels import layers
from pipeline.kernels.products import inner_products, products_over_positions

MOST_BYTES = 16 << 20
"""About the size of the largest gradient of a block; larger ones leave the caches and cost new pages."""
MOST_KEPT_BYTES = 512 << 20
"""What is kept from one block for the next; beyond it, it is made anew."""
PATTERN_CHANNELS = 4
"""Channels up to which a BatchNorm is fastest as a product with patterns of whole maps; measured."""
DIAGONAL_CHANNELS = 64
"""Channels up to which a full product of channels is faster than that of each with itself; measured."""
LANES = 16
"""Numbers that a processor multiplies at once; measured."""

Gradients = tuple[Tensor | None, ...]


def jacobian(outputs: Tensor, leaves: Mapping[str, Tensor], rows: int | None = None) -> dict[str, Tensor]:
    """Jacobian (n p) of `outputs` (n,) in each of the leaves that take part in them.

    Args:
        outputs: the end of a recorded graph.
        leaves: tensors that require gradients, by name.
        rows: cotangents that go back together; chosen by the size of the activations where it is None.
    """
    graph = _Graph(outputs)
    n, used = len(outputs), {name: leaf for name, leaf in leaves.items() if id(leaf) in graph.leaves}
    if rows is None:
        rows = math.ceil(n / max(1, round(n * graph.largest_bytes / MOST_BYTES)))
    cotangents = torch.eye(n, dtype=outputs.dtype, device=outputs.device)
    result = {name: leaf.new_zeros(n, leaf.numel()) for name, leaf in used.items()}
    for start in range(0, n, rows):
        part = slice(start, start + rows)
        found = graph.backward(cotangents[part])
        for name, leaf in used.items():
            if id(leaf) in found:
                result[name][part] = found[id(leaf)].flatten(1)
    return result


def products(outputs: Tensor, leaves: Mapping[str, Tensor], directions: Mapping[str, Tensor]) -> Tensor:
    """Jacobian of `outputs` (n,) times k directions: (n k).

    Args:
        outputs: the end of a recorded graph.
        leaves: tensors that require gradients, by name.
        directions: (k *leaf) by the name of the leaf; the other leaves stay as they are.
    """
    graph = _Graph(outputs)
    k, step = len(next(iter(directions.values()))), max(1, MOST_BYTES // graph.largest_bytes)
    blocks = [
        graph.forward({id(leaves[name]): direction[start : start + step] for name, direction in directions.items()})
        for start in range(0, k, step)
    ]
    found = [block for block in blocks if block is not None]
    return torch.cat(found).mT if found else outputs.new_zeros(len(outputs), k)


class _Graph:
    """The recorded operations behind a tensor, those that come later first."""

    def __init__(self, outputs: Tensor):
        self.root = outputs.grad_fn
        self.order = _consumers_first(self.root)
        self.leaves = {id(node.variable) for node in self.order if hasattr(node, "variable")}
        self.blocked: dict[Any, _BlockedInput | None] = {}
        self.kept: dict[tuple, Tensor] = {}
        self.kept_bytes = 0
        saved = (getattr(node, name) for node in self.order for name in _saved_maps(node))
        self.largest_bytes = max((x.numel() * x.element_size() for x in saved), default=1)

    def keep(self, node, what: str, make: Callable[[], Tensor]) -> Tensor:
        """What `make` gives, which must not depend on cotangents; kept for the next block where there is room."""
        key = node, what
        if key in self.kept:
            return self.kept[key]
        made = make()
        size = made.numel() * made.element_size()
        if self.kept_bytes + size <= MOST_KEPT_BYTES:
            self.kept[key] = made
            self.kept_bytes += size
        return made

    @torch.no_grad()
    def backward(self, cotangents: Tensor) -> dict[int, Tensor]:
        """Gradients (m *leaf) by the leaf's identity."""
        pending = {(self.root, 0): _Gradient(cotangents.clone())}
        found = {}
        for node in self.order:
            leaf = getattr(node, "variable", None)
            n_values = 1 if leaf is not None else len(node._input_metadata)
            arrived = [pending.pop((node, place), None) for place in range(n_values)]
            if all(gradient is None for gradient in arrived):
                continue
            if leaf is not None:
                found[id(leaf)] = arrived[0].total
                continue
            for (source, place), gradient in zip(node.next_functions, _through(self, node, arrived), strict=True):
                if source is not None and gradient is not None:
                    key = source, place
                    pending[key] = pending[key].plus(gradient) if key in pending else gradient
        return found

    @torch.no_grad()
    def forward(self, directions: dict[int, Tensor]) -> Tensor | None:
        """Tangents (k *outputs) of the end from those of leaves, by identity; None where none of these takes part."""
        unread = Counter(edge for node in self.order for edge in node.next_functions)
        tangents: dict[tuple, Tensor] = {}
        for node in reversed(self.order):
            leaf = getattr(node, "variable", None)
            if leaf is not None:
                if id(leaf) in directions:
                    tangents[node, 0] = directions[id(leaf)].clone()
                continue
            arrived = []
            for edge in node.next_functions:
                unread[edge] -= 1
                tangent = tangents.pop(edge, None) if unread[edge] == 0 else tangents.get(edge)
                arrived.append((tangent, unread[edge] == 0))
            if any(tangent is not None for tangent, _ in arrived):
                rule = _FORWARD_RULES.get(node.name())
                found = rule(self, node, arrived) if rule is not None else None
                found = _tangents_one_by_one(node, arrived) if found is None else [found]
                tangents.update(((node, place), tangent) for place, tangent in enumerate(found))
        return tangents.get((self.root, 0))


class _Gradient:
    """A gradient (m *shape) on its way, and how many others read the same memory.

    Attributes:
        readers: one number, shared by all that read this memory; who is the last may overwrite it.
    """

    def __init__(self, total: Tensor, readers: list[int] | None = None):
        self.total = total
        self.readers = [0] if readers is None else readers
        self.readers[0] += 1

    @property
    def is_free(self) -> bool:
        return self.readers[0] == 1 and 0 not in self.total.stride()

    def leave(self) -> None:
        """Say that it has been read."""
        self.readers[0] -= 1

    def plus(self, other: "_Gradient") -> "_Gradient":
        """The sum of two, which are read by it."""
        for one, two in ((self, other), (other, self)):
            if one.is_free:
                one.total.add_(two.total)
                two.leave()
                return one
        self.leave()
        other.leave()
        return _Gradient(self.total + other.total)


def _consumers_first(root) -> list:
    """All nodes behind `root`, each after all that read it."""
    n_readers, stack = {root: 0}, [root]
    while stack:
        for source, _ in stack.pop().next_functions:
            if source is not None:
                if source not in n_readers:
                    n_readers[source] = 0
                    stack.append(source)
                n_readers[source] += 1
    order, ready = [], [root]
    while ready:
        node = ready.pop()
        order.append(node)
        for source, _ in node.next_functions:
            if source is not None:
                n_readers[source] -= 1
                if n_readers[source] == 0:
                    ready.append(source)
    return order


def _saved_maps(node) -> list[str]:
    return ["_saved_input"] if node.name() in ("ConvolutionBackward0", "NativeBatchNormBackward0") else []


def _through(graph: _Graph, node, arrived: list[_Gradient | None]) -> list[_Gradient | None]:
    """Gradients at what the node read, from those at what it gave, which are read by it."""
    rule, first = _RULES.get(node.name()), arrived[0]
    found = rule(graph, node, first.total, first.is_free) if rule and first and first.total.ndim == 5 else None
    if found is None:
        return _one_by_one(node, arrived)
    first.leave()
    return [None if gradient is None else _Gradient(gradient) for gradient in found]


def _one_by_one(node, arrived: list[_Gradient | None]) -> list[_Gradient | None]:
    """What the node itself answers for one cotangent after the other; its views are taken of all at once."""

    def ask(i: int) -> Gradients:
        return _answer(node, [None if gradient is None else gradient.total[i] for gradient in arrived])

    present = [gradient for gradient in arrived if gradient is not None]
    first = ask(0)
    found = [_same_view(answer, present) for answer in first]
    if any(answer is not None and view is None for answer, view in zip(first, found, strict=True)):
        answers = [first, *(ask(i) for i in range(1, len(present[0].total)))]
        parts = zip(*answers, strict=True)
        found = [None if of_all[0] is None else _Gradient(torch.stack(of_all)) for of_all in parts]
    for gradient in present:
        gradient.leave()
    return found


def _answer(node, gradients: list[Tensor | None]) -> Gradients:
    """What a node answers for one cotangent, in the shapes of what it read."""
    answer = node(*gradients)
    parts = answer if isinstance(answer, tuple) else (answer,)
    return tuple(
        None if part is None or source is None else _reduced(part, source, place)
        for part, (source, place) in zip(parts, node.next_functions, strict=True)
    )


def _reduced(part: Tensor, source, place: int) -> Tensor:
    """A gradient summed over the axes along which the operation repeated what it read."""
    leaf = getattr(source, "variable", None)
    shape = tuple(source._input_metadata[place].shape if leaf is None else leaf.shape)
    return part if tuple(part.shape) == shape else part.sum_to_size(shape)


def _tangents_one_by_one(node, arrived: list[tuple[Tensor | None, bool]]) -> list[Tensor]:
    """Tangents at what the node gave, from those at what it read: the transpose of what the node answers.

    The answer is linear in the gradients, so its own gradient is the transpose, for one tangent after the other.
    """
    with torch.enable_grad():
        zeros = [
            torch.zeros(tuple(given.shape), dtype=given.dtype, device=given.device, requires_grad=True)
            for given in node._input_metadata
        ]
        answers = _answer(node, zeros)
    pairs = [
        (part, tangent, is_free)
        for part, (tangent, is_free) in zip(answers, arrived, strict=True)
        if part is not None and tangent is not None and part.requires_grad
    ]
    if not pairs:
        return []
    if len(zeros) == 1 and all(part is zeros[0] for part, _, _ in pairs):
        # a sum, or the value itself
        (_, first, is_free), *others = sorted(pairs, key=lambda pair: not pair[2])
        total = first if is_free else first.clone()
        for _, tangent, _ in others:
            total.add_(tangent)
        return [total]
    parts = [part for part, _, _ in pairs]
    found = [
        torch.autograd.grad(parts, zeros, list(of_one), retain_graph=True, allow_unused=True, materialize_grads=True)
        for of_one in zip(*(tangent for _, tangent, _ in pairs), strict=True)
    ]
    return [torch.stack(of_all) for of_all in zip(*found, strict=True)]


def _same_view(answer: Tensor | None, arrived: list[_Gradient]) -> _Gradient | None:
    """If the answer for the first cotangent is a view of its gradient, that view of all of them."""
    for gradient in arrived:
        total = gradient.total
        if answer is not None and answer.numel() and _storage(answer) == _storage(total):
            shape, strides = (len(total), *answer.shape), (total.stride(0), *answer.stride())
            return _Gradient(total.as_strided(shape, strides, answer.storage_offset()), gradient.readers)
    return None


def _storage(x: Tensor) -> int:
    return x.untyped_storage().data_ptr()


def _needed(node) -> list[bool]:
    return [source is not None for source, _ in node.next_functions]


def _channels_last(x: Tensor) -> Tensor:
    """(... h w c), contiguous, from (... c h w); a view where the memory is so already."""
    return x.movedim(-3, -1).contiguous()


def _rows(gradient: Tensor, is_free: bool) -> tuple[Tensor, bool]:
    """A gradient of maps with the channels last, and whether it may be overwritten."""
    rows = _channels_last(gradient)
    return rows, is_free or rows.data_ptr() != gradient.data_ptr()


def _convolution(graph: _Graph, node, gradient: Tensor, is_free: bool) -> Gradients | None:
    x, weight, layer = node._saved_input, node._saved_weight.detach(), _layer_of(node)
    if layer is None:
        return None
    to_input, to_weight, to_bias = _needed(node)
    rows = _channels_last(gradient)
    at_input = at_weight = at_bias = None
    if to_input:
        at_input = _at_input(graph, node, layer, rows, weight, x)
    if to_weight:
        patches = graph.keep(node, "patches", lambda: _patches(layer, x))
        at_weight = _at_weight(layer, patches, rows.flatten(1, 3))
    if to_bias:
        at_bias = rows.flatten(1, 3).sum(1)
    return at_input, at_weight, at_bias


def _layer_of(node) -> layers.Convolution | None:
    if node._saved_transposed or node._saved_input.ndim != 4:
        return None
    geometry = node._saved_stride, node._saved_padding, node._saved_dilation
    return layers.Convolution(tuple(node._saved_weight.shape[2:]), *map(tuple, geometry), node._saved_groups)


def _convolution_forward(graph: _Graph, node, arrived: list[tuple[Tensor | None, bool]]) -> Tensor | None:
    (at_input, _), (at_weight, _), (at_bias, _) = arrived
    layer = _layer_of(node)
    if layer is None or at_bias is not None:
        return None
    x, total = node._saved_input, None
    if at_input is not None:
        folded = _channels_last(at_input).flatten(0, 1).movedim(-1, -3)
        total = layer(folded, node._saved_weight.detach(), None).unflatten(0, at_input.shape[:2])
    if at_weight is not None:
        patches = graph.keep(node, "patches", lambda: _patches(layer, x))
        groups, k = layer.n_groups, len(at_weight)
        if groups == 1:
            directions = at_weight.permute(0, 1, 3, 4, 2).reshape(k * at_weight.shape[1], -1)
            rows = inner_products(patches.flatten(1), directions).unflatten(1, (k, -1)).transpose(0, 1).contiguous()
        else:
            by_group = at_weight.flatten(3).unflatten(1, (groups, -1))
            rows = torch.einsum("ptgi,kgoit->kpgo", patches.unflatten(2, (groups, -1)), by_group).flatten(2)
        h, w = node._input_metadata[0].shape[2:]
        shaped = rows.view(k, len(x), h, w, -1).movedim(-1, -3)
        total = shaped if total is None else total.add_(shaped)
    return total


def _at_input(graph: _Graph, node, layer: layers.Convolution, rows: Tensor, weight: Tensor, x: Tensor) -> Tensor:
    """(m n c_in h w) from (m n h' w' c_out)."""
    folded = rows.flatten(0, 1).movedim(-1, -3)
    if layer.n_groups == weight.shape[0] and weight.shape[1] == 1 and len(weight) <= LANES // 2:
        # so few channels are no slower as a dense kernel with zeros
        weight = torch.diag_embed(weight.movedim(0, -1).squeeze(0)).permute(2, 3, 0, 1)
        layer = layers.Convolution(layer.kernel, layer.stride, layer.padding, layer.dilation, 1)
    if node not in graph.blocked:
        graph.blocked[node] = _BlockedInput.of(layer, weight, x)
    blocks = graph.blocked[node]
    if blocks is None:
        at_input = layer.input_gradient(folded, x[:1].expand(len(folded), -1, -1, -1), weight)
    else:
        at_input = blocks(folded)
    return at_input.unflatten(0, rows.shape[:2])


@dataclass(frozen=True)
class _BlockedInput:
    """The input gradient of a dense convolution, several neighbours on a row at a time.

    A convolution with the turned kernel gives few channels, which leaves most lanes of a processor idle. Neighbouring
    pixels of a row as further channels fill them, and with the channels last they lie in memory as the pixels do. The
    kernel that gives a block reads all that its pixels read; it moves on by the block. Of a stride every phase of rows
    is a convolution of its own.

    Attributes:
        phases: per phase of rows, the kernel (block*c_in c_out k_h k_w).
        padding: per phase, the padding that goes with it.
        step: columns of the gradient from block to block.
        shape: (c_in, h, w) of the input.
    """

    phases: tuple[Tensor, ...]
    padding: tuple[tuple[int, int], ...]
    step: int
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, layer: layers.Convolution, weight: Tensor, x: Tensor) -> "_BlockedInput | None":
        """None where the geometry has no such form or it would not be faster."""
        c_in, h, w = x.shape[1:]
        (s_h, s_w), (d_h, d_w), (p_h, p_w), (k_h, k_w) = layer.stride, layer.dilation, layer.padding, layer.kernel
        block = s_w
        while 2 * block * c_in <= LANES and w % (2 * block) == 0:
            block *= 2
        pointless = layer.kernel == (1, 1) or block * s_h == 1 or block * c_in > 2 * LANES
        # torch misreads maps of one channel with the channels last under some of these kernels
        if pointless or layer.n_groups > 1 or weight.shape[0] == 1 or h % s_h or w % block:
            return None
        step = block // s_w
        rows_out, columns_out = (
            (size + 2 * p - d * (k - 1) - 1) // s + 1
            for size, p, d, k, s in zip((h, w), layer.padding, layer.dilation, layer.kernel, layer.stride, strict=True)
        )
        columns = _taps(block, p_w, d_w, k_w, s_w)
        margin = max(-min(o for _, _, o in columns), max(o for _, _, o in columns) - step + 1, 0)
        if columns_out != w // s_w or rows_out != h // s_h:
            return None
        phases, paddings = [], []
        for phase in range(s_h):
            taps = [(t, o) for r, t, o in _taps(s_h, p_h, d_h, k_h, s_h) if r == phase]
            above = max([-o for _, o in taps] + [o for _, o in taps] + [0])
            kernel = weight.new_zeros(block, c_in, weight.shape[0], 2 * above + 1, 2 * margin + step)
            for t, o in taps:
                for j, u, q in columns:
                    kernel[j, :, :, above + o, margin + q] += weight[:, :, t, u].mT
            phases.append(kernel.flatten(0, 1))
            paddings.append((above, margin))
        return cls(tuple(phases), tuple(paddings), step, (c_in, h, w))

    def __call__(self, gradient: Tensor) -> Tensor:
        """(n c_in h w) from (n c_out h' w')."""
        c_in, h, w = self.shape
        parts = []
        for kernel, padding in zip(self.phases, self.padding, strict=True):
            layer = layers.Convolution(tuple(kernel.shape[2:]), (1, self.step), padding, (1, 1), 1)
            parts.append(_channels_last(layer(gradient, kernel, None)).flatten(2))
        rows = parts[0] if len(parts) == 1 else torch.stack(parts, 2)
        return rows.view(len(gradient), h, w, c_in).movedim(-1, -3)


def _taps(block: int, padding: int, dilation: int, size: int, stride: int) -> list[tuple[int, int, int]]:
    """(place in the block, tap of the kernel, offset of the output it came from), along one axis."""
    reach = ((j, t, j + padding - dilation * t) for j in range(block) for t in range(size))
    return [(j, t, distance // stride) for j, t, distance in reach if distance % stride == 0]


def _at_weight(layer: layers.Convolution, patches: Tensor, rows: Tensor) -> Tensor:
    """(m *weight) from patches (n*positions taps c_in) and gradients (m n*positions c_out)."""
    groups, m, c_out = layer.n_groups, *rows.shape[::2]
    if groups == 1:
        flat = products_over_positions(rows, patches.flatten(1))
        return flat.view(m, c_out, *layer.kernel, -1).permute(0, 1, 4, 2, 3)
    by_group = rows.unflatten(2, (groups, -1)).permute(2, 0, 3, 1).flatten(1, 2)
    inputs = patches.unflatten(2, (groups, -1)).permute(2, 0, 1, 3).flatten(2)
    flat = torch.bmm(by_group, inputs).view(groups, m, c_out // groups, *layer.kernel, -1)
    return flat.permute(1, 0, 2, 5, 3, 4).flatten(1, 2)


def _patches(layer: layers.Convolution, x: Tensor) -> Tensor:
    """What each output position reads, (n*positions taps c_in)."""
    (p_h, p_w), (s_h, s_w), (d_h, d_w), (k_h, k_w) = layer.padding, layer.stride, layer.dilation, layer.kernel
    x = torch.nn.functional.pad(_channels_last(x), (0, 0, p_w, p_w, p_h, p_h))
    n, h, w, c = x.shape
    shape = n, (h - d_h * (k_h - 1) - 1) // s_h + 1, (w - d_w * (k_w - 1) - 1) // s_w + 1, k_h, k_w, c
    strides = h * w * c, s_h * w * c, s_w * c, d_h * w * c, d_w * c, 1
    return x.as_strided(shape, strides).reshape(-1, k_h * k_w, c)


def _batch_norm(graph: _Graph, node, gradient: Tensor, is_free: bool) -> Gradients | None:
    if not node._saved_training or node._saved_input.ndim != 4:
        return None
    to_input, to_weight, to_bias = _needed(node)
    rows, is_free = _rows(gradient, is_free)
    at_input, flat, sloped = _normalise(graph, node, rows, is_free, to_input)
    return at_input, sloped if to_weight else None, flat if to_bias else None


def _batch_norm_forward(graph: _Graph, node, arrived: list[tuple[Tensor | None, bool]]) -> Tensor | None:
    (at_input, is_free), (at_weight, _), (at_bias, _) = arrived
    x = node._saved_input
    if not node._saved_training or x.ndim != 4 or at_bias is not None:
        return None
    total = None
    if at_input is not None:
        # the matrix of this layer is symmetric, so tangents go through it as gradients do
        total = _normalise(graph, node, *_rows(at_input, is_free), True)[0]
    if at_weight is not None:
        n, c, h, w = x.shape
        z = graph.keep(node, "normalised", lambda: _normalised(node)).view(n * h, w * c)
        steep = at_weight.repeat(1, w).unsqueeze(1)
        if total is None:
            total = (z * steep).view(-1, n, h, w, c).movedim(-1, -3)
        else:
            total.movedim(-3, -1).view(-1, n * h, w * c).addcmul_(z, steep)
    return total


def _normalised(node) -> Tensor:
    """What a BatchNorm makes of its input before weight and bias, (positions c)."""
    rows = _channels_last(node._saved_input)
    return (rows.view(-1, rows.shape[-1]) - node._saved_result1).mul_(node._saved_result2)


def _normalise(graph: _Graph, node, rows: Tensor, is_free: bool, wanted: bool) -> tuple[Tensor | None, Tensor, Tensor]:
    """With z the normalised input and g the rows (m n h w c): s (g - mean(g) - z mean(z g)), sum(g) and sum(z g).

    The sums are (m c), over a batch's positions; s is weight over standard deviation. The first is (m n c h w), and
    None where it is not wanted.
    """
    m, n, h, w, c = rows.shape
    count, weight, rstd = n * h * w, node._saved_weight, node._saved_result2
    scale = rstd if weight is None else weight.detach() * rstd

    def patterns() -> Tensor:
        """(2c n*h*w*c): for every channel ones, and the normalised input, on this channel."""
        values = torch.stack([torch.ones(count, c, dtype=rows.dtype, device=rows.device), _normalised(node)])
        return torch.diag_embed(values).permute(0, 3, 1, 2).reshape(2 * c, -1)

    if c <= PATTERN_CHANNELS:
        spanned = graph.keep(node, "patterns", patterns)
        sums = inner_products(rows.view(m, -1), spanned)
        flat, sloped = sums.split(c, dim=1)
    else:
        z = graph.keep(node, "normalised", lambda: _normalised(node))
        flat, sloped = _sums(rows.view(m, count, c), z)
    if not wanted:
        return None, flat, sloped
    # long rows are fast to go through, so the channels repeat along them
    long_rows, scales = rows.view(m, n * h, w * c), scale.repeat(w)
    result = long_rows.mul_(scales) if is_free else long_rows * scales
    if c <= PATTERN_CHANNELS:
        result.view(m, -1).addmm_(sums * (-scale / count).repeat(2), spanned)
    else:
        level, slope = ((-scale / count * part).repeat(1, w).unsqueeze(1) for part in (flat, sloped))
        result.add_(level).addcmul_(z.view(n * h, w * c), slope)
    return result.view(m, n, h, w, c).movedim(-1, -3), flat, sloped


def _sums(rows: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over positions (m c) of gradients (m positions c), and of their products with values (positions c)."""
    c = rows.shape[2]
    if c > DIAGONAL_CHANNELS:
        return rows.sum(1), (rows * z).sum(1)
    products = products_over_positions(rows, torch.cat([z, z.new_ones(len(z), 1)], dim=1))
    return products[:, :, c], products.diagonal(dim1=1, dim2=2)


def _relu(graph: _Graph, node, gradient: Tensor, is_free: bool) -> Gradients:
    active = graph.keep(node, "active", lambda: _channels_last(node._saved_result > 0).to(gradient.dtype))
    rows, is_free = _rows(gradient, is_free)
    return ((rows.mul_(active) if is_free else rows * active).movedim(-1, -3),)


def _relu_forward(graph: _Graph, node, arrived: list[tuple[Tensor | None, bool]]) -> Tensor | None:
    tangent, is_free = arrived[0]
    return _relu(graph, node, tangent, is_free)[0] if tangent.ndim == 5 else None


def _average_pool_forward(graph: _Graph, node, arrived: list[tuple[Tensor | None, bool]]) -> Tensor | None:
    x, (tangent, _) = node._saved_self, arrived[0]
    if node._saved_divisor_override is not None or x.ndim != 4:
        return None
    kernel, padding = tuple(node._saved_kernel_size), tuple(node._saved_padding)
    pooled = torch.nn.functional.avg_pool2d(
        _channels_last(tangent).flatten(0, 1).movedim(-1, -3),
        kernel,
        tuple(node._saved_stride) or kernel,
        padding,
        node._saved_ceil_mode,
        node._saved_count_include_pad,
    )
    return pooled.unflatten(0, tangent.shape[:2])


def _max_pool_forward(graph: _Graph, node, arrived: list[tuple[Tensor | None, bool]]) -> Tensor | None:
    indices, (tangent, _) = node._saved_result1, arrived[0]
    if indices.ndim != 4:
        return None
    n, c, h, w = indices.shape
    places = graph.keep(node, "places", lambda: _channels_last(indices).view(n, -1, c))
    rows = _channels_last(tangent).flatten(2, 3)
    found = rows.gather(2, places.expand(len(rows), -1, -1, -1))
    return found.view(-1, n, h, w, c).movedim(-1, -3)


def _average_pool(graph: _Graph, node, gradient: Tensor, is_free: bool) -> Gradients | None:
    x, kernel = node._saved_self, tuple(node._saved_kernel_size)
    if node._saved_divisor_override is not None or x.ndim != 4:
        return None
    layer = layers.Convolution(kernel, tuple(node._saved_stride) or kernel, tuple(node._saved_padding), (1, 1), 1)
    shares = [
        _shares(size, n_out, k, s, p, node._saved_count_include_pad)
        for size, n_out, k, s, p in zip(
            x.shape[2:], gradient.shape[3:], kernel, layer.stride, layer.padding, strict=True
        )
    ]
    c = x.shape[1]
    share = torch.outer(*(torch.tensor(of_axis, dtype=x.dtype, device=x.device) for of_axis in shares))
    rows, is_free = _rows(gradient, is_free)
    long_rows, share = rows.flatten(3), share.repeat_interleave(c, 1)
    rows = (long_rows.mul_(share) if is_free else long_rows * share).view(rows.shape)
    if c <= LANES:
        weight = torch.eye(c, dtype=x.dtype, device=x.device).view(c, c, 1, 1).expand(-1, -1, *kernel)
        blocks = _BlockedInput.of(layer, weight, x)
        if blocks is not None:
            return (blocks(rows.flatten(0, 1).movedim(-1, -3)).unflatten(0, rows.shape[:2]),)
    for axis, (k, s, p) in enumerate(zip(kernel, layer.stride, layer.padding, strict=True)):
        rows = _spread(rows, 2 + axis, x.shape[2 + axis], k, s, p)
    return (rows.movedim(-1, -3),)


def _shares(size: int, n_out: int, k: int, s: int, p: int, count_pad: bool) -> list[float]:
    """Along one axis, what an input of its window gets of each output."""
    windows = [(i * s - p, min(i * s - p + k, size + p)) for i in range(n_out)]
    return [1 / (end - start if count_pad else min(end, size) - max(start, 0)) for start, end in windows]


def _spread(rows: Tensor, axis: int, size: int, k: int, s: int, p: int) -> Tensor:
    """Along one axis, every output added to all inputs of its window."""
    result = rows.new_zeros(*rows.shape[:axis], size, *rows.shape[axis + 1 :])
    for tap in range(k):
        # outputs whose window has this place on the map
        inside = [i for i in range(rows.shape[axis]) if 0 <= i * s - p + tap < size]
        if inside:
            target = result.narrow(axis, inside[0] * s - p + tap, (inside[-1] - inside[0]) * s + 1)
            target[(slice(None),) * axis + (slice(None, None, s),)] += rows.narrow(axis, inside[0], len(inside))
    return result


def _max_pool(graph: _Graph, node, gradient: Tensor, is_free: bool) -> Gradients | None:
    x, indices = node._saved_self, node._saved_result1
    if x.ndim != 4:
        return None
    m, n, c = gradient.shape[:3]
    h, w = x.shape[2:]
    result = gradient.new_zeros(m, n, h * w, c)
    places = graph.keep(node, "places", lambda: _channels_last(indices).view(n, -1, c))
    result.scatter_add_(2, places.expand(m, -1, -1, -1), _channels_last(gradient).view(m, n, -1, c))
    return (result.view(m, n, h, w, c).movedim(-1, -3),)


_RULES: dict[str, Callable[..., Gradients | None]] = {
    "ConvolutionBackward0": _convolution,
    "NativeBatchNormBackward0": _batch_norm,
    "ReluBackward0": _relu,
    "AvgPool2DBackward0": _average_pool,
    "MaxPool2DWithIndicesBackward0": _max_pool,
}

_FORWARD_RULES: dict[str, Callable[..., Tensor | None]] = {
    "ConvolutionBackward0": _convolution_forward,
    "NativeBatchNormBackward0": _batch_norm_forward,
    "ReluBackward0": _relu_forward,
    "AvgPool2DBackward0": _average_pool_forward,
    "MaxPool2DWithIndicesBackward0": _max_pool_forward,
}
