"""The network that describes images: its recipe, its initial weights, and whose weights it takes."""

import dataclasses

import pytest
import torch

from pipeline.core.errors import DataError
from pipeline.evaluation.feature_network import fresh_feature_network, recipe, with_weights
from pipeline.evaluation.settings import FeatureNetConfig, TrainConfig


def test_the_recipe_takes_every_knob_of_its_section_and_leaves_the_rest_as_it_was():
    knobs = {
        "epochs": 3, "batch_size": 17, "learning_rate": 0.3, "weight_decay": 0.2, "jitter": 0.1, "flip": False,
        "precision": "bfloat16",
    }  # fmt: skip
    assert recipe(FeatureNetConfig(**knobs)) == dataclasses.replace(TrainConfig(), **knobs)
    own = {field.name for field in dataclasses.fields(FeatureNetConfig)} - {"weights", "image_size"}
    assert own == knobs.keys()


def test_initial_weights_are_named_by_the_seed_and_draw_from_no_global_generator():
    before = torch.get_rng_state()
    first, again, other = (fresh_feature_network(3, TrainConfig(), seed).body.conv1.weight for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("harm", ["one lacks", "one more", "another shape"])
def test_weights_of_another_network_are_refused_by_the_name_of_their_file(harm):
    weights = fresh_feature_network(3, TrainConfig(), 0).body.state_dict()
    with_weights(weights | {"fc.weight": torch.zeros(2, 512)}, "w.pth")
    if harm == "one lacks":
        weights.pop("layer4.1.conv2.weight")
    elif harm == "one more":
        weights["layer5.weight"] = torch.zeros(1)
    else:
        weights["conv1.weight"] = torch.zeros(64, 3, 3, 3)
    with pytest.raises(DataError, match=r"w\.pth holds no weights of a ResNet-18: .*(layer4.1.conv2|layer5|conv1)"):
        with_weights(weights, "w.pth")
