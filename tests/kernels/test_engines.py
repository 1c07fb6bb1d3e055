"""All engines against the plain per-sample loop, over layer shapes, uses and networks that go wrong."""

import copy
import itertools

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from pipeline import kernels
from pipeline.core.errors import UnknownNameError
from pipeline.kernels import layers, maps
from pipeline.kernels.engines import ENGINES
from pipeline.kernels.errors import KernelError, UnsupportedLayerError

TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-11}
both_dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def fill(network, seed=0):
    """Random values in all parameters, biases and norms included."""
    generator = seeded(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            fan = max(parameter[0].numel(), 1) if parameter.ndim > 1 else 1
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / fan**0.5)
    return network


def truth(network, images, head=None):
    """The NTK by the definition: one backward pass per image, in float64."""
    whole = network if head is None else nn.Sequential(_Features(network), head)
    whole = copy.deepcopy(whole).double()
    norms = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
    weights = [m.weight for m in whole.modules() if getattr(m, "weight", None) is not None and not isinstance(m, norms)]
    rows = []
    for image in images.double():
        whole.zero_grad()
        whole(image.unsqueeze(0)).sum().backward()
        rows.append(torch.cat([w.grad.flatten().clone() for w in weights if w.grad is not None]))
    jacobian = torch.stack(rows)
    return jacobian @ jacobian.mT


class _Features(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return self.network.features(images)


def assert_equal_up_to_rounding(kernel, expected, dtype, label=""):
    assert kernel.shape == expected.shape and kernel.dtype == torch.float64
    error = float((kernel - expected).abs().max() / expected.abs().max().clamp_min(1e-30))
    assert error < TOLERANCE[dtype], f"{label}: off by {error:.2e} of the largest entry"


def check_all_engines(network, images, dtype, engines=("fast", "opacus", "loop")):
    network, images = network.to(dtype), images.to(dtype)
    expected = truth(network, images)
    for engine, low_memory in itertools.product(engines, (False, True)):
        kernel = kernels.ntk(network, images, engine=engine, low_memory=low_memory).theta
        assert_equal_up_to_rounding(kernel, expected, dtype, f"{engine}, low_memory={low_memory}")


@st.composite
def convolutions(draw):
    """A convolution and an image size that it fits."""
    groups = draw(st.sampled_from([1, 1, 2, 4]))
    per_group_in = draw(st.integers(1, 3))
    per_group_out = draw(st.sampled_from([1, 1, 2, 3]))
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilation = draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (3, 3), (2, 1)]))
    padding = draw(st.tuples(st.integers(0, 4), st.integers(0, 4)))
    size = draw(st.tuples(st.integers(2, 9), st.integers(2, 9)))
    assume(all(s + 2 * p > d * (k - 1) for s, p, d, k in zip(size, padding, dilation, kernel, strict=True)))
    layer = nn.Conv2d(
        groups * per_group_in,
        groups * per_group_out,
        kernel,
        stride,
        padding,
        dilation,
        groups,
        bias=draw(st.booleans()),
    )
    return layer, size


