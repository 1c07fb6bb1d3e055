"""The network that describes images."""

import torch

from pipeline.core.vision import torchvision
from pipeline.nets.init import construct
from pipeline.nets.resnet18 import ResNet18


def test_its_features_are_what_torchvisions_resnet18_hands_to_its_last_layer():
    torch.manual_seed(0)
    published = torchvision().models.resnet18(weights=None).eval()
    handed = []
    published.fc.register_forward_pre_hook(lambda layer, inputs: handed.append(inputs[0]))
    network = construct(ResNet18).eval()
    state = {name: value for name, value in published.state_dict().items() if not name.startswith("fc.")}
    network.body.load_state_dict(state)
    for side in (32, 40):
        images = torch.randn(3, 3, side, side)
        with torch.inference_mode():
            published(images)
            assert torch.equal(network.features(images), handed.pop())


def test_with_a_classifier_it_has_the_published_number_of_parameters_and_without_one_gives_features():
    n_parameters = sum(p.numel() for p in construct(lambda: ResNet18(n_classes=1000)).parameters())
    assert n_parameters == 11_689_512
    images = torch.randn(2, 3, 32, 32)
    assert construct(lambda: ResNet18(n_classes=7))(images).shape == (2, 7)
    assert construct(ResNet18)(images).shape == (2, ResNet18.feature_dim)
