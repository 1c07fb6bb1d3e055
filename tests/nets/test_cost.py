import pytest
import torch
from torch import nn

from pipeline import spaces
from pipeline.core.rng import torch_stream
from pipeline.nets.cost import count_backbone_parameters, count_multiply_adds, count_parameters


def multiply_adds_by_hooks(network, images):
    """Output positions times the weights that each of them reads, convolution by convolution."""
    counted = []

    def count(layer, inputs, output):
        per_position = layer.weight[0].numel()
        counted.append(output.numel() * per_position)

    layers = [layer for layer in network.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    network.eval()
    network(images)
    for hook in hooks:
        hook.remove()
    return sum(counted) // len(images)


@pytest.mark.parametrize("name", spaces.names())
def test_multiply_adds_are_those_of_the_layers_that_run(name):
    space = spaces.get(name)()
    genotype = space.sample(torch_stream(0, "cost", name))
    network = space.build(genotype, n_classes=7, channels=4, n_cells=3, image_size=16)
    images = torch.zeros(2, 3, 16, 16)
    assert count_multiply_adds(network, images) == multiply_adds_by_hooks(network, images)
    assert count_multiply_adds(network, images[:1]) == count_multiply_adds(network, images)


def test_counting_leaves_modes_and_running_statistics_as_they_were():
    space = spaces.get("conv4")()
    network = space.build(space.sample(torch_stream(0, "cost")), n_classes=5, channels=4).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    count_multiply_adds(network, torch.ones(2, 3, 16, 16))
    assert network.training and all(module.training for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_the_backbone_is_the_network_without_its_classifier():
    space = spaces.get("darts_fewshot")()
    network = space.build(space.sample(torch_stream(0, "cost")), n_classes=64, channels=4, n_cells=3)
    outputs = 64 * (network.feature_dim + 1)
    assert count_parameters(network) - count_backbone_parameters(network) == outputs


@pytest.mark.parametrize(
    ("cells", "total", "backbone"),
    [
        (
            "normal=[[('sep_conv_3x3', 0), ('sep_conv_3x3', 1)], [('sep_conv_3x3', 1), ('sep_conv_3x3', 2)], "
            "[('conv_3x3', 0), ('sep_conv_3x3', 2)]], normal_concat=[2, 3, 4], reduce=[[('sep_conv_3x3', 0), "
            "('sep_conv_3x3', 1)], [('conv_1x5_5x1', 1), ('dil_conv_3x3', 2)], [('dil_conv_3x3', 2), "
            "('dil_conv_3x3', 3)]], reduce_concat=[2, 3, 4]",
            1_760_800,
            1_723_872,
        )
    ],
)
def test_parameters_of_a_published_genotype_are_those_measured_on_the_reference(cells, total, backbone):
    space = spaces.get("darts_fewshot")()
    network = space.build(space.from_text(f"Genotype({cells})"), n_classes=64, channels=48, n_cells=5)
    assert count_parameters(network) == total
    assert count_backbone_parameters(network) == backbone
