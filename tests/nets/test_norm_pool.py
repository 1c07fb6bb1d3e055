import copy

import pytest
import torch
from torch import nn

from pipeline.nets import conv4
from pipeline.nets.conv4 import Conv4Flat, FlatBlock
from pipeline.nets.norm_pool import conv_norm_pool_relu, fits, gradients_taken_once

SIZES = [(2, 2), (5, 4), (9, 9), (3, 12)]


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def block(seed=0):
    """With any weights, norms with positive ones."""
    one = FlatBlock(3, 4).double()
    with torch.no_grad():
        for i, weight in enumerate(one.parameters()):
            weight.copy_(drawn(*weight.shape, seed=seed + i))
        one[1].weight.abs_()
    return one


def innermost(images):
    return images.contiguous(memory_format=torch.channels_last)


def gradients(found, tensors):
    return torch.autograd.grad((found * drawn(*found.shape, seed=99)).sum(), tensors)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("momentum", [0.1, 0.95])
def test_the_fast_operation_gives_outputs_gradients_and_statistics_of_the_layers(size, momentum):
    fast, slow = block(), block()
    fast[1].momentum = slow[1].momentum = momentum
    images = innermost(drawn(3, 3, *size, seed=7)).requires_grad_()
    for _ in range(2):
        with gradients_taken_once():
            assert fits(fast[1], images)
            found = fast(images)
        expected = slow(images)
        torch.testing.assert_close(found, expected)
    for ours, theirs in zip(
        gradients(found, [images, *(fast[0].weight, fast[1].weight, fast[1].bias)]),
        gradients(expected, [images, *(slow[0].weight, slow[1].weight, slow[1].bias)]),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)
    for name, buffer in slow.named_buffers():
        torch.testing.assert_close(fast.get_buffer(name), buffer)


def test_the_bias_before_the_norm_has_no_gradient_in_the_layers_either():
    one = block()
    assert gradients(one(drawn(3, 3, 8, 8)), [one[0].bias])[0].abs().max() < 1e-12
    with gradients_taken_once():
        found = one(innermost(drawn(3, 3, 8, 8)))
    assert torch.autograd.grad(found.sum(), [one[0].bias], allow_unused=True) == (None,)


def test_it_is_used_only_where_gradients_are_taken_once_and_it_gives_the_same(monkeypatch):
    used = []
    monkeypatch.setattr(conv4, "conv_norm_pool_relu", lambda *given: used.append(1) or conv_norm_pool_relu(*given))
    images = innermost(drawn(3, 3, 8, 8))

    def uses(one, given):
        used.clear()
        reference = copy.deepcopy(one)
        with gradients_taken_once():
            found = one(given)
        count = len(used)
        torch.testing.assert_close(found, reference(given))
        assert len(used) == count
        return count

    assert uses(block(), images) == 1
    negative = block()
    with torch.no_grad():
        negative[1].weight[2] = -0.5
    assert uses(negative, images) == 0
    assert uses(block().eval(), images) == 0
    assert uses(block(), images.contiguous()) == 0
    assert uses(block(), innermost(drawn(3, 3, 1, 8))) == 0
    averaging = block()
    averaging[1].momentum = None
    assert uses(averaging, images) == 0


def test_second_derivatives_are_refused_and_outside_they_are_there():
    network = Conv4Flat(n_classes=3, image_size=8, channels=4).double()
    images, weights = innermost(drawn(3, 3, 8, 8)), list(network.parameters())

    def second_derivatives():
        first = torch.autograd.grad(
            network(images).square().sum(), weights, create_graph=True, allow_unused=True, materialize_grads=True
        )
        return torch.autograd.grad(sum(one.square().sum() for one in first), weights, allow_unused=True)

    assert any(one is not None and one.abs().sum() > 0 for one in second_derivatives())
    with gradients_taken_once(), pytest.raises(RuntimeError, match="gradients_taken_once"):
        second_derivatives()


def test_the_permission_ends_also_after_an_error():
    norm, images = nn.BatchNorm2d(3).double(), innermost(drawn(2, 3, 4, 4))
    with pytest.raises(KeyError), gradients_taken_once():
        assert fits(norm, images)
        raise KeyError
    assert not fits(norm, images)
