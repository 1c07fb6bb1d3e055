import math

import pytest
import torch
from torch import nn

from pipeline.core.errors import ConfigError, UnknownNameError
from pipeline.nets.init import SCHEMES, OwnWeights, construct, initialise


def network():
    return nn.Sequential(
        nn.Conv2d(8, 32, 3), nn.BatchNorm2d(32), nn.Conv2d(32, 32, 5, groups=32, bias=False), nn.Linear(40, 30)
    )


def filled(scheme, seed=0):
    return initialise(network(), scheme, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_same_generator_gives_the_same_weights_whatever_they_were(scheme):
    first, second, other = filled(scheme), filled(scheme), filled(scheme, seed=1)
    for one, two in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, two)
    assert not torch.equal(first[0].weight, other[0].weight)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_neither_building_nor_initialising_touches_the_global_generator(scheme):
    state = torch.get_rng_state()
    initialise(construct(network), scheme, torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("scheme", "fans"), [("kaiming_fanout", (288, 800, 30)), ("kaiming_fanin", (72, 25, 40))])
def test_kaiming_weights_have_variance_two_over_the_fan_of_torch_and_no_bias(scheme, fans):
    layers = [layer for layer in filled(scheme) if not isinstance(layer, nn.BatchNorm2d)]
    for layer, fan in zip(layers, fans, strict=True):
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / fan), rel=0.1)
        assert layer.bias is None or not layer.bias.any()


def test_torch_default_has_the_bounds_of_the_layers_of_torch():
    layer = filled("torch_default")[3]
    bound = 1 / math.sqrt(40)
    for values in (layer.weight, layer.bias):
        assert values.abs().max() <= bound and values.abs().max() > 0.9 * bound
    theirs = nn.Linear(40, 30).weight
    assert layer.weight.std().item() == pytest.approx(theirs.std().item(), rel=0.1)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_recurrent_cells_have_the_bounds_of_torch_by_any_scheme(scheme):
    cell = initialise(nn.GRUCell(7, 50), scheme, torch.Generator().manual_seed(0))
    for name, theirs in nn.GRUCell(7, 50).named_parameters():
        mine = cell.get_parameter(name)
        assert mine.abs().max() <= 1 / math.sqrt(50)
        assert mine.std().item() == pytest.approx(theirs.std().item(), rel=0.15)


def test_a_layer_with_weights_of_its_own_draws_them_from_the_generator():
    class Scaled(OwnWeights):
        def __init__(self):
            super().__init__()
            self.scale, self.layer = nn.Parameter(torch.zeros(3)), nn.Linear(3, 3)

        def draw_weights(self, generator):
            self.scale.copy_(torch.rand(3, generator=generator))

    first, again = (initialise(construct(Scaled), "kaiming_fanin", torch.Generator().manual_seed(0)) for _ in range(2))
    assert first.scale.all() and torch.equal(first.scale, again.scale)
    assert torch.equal(first.layer.weight, again.layer.weight) and not first.layer.bias.any()


def test_norms_become_the_identity_with_fresh_statistics():
    one = network()
    one[1].weight.data.fill_(3)
    one[1].running_mean.fill_(7)
    initialise(one, "kaiming_fanout", torch.Generator().manual_seed(0))
    assert torch.equal(one[1].weight, torch.ones(32)) and not one[1].bias.any() and not one[1].running_mean.any()


def test_an_unknown_scheme_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownNameError, match="'kaiming_fanout'"):
        initialise(network(), "kaiming_norm_fanout", torch.Generator())


def test_a_layer_with_weights_that_no_scheme_knows_is_refused():
    with pytest.raises(ConfigError, match="PReLU"):
        initialise(nn.Sequential(nn.PReLU()), "torch_default", torch.Generator())
