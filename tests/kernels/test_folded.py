"""Many cotangents and tangents at once, against torch's own gradients one after the other."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional

from pipeline import kernels, spaces
from pipeline.kernels import coupled, folded
from pipeline.kernels.layers import Convolution
from pipeline.nets.ops import OPERATIONS, make_operation

TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-4}


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def one_after_the_other(network, images):
    """Rows of the Jacobian in all weights, by one backward pass for each image."""
    network.train()
    weights = list(kernels.all_weights_of(network).values())
    outputs = network(images).flatten(1).sum(1)
    rows = []
    for output in outputs:
        found = torch.autograd.grad(output, weights, retain_graph=True, allow_unused=True)
        rows.append(torch.cat([gradient.flatten() for gradient in found if gradient is not None]))
    return torch.stack(rows)


def gap(found, expected):
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


def check(network, images, rows_per_call=None):
    """Rows and products of a network, in both precisions."""
    for dtype, tolerance in TOLERANCES.items():
        network, images = network.to(dtype), images.to(dtype)
        expected = one_after_the_other(network, images)
        found = kernels.coupled_gradients(network, images, rows_per_call=rows_per_call)
        assert gap(torch.cat(list(found.values()), 1), expected) < tolerance
        weights = kernels.all_weights_of(network)
        directions = {name: noise(3, *weights[name].shape, seed=i).to(dtype) for i, name in enumerate(found)}
        flat = torch.cat([direction.flatten(1) for direction in directions.values()], 1)
        assert gap(kernels.coupled_products(network, images, directions), expected @ flat.mT) < tolerance


@pytest.mark.parametrize("size", [(8, 8), (9, 7)])
@pytest.mark.parametrize(("space_name", "channels"), [("nas_bench_201", 3), ("darts", 1), ("darts_fewshot", 2)])
def test_rows_and_products_of_every_space_are_those_of_torch(space_name, channels, size):
    space = spaces.get(space_name)()
    n_cells = 3 if space_name == "nas_bench_201" else 2
    network = space.supernet(n_classes=4, channels=channels, n_cells=n_cells, norm="batchnorm")
    for mask in (space.full_mask(), space.mask_of(space.sample(torch.Generator().manual_seed(1)))):
        network.set_mask(mask)
        check(network, noise(5, 3, *size), rows_per_call=2)


class Around(nn.Module):
    """A layer between convolutions with BatchNorm, so that it has weights on both sides."""

    def __init__(self, layer, channels, behind=None):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), nn.BatchNorm2d(channels))
        self.layer = layer
        self.close = nn.Sequential(nn.BatchNorm2d(behind or channels), nn.ReLU())
        self.classifier = nn.Linear(behind or channels, 2)

    def forward(self, images):
        return self.classifier(self.close(self.layer(self.stem(images))).mean((2, 3)))


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 20])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", [name for name in OPERATIONS if name != "none"])
def test_every_operation_has_the_rows_of_torch(name, stride, channels):
    if name == "skip_connect" and stride == 2 and channels == 1:
        pytest.skip("one channel cannot be halved")
    torch.manual_seed(0)
    check(Around(make_operation(name, channels, stride), channels), noise(4, 3, 8, 8))


class Halves(nn.Module):
    """Splits its channels and uses both parts, one of them twice."""

    def forward(self, x):
        first, second = x.split(2, dim=1)
        return torch.cat([first * second, first.exp(), second[:, :, ::1]], dim=1)


class Scaled(nn.Module):
    """Repeats a weight along all axes but the channels."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(4, 1, 1) + 1)

    def forward(self, x):
        return x * self.weight + self.weight


OTHERS = {
    "repeated weight": (Scaled, 4),
    "leaky relu": (lambda: nn.LeakyReLU(0.1), 4),
    "tanh": (nn.Tanh, 4),
    "group norm": (lambda: nn.GroupNorm(2, 4), 4),
    "no weights in the norm": (lambda: nn.BatchNorm2d(4, affine=False), 4),
    "transposed convolution": (lambda: nn.ConvTranspose2d(4, 6, 3, stride=2), 6),
    "grouped convolution": (lambda: nn.Conv2d(4, 8, 3, padding=1, groups=2), 8),
    "convolution without padding": (lambda: nn.Conv2d(4, 4, (2, 3)), 4),
    "long strides": (lambda: nn.Conv2d(4, 4, 3, stride=3, padding=1), 4),
    "dilation and stride": (lambda: nn.Conv2d(4, 4, 3, stride=2, padding=2, dilation=2), 4),
    "pool that counts the margin": (lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True), 4),
    "pool with a divisor of its own": (lambda: nn.AvgPool2d(2, divisor_override=3), 4),
    "adaptive pool": (lambda: nn.AdaptiveAvgPool2d(3), 4),
    "nearest neighbours": (lambda: nn.Upsample(scale_factor=2), 4),
    "split": (Halves, 6),
}


@pytest.mark.parametrize("name", OTHERS)
def test_layers_without_a_rule_are_differentiated_as_torch_does_it(name):
    torch.manual_seed(0)
    make, behind = OTHERS[name]
    check(Around(make(), 4, behind), noise(4, 3, 9, 9), rows_per_call=3)