@settings(max_examples=120, deadline=None)
@example(shape=(nn.Conv2d(4, 4, 3, 2, 2, 2, groups=4), (8, 8)), n=3, seed=0, dtype=torch.float32)
@example(shape=(nn.Conv2d(4, 4, 3, 1, 2, 2, groups=4), (8, 6)), n=3, seed=0, dtype=torch.float32)
@example(shape=(nn.Conv2d(4, 4, 3, 1, 2, 2, groups=4), (7, 7)), n=3, seed=0, dtype=torch.float64)
@example(shape=(nn.Conv2d(3, 5, (1, 5), 2, (0, 2)), (9, 9)), n=4, seed=0, dtype=torch.float32)
@example(shape=(nn.Conv2d(2, 2, 1, (1, 2), groups=2), (2, 2)), n=1, seed=0, dtype=torch.float32)
@example(shape=(nn.Conv2d(2, 3, (3, 4), (3, 2), (0, 5), (2, 3)), (9, 11)), n=3, seed=0, dtype=torch.float32)
@example(shape=(nn.Conv2d(140, 2, 3, 1, 1), (3, 3)), n=4, seed=0, dtype=torch.float32)
@example(shape=(nn.Conv2d(70, 2, 3, 1, 1), (5, 5)), n=7, seed=0, dtype=torch.float32)
@given(
    shape=convolutions(),
    n=st.integers(1, 8),
    seed=st.integers(0, 1000),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_the_fast_engine_equals_the_definition_for_any_convolution_between_two_others(shape, n, seed, dtype):
    layer, size = shape
    c_in, c_out = layer.in_channels, layer.out_channels
    network = nn.Sequential(nn.Conv2d(2, c_in, 1), nn.Tanh(), layer, nn.Conv2d(c_out, 3, 1), nn.Tanh(), nn.Flatten())
    images = torch.randn(n, 2, *size, generator=seeded(seed))
    check_all_engines(fill(network, seed), images, dtype, engines=("fast",))


@settings(max_examples=15, deadline=None)
@given(shape=convolutions(), n=st.integers(2, 5), seed=st.integers(0, 1000))
def test_all_engines_agree_on_a_convolution(shape, n, seed):
    layer, size = shape
    network = nn.Sequential(fill(layer, seed), nn.Flatten())
    check_all_engines(network, torch.randn(n, layer.in_channels, *size, generator=seeded(seed)), torch.float32)


@both_dtypes
@pytest.mark.parametrize("shape", [(6,), (4, 6), (2, 3, 6)], ids=str)
def test_all_engines_agree_on_linear_layers_with_any_number_of_positions(shape, dtype):
    network = fill(nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 4)))
    check_all_engines(network, torch.randn(5, *shape, generator=seeded()), dtype)


@both_dtypes
@pytest.mark.parametrize("norm", [nn.GroupNorm(4, 8), nn.GroupNorm(8, 8, affine=False), nn.InstanceNorm2d(8)], ids=str)
def test_all_engines_agree_behind_norms_and_leave_their_weights_out(norm, dtype):
    network = nn.Sequential(nn.Conv2d(3, 8, 3), norm, nn.ReLU(), nn.Conv2d(8, 2, 3), nn.Flatten())
    images = torch.randn(4, 3, 7, 7, generator=seeded())
    check_all_engines(fill(network), images, dtype)
    assert set(kernels.weights_of(network)) == {"0.weight", "3.weight"}


@both_dtypes
def test_a_group_that_hardly_varies_does_not_spoil_the_kernel(dtype):
    network = fill(nn.Sequential(nn.Conv2d(3, 8, 1), nn.GroupNorm(4, 8), nn.Conv2d(8, 2, 3), nn.Flatten()))
    with torch.no_grad():
        network[0].bias.fill_(30.0)
        network[0].weight[:2] *= 1e-3
    images = torch.randn(4, 3, 6, 6, generator=seeded()).to(dtype)
    kernel = kernels.ntk(network.to(dtype), images).theta
    expected = truth(network, images)
    # the centring of values near 30 costs float32 this much in any order of operations
    bound = 1e-3 if dtype == torch.float32 else 1e-9
    assert float((kernel - expected).abs().max() / expected.abs().max()) < bound


class Twice(nn.Module):
    """One convolution and one linear layer, each used twice in a forward pass."""

    def __init__(self, groups=1):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, groups=groups)
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        x = torch.tanh(self.conv(torch.tanh(self.conv(x)))).mean((2, 3))
        return self.linear(torch.tanh(self.linear(x)))


@both_dtypes
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_the_gradients_of_a_layer_used_twice_are_summed(groups, dtype):
    check_all_engines(fill(Twice(groups)), torch.randn(5, 4, 6, 6, generator=seeded()), dtype)


