import math

import pytest
import torch
from torch import nn
from torch.func import functional_call, vmap
from torch.nn import functional

from pipeline.core.rng import torch_stream
from pipeline.nets.cells import edge_list
from pipeline.nets.init import construct, initialise
from pipeline.nets.norms import ScaledNorm, convert_norms
from pipeline.nets.ops import OPERATIONS, FactorizedReduce, make_operation
from pipeline.nets.relaxed import Alphas, RelaxedCell, RelaxedNetwork
from pipeline.spaces.tnas import OUTLINE, RELAXED, TNas

NAMES = TNas.operations


def noise(name, *shape):
    return torch.randn(shape, generator=torch_stream(0, "noise", name), dtype=torch.float64)


def cell(reduction):
    made = construct(lambda: RelaxedCell(NAMES, 4, 6, 8, 4, reduction, False, table=RELAXED))
    return initialise(made, "torch_default", torch_stream(0, "weights")).double()


def network(seed=0):
    made = construct(lambda: RelaxedNetwork(NAMES, 4, in_channels=3, channels=4, n_classes=5, table=RELAXED, **OUTLINE))
    return initialise(made, "torch_default", torch_stream(seed, "weights")).double()


def maps(memory_format, size=7):
    inputs = noise("before", 3, 6, size, size + 1), noise("previous", 3, 8, size, size + 1)
    return [x.contiguous(memory_format=memory_format) for x in inputs]


def edge_alone(one, e, source, x, row):
    """An edge by its definition: operations made anew with the weights of the cell, each alone, weighted and summed."""
    total = 0
    for name, weight in zip(NAMES, row, strict=True):
        operation = make_operation(name, one.channels, one.stride_from(source), RELAXED)
        convert_norms(operation, "scalednorm").double()
        if name != "none":
            operation.load_state_dict(one.edges[e][name].state_dict())
        total = total + weight * operation.train()(x)
    return total


def cell_alone(one, before, previous, weights):
    nodes = [one.preprocess0(before), one.preprocess1(previous)]
    edges = list(enumerate(edge_list(4)))
    for node in range(2, 6):
        into = [(e, source) for e, (source, target) in edges if target == node]
        nodes.append(sum(edge_alone(one, e, source, nodes[source], weights[e]) for e, source in into))
    return torch.cat(nodes[2:], dim=1)


@pytest.mark.parametrize("reduction", [False, True])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [7, 8])
def test_a_cell_is_the_weighted_sum_of_operations_that_run_alone(reduction, memory_format, size):
    one, inputs = cell(reduction), maps(memory_format, size)
    weights = noise("alphas", 14, 8).softmax(-1).requires_grad_()
    ours, slow = one(*inputs, weights), cell_alone(one, *inputs, weights)
    torch.testing.assert_close(ours, slow)
    # the slow operations have weights of their own; the alphas and what comes before the edges are shared
    shared = [weights, one.preprocess0.conv.weight, one.preprocess1.conv.weight]
    cotangent = noise("cotangent", *ours.shape)
    for mine, theirs in zip(
        torch.autograd.grad(ours, shared, cotangent), torch.autograd.grad(slow, shared, cotangent), strict=True
    ):
        torch.testing.assert_close(mine, theirs)
    # of `none`, no weight reaches the output
    assert torch.autograd.grad(one(*inputs, weights).sum(), weights)[0][:, 0].abs().max() == 0


def test_none_takes_its_share_of_the_softmax():
    one, images = network(), noise("images", 3, 3, 28, 28)
    with torch.no_grad():
        for alpha in one.alphas.parameters():
            alpha[:, 0] = 1000.0
    assert not one.features(images).any()


def test_a_node_is_rectified_and_pooled_once_and_zeros_are_never_made():
    one, seen = cell(False), {"ReLU": 0, "MaxPool": 0, "AvgPool2d": 0}

    def count(module, *_):
        for kind in seen:
            seen[kind] += type(module).__name__ == kind

    for module in one.modules():
        module.register_forward_hook(count)
    one(*maps(torch.contiguous_format), torch.full((14, 8), 0.125, dtype=torch.float64))
    # five nodes are read; besides: 2 preprocessing ReLUs and the inner ReLU of two separable convolutions an edge
    assert seen == {"ReLU": 5 + 2 + 2 * 14, "MaxPool": 5, "AvgPool2d": 5}
    assert all("none" not in edge for edge in one.edges)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_scaled_norm_is_the_norm_times_the_factor_in_value_and_gradients(memory_format, dtype):
    norm = ScaledNorm(16).to(dtype)
    x, cotangent = (
        noise(name, 4, 16, 6, 6).to(dtype).contiguous(memory_format=memory_format) for name in ("x", "cotangent")
    )
    x.requires_grad_()
    factor = torch.tensor(0.3, dtype=dtype, requires_grad=True)
    ours = norm.scaled(x, factor)
    plain = factor * functional.batch_norm(x, None, None, training=True)
    torch.testing.assert_close(ours, plain)
    for mine, theirs in zip(
        torch.autograd.grad(ours, (x, factor), cotangent),
        torch.autograd.grad(plain, (x, factor), cotangent),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_the_factor_of_a_norm_does_not_stay_with_it():
    norm = ScaledNorm(5)
    norm.scaled(noise("x", 4, 5, 6, 6).float(), torch.tensor(0.3))
    with pytest.raises(ValueError, match="expected 4D"):
        norm.scaled(torch.ones(5), torch.tensor(0.3))
    assert norm.weight is None and not list(norm.parameters())


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name != "none"])
@pytest.mark.parametrize("scaled", [False, True])
def test_a_weighted_operation_is_the_weight_times_the_operation(name, scaled):
    operation = initialise(make_operation(name, 4, 2), "torch_default", torch_stream(0, "weights"))
    convert_norms(operation, "scalednorm" if scaled else "batchnorm").double()
    x, weight = noise("x", 3, 4, 7, 7), torch.tensor(0.7, dtype=torch.float64)
    torch.testing.assert_close(operation.weighted(operation.begin(x), weight), 0.7 * operation(x))