def test_what_feeds_several_layers_is_not_overwritten():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(3))
            self.convolution = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x):
            first = self.norms[0](x) + x + self.norms[1](x)
            second = self.convolution(first.relu()) + first
            return second + x + self.norms[2](second + second) * 0.5 + self.convolution(second)

    torch.manual_seed(0)
    check(Around(Shared(), 3), noise(5, 3, 6, 6), rows_per_call=2)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_single_precision_is_as_good_as_torchs_own(layout):
    space = spaces.get("nas_bench_201")()
    network = space.supernet(n_classes=10, channels=3, n_cells=3, norm="batchnorm")
    text = "|skip_connect~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|nor_conv_3x3~0|none~1|nor_conv_1x1~2|"
    network.set_mask(space.mask_of(space.from_text(text)))
    images = noise(24, 3, 32, 32)
    single = kernels.coupled_ntk(network, images.float().contiguous(memory_format=layout))
    exact = kernels.coupled_ntk(network.double(), images.float().double())
    assert gap(single, exact) < 1e-5
    assert kernels.condition_number(single) == pytest.approx(kernels.condition_number(exact), rel=1e-4)


def test_the_graph_is_left_intact():
    weight = noise(4, 3, 3, 3).requires_grad_()
    images = noise(4, 3, 6, 6)
    maps = functional.batch_norm(functional.conv2d(images, weight), None, None, training=True)
    outputs = maps.relu().square().sum((1, 2, 3))
    first = folded.jacobian(outputs, {"w": weight})["w"]
    folded.products(outputs, {"w": weight}, {"w": noise(2, 4, 3, 3, 3)})
    assert torch.equal(
        folded.jacobian(outputs, {"w": weight}, rows=4)["w"], folded.jacobian(outputs, {"w": weight})["w"]
    )
    slow = torch.stack([torch.autograd.grad(o, weight, retain_graph=True)[0].flatten() for o in outputs])
    torch.testing.assert_close(first, slow)


def test_leaves_that_take_no_part_are_left_out_and_directions_of_theirs_move_nothing():
    used, idle = noise(3).requires_grad_(), noise(3).requires_grad_()
    outputs = (used * noise(2, 3)).sum(1)
    leaves = {"idle": idle, "used": used}
    assert list(folded.jacobian(outputs, leaves)) == ["used"]
    assert torch.equal(folded.products(outputs, leaves, {"idle": noise(4, 3)}), torch.zeros(2, 4).double())


def test_more_directions_than_fit_in_a_block_are_taken_in_blocks(monkeypatch):
    monkeypatch.setattr(folded, "MOST_BYTES", 1)
    torch.manual_seed(0)
    check(Around(nn.ReLU(), 3), noise(4, 3, 6, 6))


def test_what_finds_no_room_is_made_anew(monkeypatch):
    monkeypatch.setattr(folded, "MOST_KEPT_BYTES", 0)
    torch.manual_seed(0)
    check(Around(nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)), 3), noise(4, 3, 6, 6), rows_per_call=2)


def test_torchs_own_batched_ways_give_the_same():
    space = spaces.get("nas_bench_201")()
    network = space.supernet(n_classes=4, channels=2, n_cells=2, norm="batchnorm").double().train()
    images, weights = noise(5, 3, 8, 8), kernels.all_weights_of(network)
    outputs = network(images).sum(1)
    expected = kernels.coupled_gradients(network, images)
    found = coupled._jacobian_by_vmap(outputs, dict(weights), 2)
    assert list(found) == list(expected)
    for name, rows in expected.items():
        torch.testing.assert_close(found[name], rows)
    directions = {name: noise(3, *weights[name].shape) for name in expected}
    constants = {name: parameter.detach() for name, parameter in network.named_parameters()}
    torch.testing.assert_close(
        coupled._products_by_vmap(network, images, constants, directions),
        kernels.coupled_products(network, images, directions),
    )


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [2, 3, 5])
def test_input_gradients_block_by_block_are_those_of_transposed_convolutions(kernel, stride):
    found_any = False
    for c_in, c_out, size, dilation in itertools.product((1, 2, 3, 6), (1, 2, 3, 5), (4, 8, 16), (1, 2)):
        padding = 0 if kernel == 2 else dilation * (kernel // 2)
        layer = Convolution((kernel,) * 2, (stride,) * 2, (padding,) * 2, (dilation,) * 2, 1)
        x, weight = noise(1, c_in, size, size).float(), noise(c_out, c_in, kernel, kernel).float()
        blocks = folded._BlockedInput.of(layer, weight, x)
        if blocks is None:
            continue
        found_any = True
        out = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        gradient = noise(6, out, out, c_out).float().movedim(-1, -3)
        rest = size - ((out - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1)
        expected = functional.conv_transpose2d(
            gradient.double(), weight.double(), None, stride, padding, rest, 1, dilation
        )
        assert gap(blocks(gradient).double(), expected) < 1e-5
    assert found_any or (kernel, stride) == (2, 1)