class Chain(nn.Module):
    """Convolutions without anything between them, the second changed in place."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1, groups=groups) for groups in (4, 4, 4, 1, 1))

    def forward(self, x):
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i == 1:
                x.mul_(2.0)
        return x.flatten(1)


@both_dtypes
def test_chains_of_convolutions_are_recomputed_correctly_also_after_a_change_in_place(dtype):
    network = fill(Chain()).to(dtype)
    images = torch.randn(4, 4, 6, 6, generator=seeded()).to(dtype)
    for low_memory in (False, True):
        kernel = kernels.ntk(network, images, low_memory=low_memory).theta
        assert_equal_up_to_rounding(kernel, truth(network, images), dtype, f"low_memory={low_memory}")


class Node(nn.Module):
    """A weighted sum over operations that share a ReLU, a shifted map and a pool, as the cells have it."""

    def __init__(self, factor=0.25):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(8, 8, 3, 1, 1, groups=8),
                nn.Conv2d(8, 8, (1, 5), 1, (0, 2)),
                nn.Conv2d(8, 8, 3, 1, 2, 2, groups=8),
            ]
        )
        self.halves = nn.ModuleList(nn.Conv2d(8, 4, 1, stride=2) for _ in range(4))
        self.norms = nn.ModuleList(nn.GroupNorm(4, 8) for _ in range(6))
        self.last = nn.Conv2d(8, 2, 3)
        self.factor = factor

    def forward(self, images):
        x = self.stem(images)
        begun = functional.relu(x)
        pooled = functional.avg_pool2d(x, 3, 1, 1)
        total = x
        for conv, norm in zip(self.convs, self.norms, strict=False):
            total = total + norm(conv(begun))
        # two norms of one map, of which one may scale like the other
        total = (total + self.norms[3](pooled)) + (self.norms[4](pooled) + pooled)
        total = total * self.factor if self.factor else total
        shifted = [functional.pad(begun, (-1, 1, -1, 1)) for _ in range(2)]
        halved = [torch.cat([self.halves[2 * i](begun), self.halves[2 * i + 1](shifted[i])], 1) for i in range(2)]
        halved = torch.tanh(self.norms[5](halved[0])) + functional.relu(self.norms[5](halved[1]))
        return (
            self.last(torch.relu(total)).flatten(1).sum(1, keepdim=True)
            + halved.flatten(1)
            + total.mean((1, 2, 3))[:, None]
        )


@both_dtypes
@pytest.mark.parametrize("factor", [0.25, None])
@pytest.mark.parametrize("alike", [False, True])
def test_sums_of_norms_shared_activations_and_shifted_maps_have_the_kernel_of_their_definition(factor, alike, dtype):
    network = fill(Node(factor))
    if alike:
        network.norms[4].load_state_dict(network.norms[3].state_dict())
    check_all_engines(network, torch.randn(7, 3, 8, 8, generator=seeded()), dtype, engines=("fast",))


@both_dtypes
def test_maps_larger_than_a_part_are_worked_on_part_by_part_with_the_same_result(dtype, monkeypatch):
    network = fill(Node()).to(dtype)
    images = torch.randn(7, 3, 8, 8, generator=seeded()).to(dtype)
    expected = truth(network, images)
    monkeypatch.setattr(maps, "BYTES_AT_A_TIME", 2 * 8 * 64 * images.element_size())
    monkeypatch.setattr(layers, "LEAST_ALONE", 0)
    assert_equal_up_to_rounding(kernels.ntk(network, images).theta, expected, dtype)


class Late(nn.Module):
    """Changes the input of a norm before the norm's sum is read."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4)

    def forward(self, x):
        x = self.conv(x)
        y = self.norm(x)
        x.mul_(2.0)
        return y.flatten(1)


def test_a_norms_input_that_is_overwritten_is_refused():
    with pytest.raises(UnsupportedLayerError, match="changed in place"):
        kernels.ntk(Late(), torch.randn(3, 3, 5, 5, generator=seeded()))


class Scaled(nn.Module):
    """A weight of its own that multiplies, or is added to, a normalised map."""

    def __init__(self, add):
        super().__init__()
        self.conv, self.norm, self.weight = nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4), nn.Parameter(torch.ones(3, 4, 5, 5))
        self.add = add

    def forward(self, x):
        x = self.norm(self.conv(x))
        return (x + self.weight if self.add else x * self.weight).flatten(1)


