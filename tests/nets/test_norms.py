import pytest
import torch
from torch import nn

from pipeline.core.errors import ConfigError, UnknownNameError
from pipeline.nets.norms import convert_norms


def network(channels=32):
    return nn.Sequential(
        nn.Conv2d(3, channels, 1), nn.BatchNorm2d(channels), nn.Sequential(nn.ReLU(), nn.BatchNorm2d(channels))
    )


@pytest.mark.parametrize(
    ("norm", "channels", "groups"), [("groupnorm16", 8, 8), ("groupnorm16", 48, 16), ("groupnorm", 64, 32)]
)
def test_group_norms_take_the_place_of_every_batch_norm(norm, channels, groups):
    converted = convert_norms(network(channels), norm)
    found = [module for module in converted.modules() if isinstance(module, nn.GroupNorm)]
    assert [(one.num_groups, one.num_channels) for one in found] == [(groups, channels)] * 2
    assert not any(isinstance(module, nn.BatchNorm2d) for module in converted.modules())


def test_after_conversion_a_sample_does_not_depend_on_the_rest_of_the_batch():
    images = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    converted = convert_norms(network(), "groupnorm16")
    torch.testing.assert_close(converted(images)[:1], converted(images[:1]))


def test_norms_without_weights_and_no_norms_have_no_parameters():
    for norm, kind in (("instancenorm", nn.InstanceNorm2d), ("nonorm", nn.Identity)):
        converted = convert_norms(network(), norm)
        assert isinstance(converted[1], kind) and not list(converted[1].parameters())


def test_the_name_batchnorm_leaves_the_network_as_it_is():
    assert isinstance(convert_norms(network(), "batchnorm")[2][1], nn.BatchNorm2d)


def test_channels_that_the_groups_do_not_divide_are_refused_with_advice():
    with pytest.raises(ConfigError, match=r"16 groups cannot hold a layer of 24 channels.*multiple of 16"):
        convert_norms(network(24), "groupnorm16")


def test_an_unknown_norm_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownNameError, match="'groupnorm16'"):
        convert_norms(network(), "group_norm16")