def test_all_tasks_at_once_give_what_tasks_give_one_by_one():
    one = network()
    starts = [network(seed).state_dict() for seed in range(3)]
    names = dict(one.named_parameters())
    weights = {name: torch.stack([start[name] for start in starts]) for name in names}
    images = noise("images", 3, 4, 3, 20, 20)
    one.train()
    for module in one.modules():
        # statistics that are kept are written in place, which vmap cannot do
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = module.running_var = None
    together = vmap(lambda weights, images: functional_call(one, weights, (images,)))(weights, images)
    alone = [functional_call(one, {n: w[task] for n, w in weights.items()}, (images[task],)) for task in range(3)]
    torch.testing.assert_close(together, torch.stack(alone))


def test_alphas_are_drawn_small_from_the_generator_whatever_the_scheme():
    first, again, other = (
        initialise(construct(lambda: Alphas(300, 8)), scheme, torch_stream(seed, "alphas"))
        for scheme, seed in (("torch_default", 0), ("kaiming_fanin", 0), ("kaiming_fanin", 1))
    )
    assert torch.equal(first.normal, again.normal) and not torch.equal(first.normal, other.normal)
    assert not torch.equal(first.normal, first.reduce)
    for alpha in first.parameters():
        assert alpha.std().item() == pytest.approx(1e-3, rel=0.05) and abs(alpha.mean().item()) < 1e-4


def test_only_the_stem_and_the_classifier_have_one_dimensional_weights():
    flat = [name for name, weight in network().named_parameters() if weight.ndim == 1]
    assert flat == ["stem.1.weight", "stem.1.bias", "stem.5.weight", "stem.5.bias", "classifier.bias"]


@pytest.mark.parametrize(("h", "w"), [(4, 4), (5, 5), (5, 4), (4, 5), (1, 1), (1, 6)])
def test_with_zeros_first_the_reduction_pads_odd_maps_in_front_and_shifts_its_second_convolution(h, w):
    reduce = initialise(FactorizedReduce(3, 4, zeros_first=True), "torch_default", torch_stream(0, "w")).double()
    x = noise("x", 2, 3, h, w)
    padded = torch.zeros(2, 3, h + h % 2, w + w % 2, dtype=torch.float64)
    padded[:, :, h % 2 :, w % 2 :] = x.clamp(min=0)
    parts = [
        torch.einsum("oi,nihw->nohw", layer.weight[:, :, 0, 0], padded[:, :, first::2, first::2])
        for first, layer in enumerate((reduce.conv, reduce.shifted_conv))
    ]
    torch.testing.assert_close(reduce.before_norm(reduce.begin(x)), torch.cat(parts, dim=1))


def test_on_even_maps_it_does_not_matter_where_the_zeros_are():
    first, last = (
        initialise(FactorizedReduce(3, 4, zeros_first), "torch_default", torch_stream(0, "w")) for zeros_first in (0, 1)
    )
    x = noise("x", 2, 3, 6, 8).float()
    torch.testing.assert_close(first(x), last(x))


@pytest.mark.parametrize("name", ["dil_conv_3x3", "dil_conv_5x5"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [7, 8])
def test_a_dilated_convolution_is_that_of_torch_at_any_stride(name, stride, size):
    operation = initialise(make_operation(name, 4, stride), "torch_default", torch_stream(0, "w")).double()
    x, kernel = noise("x", 2, 4, size, size), operation.depthwise.weight
    padding = 2 * (kernel.shape[-1] // 2)
    plain = functional.conv2d(x.clamp(min=0), kernel, None, stride, padding, 2, groups=4)
    torch.testing.assert_close(operation.before_norm(operation.begin(x)), operation.pointwise(plain))


@pytest.mark.parametrize("size", [28, 32, 84, 7, 1])
def test_the_stem_quarters_the_map(size):
    images = noise("images", 2, 3, size, size)
    seen = []
    one = network()
    one.cells[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    features = one.features(images)
    assert seen[0].shape == (2, 12, *[max(1, size // 4)] * 2) and features.shape == (2, one.feature_dim) == (2, 32)
    assert math.isfinite(features.sum().item())