@pytest.mark.parametrize("add", [False, True])
def test_a_weight_outside_of_the_known_layers_is_refused_also_behind_a_norm(add):
    with pytest.raises(UnsupportedLayerError, match="'weight' is used by"):
        kernels.ntk(Scaled(add), torch.randn(3, 3, 5, 5, generator=seeded()))


class Overwriting(nn.Module):
    """Changes what a depthwise convolution has read before the next layer runs."""

    def __init__(self):
        super().__init__()
        self.depthwise, self.pointwise = nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 2, 1)

    def forward(self, x):
        x = x * 1.0
        y = self.depthwise(x)
        x.mul_(2.0)
        return self.pointwise(y).flatten(1)


def test_a_layers_input_that_is_overwritten_is_refused_and_not_recomputed_wrongly():
    images = torch.randn(3, 4, 5, 5, generator=seeded())
    with pytest.raises(UnsupportedLayerError, match="changed in place"):
        kernels.ntk(Overwriting(), images)


class Unused(nn.Module):
    """A layer that never runs, and one whose output is thrown away."""

    def __init__(self):
        super().__init__()
        self.used, self.idle, self.dropped = (nn.Linear(3, 3) for _ in range(3))

    def forward(self, x):
        self.dropped(x)
        return self.used(x)


def test_layers_that_do_not_reach_the_outputs_do_not_count():
    network = fill(Unused())
    images = torch.randn(4, 3, generator=seeded())
    expected = truth(nn.Sequential(network.used), images)
    for engine in ENGINES.names():
        assert_equal_up_to_rounding(kernels.ntk(network, images, engine=engine).theta, expected, torch.float32, engine)


class WithFeatures(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Tanh())
        self.classifier = nn.Linear(6, 10)

    def features(self, images):
        return self.body(images).mean((2, 3))

    def forward(self, images):
        return self.classifier(self.features(images))


@pytest.mark.parametrize("engine", ENGINES.names())
def test_with_a_head_the_classifier_is_bypassed_and_the_nngp_is_the_heads_part(engine):
    network, head = fill(WithFeatures()), fill(nn.Linear(6, 5), 1)
    images = torch.randn(4, 3, 6, 6, generator=seeded())
    result = kernels.ntk(network, images, engine=engine, head=head)
    features = network.double().features(images.double()).detach()
    assert_equal_up_to_rounding(result.nngp, 5 * features @ features.mT, torch.float32, engine)
    assert_equal_up_to_rounding(result.theta, truth(network, images, head), torch.float32, engine)
    assert kernels.ntk(network.float(), images, engine=engine).nngp is None


@pytest.mark.parametrize("engine", ENGINES.names())
def test_frozen_weights_count_all_the_same(engine):
    network = fill(WithFeatures())
    images = torch.randn(4, 3, 6, 6, generator=seeded())
    expected = kernels.ntk(network, images, engine=engine).theta
    network.requires_grad_(False)
    assert torch.equal(kernels.ntk(network, images, engine=engine).theta, expected)
    assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("engine", ENGINES.names())
def test_a_forward_pass_that_fails_leaves_no_trace(engine):
    network = fill(WithFeatures())
    before = [sorted(vars(module)) for module in network.modules()]
    with pytest.raises(RuntimeError):
        kernels.ntk(network, torch.randn(2, 4, 6, 6, generator=seeded()), engine=engine)
    assert [sorted(vars(module)) for module in network.modules()] == before
    assert all(parameter.grad is None and not vars(parameter) for parameter in network.parameters())
    plain = functional.conv2d(torch.zeros(1, 1, 2, 2), network.body[0].weight[:, :1, :1, :1])
    assert plain.grad_fn.name() == "ConvolutionBackward0"


def test_the_ntk_is_positive_semidefinite_and_follows_the_order_of_images():
    network = fill(WithFeatures())
    images = torch.randn(6, 3, 6, 6, generator=seeded())
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    kernel = kernels.ntk(network, images).theta
    moved = kernels.ntk(network, images[order]).theta
    assert_equal_up_to_rounding(moved, kernel[order][:, order], torch.float32)
    assert float(torch.linalg.eigvalsh(kernel)[0]) > -1e-5 * float(kernel.abs().max())


