import pytest
import torch

from pipeline.nets.conv4 import Conv4, Conv4Flat
from pipeline.nets.resnet12 import ResNet12


def count(network):
    return sum(weight.numel() for weight in network.parameters()) - sum(
        weight.numel() for weight in network.classifier.parameters()
    )


def test_the_backbones_have_the_parameters_of_their_papers():
    assert count(Conv4(n_classes=64)) == 9 * 64 * (3 + 3 * 64) + 4 * 2 * 64
    # the count of the released RFS model
    assert count(ResNet12(n_classes=64)) == 12_424_320


def test_resnet12_scales_all_widths_with_the_first():
    network = ResNet12(n_classes=5, channels=8)
    assert [block.branch[0].out_channels for block in network.blocks] == [8, 20, 40, 80]


@pytest.mark.parametrize("make", [Conv4, ResNet12])
@pytest.mark.parametrize("size", [5, 7, 21, 28, 84])
def test_features_do_not_depend_on_the_size_of_the_images_in_number(make, size):
    network = make(n_classes=3, channels=4).eval()
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    assert network.features(images).shape == (2, network.feature_dim)
    torch.testing.assert_close(network(images), network.classifier(network.features(images)))


def test_drop_path_acts_on_the_residual_branches_of_resnet12():
    network = ResNet12(n_classes=3, channels=4)
    images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    plain = network.features(images)
    network.drop_path.probability, network.drop_path.generator = 0.5, torch.Generator().manual_seed(0)
    assert not torch.allclose(network.features(images), plain)


@pytest.mark.parametrize(("image_size", "parameters"), [(84, 32_901), (28, 29_061)])
def test_the_flattened_conv4_has_the_parameters_of_maml_and_the_meta_learner_lstm(image_size, parameters):
    network = Conv4Flat(n_classes=5, image_size=image_size)
    assert sum(weight.numel() for weight in network.parameters()) == parameters


@pytest.mark.parametrize("size", [5, 7, 21, 28, 40])
def test_pooling_before_the_relu_changes_neither_outputs_nor_gradients(size):
    network = Conv4Flat(n_classes=3, image_size=size, channels=4).double()
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel())))

    def as_in_the_papers(x):
        for convolution, norm, pool, relu in network.blocks:
            x = pool(relu(norm(convolution(x))))
        return network.classifier(x.flatten(1))

    images = torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(0)).double()
    found, expected = network(images), as_in_the_papers(images)
    assert torch.equal(found, expected)
    weights = list(network.parameters())
    gradients = [torch.autograd.grad(one.square().sum(), weights) for one in (found, expected)]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)
