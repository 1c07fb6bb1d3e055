import math

import pytest
import torch
from torch import nn

from pipeline.core.errors import UnknownNameError
from pipeline.nets.init import initialise
from pipeline.nets.ops import OPERATIONS, FactorizedReduce, MaxPool, make_operation


def operation(name, channels=4, stride=1):
    return initialise(make_operation(name, channels, stride), "torch_default", torch.Generator().manual_seed(3))


def images(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [5, 7, 12, 21])
def test_every_operation_gives_maps_of_the_size_divided_by_the_stride_and_rounded_up(name, stride, size):
    out = operation(name, stride=stride)(images(2, 4, size, size + 1))
    assert out.shape == (2, 4, math.ceil(size / stride), math.ceil((size + 1) / stride))


@pytest.mark.parametrize("name", OPERATIONS)
def test_no_operation_changes_its_input(name):
    x = images(2, 4, 6, 6)
    before = x.clone()
    operation(name)(x).sum()
    assert torch.equal(x, before)


@pytest.mark.parametrize("stride", [1, 2])
def test_operations_that_share_a_beginning_compute_the_same_beginning(stride):
    x = images(2, 4, 7, 7)
    begun = {}
    for name in OPERATIONS:
        one = operation(name, stride=stride)
        start = one.begin(x)
        assert torch.equal(begun.setdefault(one.shared, start), start)
    assert set(begun) == {"itself", "rectified", "average", "maximum"}


def test_an_unknown_operation_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownNameError, match="'sep_conv_3x3'"):
        make_operation("sepconv_3x3", 4, 1)


def test_none_is_zero_even_where_its_input_is_not_a_number():
    out = make_operation("none", 4, 2)(torch.full((1, 4, 5, 5), math.nan))
    assert torch.equal(out, torch.zeros(1, 4, 3, 3))


def test_average_pooling_leaves_the_border_out_of_the_mean():
    assert torch.equal(make_operation("avg_pool_3x3", 2, 1)(torch.ones(1, 2, 5, 5)), torch.ones(1, 2, 5, 5))


@pytest.mark.parametrize("stride", [1, 2])
def test_max_pooling_equals_torch_in_value_and_gradient_where_values_tie(stride):
    # few levels, so that most windows hold several maxima
    x = torch.randint(0, 3, (3, 4, 7, 8), generator=torch.Generator().manual_seed(1)).float()
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    weights = images(3, 4, math.ceil(7 / stride), 8 // stride)
    first = MaxPool(3, stride=stride, padding=1)(ours)
    second = nn.MaxPool2d(3, stride=stride, padding=1)(theirs)
    assert torch.equal(first, second) and first.is_contiguous()
    (first * weights).sum().backward()
    (second * weights).sum().backward()
    assert torch.equal(ours.grad, theirs.grad)


def test_factorized_reduction_reads_even_pixels_and_odd_pixels():
    reduce = FactorizedReduce(1, 2)
    reduce.norm = nn.Identity()
    nn.init.ones_(reduce.conv.weight)
    nn.init.ones_(reduce.shifted_conv.weight)
    x = torch.arange(1.0, 26.0).reshape(1, 1, 5, 5)
    even, odd = reduce(x)[0]
    assert torch.equal(even, x[0, 0, ::2, ::2])
    assert torch.equal(odd[:2, :2], x[0, 0, 1::2, 1::2])
    assert not odd[2].any() and not odd[:, 2].any()


def test_the_separable_convolution_carries_its_stride_once_and_the_small_one_is_depthwise():
    separable, small = make_operation("sep_conv_5x5", 6, 2), make_operation("conv_3x3", 6, 2)
    assert [conv.stride for conv in separable.modules() if isinstance(conv, nn.Conv2d)] == [(2, 2), *[(1, 1)] * 3]
    assert small.depthwise.groups == 6
    assert sum(weight.numel() for weight in small.parameters()) == 6 * 9 + 6 * 6 + 2 * 6