def test_same_padding_and_other_padding_modes_are_followed():
    layers_ = [nn.Conv2d(2, 3, (2, 3), padding="same"), nn.Conv2d(3, 3, 3, padding=1, padding_mode="circular")]
    network = fill(nn.Sequential(layers_[0], nn.Tanh(), layers_[1], nn.Flatten()))
    check_all_engines(network, torch.randn(3, 2, 5, 5, generator=seeded()), torch.float32, engines=("fast", "loop"))


def test_both_forms_of_a_gram_are_equal_and_the_cheaper_one_is_chosen():
    generator = seeded()
    layer = layers.Convolution((3, 3), (1, 1), (1, 1), (1, 1), 1)
    for size, c, pairs in ((2, 64, True), (12, 4, False)):
        x, gradient = (torch.randn(5, c, size, size, generator=generator).double() for _ in range(2))
        weight = x.new_empty(c, c, 3, 3)
        assert layers.pairs_are_cheaper(layer, gradient, weight) is pairs
        rows = torch.cat(list(layers.weight_gradients(layer, x, gradient)), 1)
        torch.testing.assert_close(layers._gram_of_pairs(layer, x, gradient), rows @ rows.mT)


class Folding(nn.Module):
    """Folds positions into the batch."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x):
        return self.linear(x.permute(0, 2, 3, 1).reshape(-1, 3)).view(len(x), -1)


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 2, 3))

    def forward(self, x):
        return self.conv(x).flatten(1)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (nn.Sequential(nn.ConvTranspose2d(3, 2, 3), nn.Flatten()), ["'0.weight'", "engine='loop'"]),
        (nn.Sequential(nn.Conv2d(3, 3, 1), nn.PReLU(), nn.Flatten()), ["'1.weight'", "engine='loop'"]),
        (Folding(), ["'linear.weight'", "64 rows for 4 images"]),
        (Normed(), ["conv2d", "computed from others"]),
    ],
    ids=["transposed", "prelu", "folding", "parametrised"],
)
def test_the_fast_engine_refuses_what_it_has_no_rule_for_by_name_and_says_what_to_do(network, words):
    with pytest.raises(UnsupportedLayerError) as error:
        kernels.ntk(network, torch.randn(4, 3, 4, 4, generator=seeded()))
    assert all(word in str(error.value) for word in words)


def test_the_loop_takes_layers_the_fast_engine_refuses():
    network = fill(nn.Sequential(nn.ConvTranspose2d(3, 2, 3), nn.PReLU(), nn.Flatten()))
    check_all_engines(network, torch.randn(4, 3, 4, 4, generator=seeded()), torch.float64, engines=("loop",))


def test_batchnorm_is_refused_in_training_mode_and_allowed_in_evaluation_mode():
    network = fill(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten()))
    images = torch.randn(4, 3, 5, 5, generator=seeded())
    for engine in ENGINES.names():
        network.train()
        with pytest.raises(UnsupportedLayerError, match=r"'1' is a BatchNorm2d in training mode.*convert_norms"):
            kernels.ntk(network, images, engine=engine)
        network.eval()
        expected = truth(network, images)
        assert_equal_up_to_rounding(kernels.ntk(network, images, engine=engine).theta, expected, torch.float32, engine)


def test_no_images_no_weights_and_unknown_engines_are_refused():
    with pytest.raises(KernelError, match="at least one image"):
        kernels.ntk(nn.Linear(3, 2), torch.zeros(0, 3))
    with pytest.raises(KernelError, match="no tangent kernel"):
        kernels.ntk(nn.Flatten(), torch.zeros(2, 3, 4, 4))
    with pytest.raises(UnknownNameError, match="Did you mean 'opacus'"):
        kernels.ntk(nn.Linear(3, 2), torch.zeros(2, 3), engine="opacs")
