"""Accuracies to targets and back."""

import pytest
import torch

from pipeline.core.errors import ConfigError
from pipeline.meta_networks.normalisation import PARITY_SCALE, Normalisation


def test_targets_of_the_accuracies_trained_on_have_mean_zero_and_the_scale_as_their_spread():
    accuracies = [40.99, 72.8, 69.0, 76.0, 86.0]
    for scale in (1.0, PARITY_SCALE):
        targets = Normalisation.of(accuracies, scale).to_target(torch.tensor(accuracies, dtype=torch.float64))
        assert targets.mean().item() == pytest.approx(0, abs=1e-12)
        assert targets.std().item() == pytest.approx(scale)


def test_the_published_scale_divides_by_a_hundred_once_more():
    # ends of the published database: 40.99 and 86.0 per cent become about -0.046 and 0.022
    published = Normalisation(71.5715, 6.6932, PARITY_SCALE)
    assert published.to_target(40.99) == pytest.approx(-0.0457, abs=1e-4)
    assert published.to_target(86.0) == pytest.approx(0.0216, abs=1e-4)


def test_a_target_gives_its_accuracy_back():
    for scale in (1.0, PARITY_SCALE):
        one = Normalisation(71.6, 6.7, scale)
        assert one.to_accuracy(one.to_target(83.21)) == pytest.approx(83.21)


@pytest.mark.parametrize("accuracies", [[], [70.0], [70.0, 70.0]])
def test_accuracies_without_a_spread_are_refused(accuracies):
    with pytest.raises(ConfigError):
        Normalisation.of(accuracies)
