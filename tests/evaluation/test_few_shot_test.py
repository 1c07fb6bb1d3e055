import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from pipeline import learners
from pipeline.core.errors import TrainingError
from pipeline.core.rng import torch_stream
from pipeline.data import transforms
from pipeline.episodes.sampler import EpisodeSampler
from pipeline.evaluation.few_shot_test import FrozenFeatures, Outcome, few_shot_test
from pipeline.evaluation.settings import TrainConfig

CPU = torch.device("cpu")
CONFIG = TrainConfig(flip=False)


class Pixels(nn.Module):
    """Features are the pixels, times a factor."""

    def __init__(self, size, factor=1.0):
        super().__init__()
        self.feature_dim, self.factor = 3 * size * size, factor

    def features(self, images):
        return images.flatten(1) * self.factor


@pytest.fixture
def episodes(digits):
    sampler = EpisodeSampler(digits, "novel", n_way=5, k_shot=1, n_query=3, seed=0)
    return [sampler.episode(index) for index in range(12)]


def both():
    return {name: learners.get(name)() for name in ("linear_probe", "prototypes")}


def test_kept_features_are_those_of_the_network_whatever_the_batch_size_and_order(digits, fresh):
    rows = digits.rows_of_split("novel")[:30].reshape(5, 6)
    network = fresh().eval()
    with torch.no_grad():
        images = transforms.to_float(transforms.gather(digits, rows), digits.mean, digits.std)
        expected = network.features(images).view(5, 6, -1)
    for batch_size in (4, 256):
        features = FrozenFeatures(fresh(), digits, CONFIG, batch_size, CPU)
        features.of_rows(rows[::-1, :2])
        torch.testing.assert_close(features.of_rows(rows), expected, rtol=1e-4, atol=1e-5)


def test_augmented_features_are_blocks_of_whole_support_sets_and_belong_to_their_episode(digits, fresh, episodes):
    rows = np.stack([episode.support for episode in episodes[:3]]).repeat(2, axis=2)
    features = FrozenFeatures(fresh(), digits, CONFIG, 7, CPU)

    def streams():
        return [torch_stream(0, "copies", number) for number in range(3)]

    together = features.of_augmented(rows, 4, streams())
    assert together.shape == (3, 5, 8, features.network.feature_dim)
    alone = torch.cat([features.of_augmented(rows[i : i + 1], 4, [stream]) for i, stream in enumerate(streams())])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)

    still = dataclasses.replace(CONFIG, pad=0, jitter=0.0)
    features = FrozenFeatures(fresh(), digits, still, 64, CPU)
    copies = features.of_augmented(rows, 4, streams())
    expected = features.of_rows(np.tile(rows, (1, 1, 4)))
    torch.testing.assert_close(copies, expected, rtol=1e-4, atol=1e-5)


def test_zero_copies_take_the_support_images_themselves(digits, fresh, episodes):
    found = few_shot_test(
        FrozenFeatures(fresh(), digits, CONFIG, 64, CPU), episodes, both(), n_augmented_support=0, seed=0
    )
    features = FrozenFeatures(fresh(), digits, CONFIG, 64, CPU)
    for name, learner in both().items():
        expected = [
            (learner(features.of_rows(e.support), features.of_rows(e.query)).argmax(-1) == torch.arange(5)[:, None])
            for e in episodes
        ]
        assert (found[name].correct == torch.stack(expected).numpy()).all()


@pytest.mark.parametrize("n_copies", [0, 2])
def test_a_blind_network_scores_exactly_chance(digits, episodes, n_copies):
    features = FrozenFeatures(Pixels(16, 0.0), digits, CONFIG, 64, CPU)
    for outcome in few_shot_test(features, episodes, both(), n_augmented_support=n_copies, seed=0).values():
        assert outcome.accuracies.tolist() == [0.2] * len(episodes)


@pytest.mark.parametrize("n_copies", [0, 2])
def test_a_network_that_sees_the_class_is_always_right(digits, episodes, n_copies):
    shades = np.linspace(0, 255, 20).astype(np.uint8)
    images = np.zeros_like(np.array(digits.images))
    for label, shade in zip(digits.classes_of("novel"), shades, strict=True):
        images[digits.rows_of(label), : shade // 16 + 1] = 255
    episodes = [e for e in episodes if len({tuple(images[r[0]].ravel()) for r in e.query}) == 5]
    assert episodes
    told = dataclasses.replace(digits, images=images)
    features = FrozenFeatures(Pixels(16), told, dataclasses.replace(CONFIG, pad=0, jitter=0.0), 64, CPU)
    for outcome in few_shot_test(features, episodes, both(), n_augmented_support=n_copies, seed=0).values():
        assert outcome.correct.all()


def test_the_same_seed_gives_the_same_copies_and_another_seed_others(digits, episodes):
    features = FrozenFeatures(Pixels(16), digits, CONFIG, 64, CPU)
    first, again, other = (
        few_shot_test(features, episodes, both(), n_augmented_support=2, seed=seed)["linear_probe"].correct
        for seed in (0, 0, 1)
    )
    assert (first == again).all()
    assert (first != other).any()


def test_an_outcome_knows_image_and_class_of_every_query(episodes):
    predictions = np.stack([np.repeat(np.arange(5)[:, None], 3, axis=1) for _ in episodes])
    predictions[0, 0, 0] = 1
    outcome = Outcome.of(episodes, predictions)
    assert outcome.accuracies.tolist() == [14 / 15] + [1.0] * (len(episodes) - 1)
    assert (outcome.images == np.stack([episode.query for episode in episodes])).all()
    assert (outcome.classes[:, :, 0] == np.stack([episode.classes for episode in episodes])).all()


def test_features_that_are_not_finite_are_an_error_and_no_score(digits, episodes):
    features = FrozenFeatures(Pixels(16, float("nan")), digits, CONFIG, 64, CPU)
    with pytest.raises(TrainingError, match="not finite"):
        few_shot_test(features, episodes, both(), n_augmented_support=0, seed=0)


def test_testing_changes_no_weight_and_no_buffer(digits, fresh, episodes):
    network = fresh().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    few_shot_test(FrozenFeatures(network, digits, CONFIG, 64, CPU), episodes, both(), n_augmented_support=1, seed=0)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
