import dataclasses

import numpy as np
import pytest

from pipeline.data.settings import PrepareConfig
from pipeline.episodes.disjoint import disjoint_episodes
from tests.data.tiny_sources import made


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """20 novel classes of 12 images in two folds."""
    knobs = PrepareConfig(max_image_size=8, max_images_per_class=12, min_images_per_class=2)
    return made(tmp_path_factory.mktemp("digits"), "doublemnist", knobs=knobs)


@pytest.fixture(scope="module")
def unfolded(digits):
    return dataclasses.replace(digits, folds=np.zeros_like(digits.folds))


def images_of(episode):
    return np.concatenate([episode.support.ravel(), episode.query.ravel()])


@pytest.mark.parametrize("k_shot", [1, 2])
def test_no_image_is_used_twice_and_all_are_novel(digits, k_shot):
    episodes = disjoint_episodes(digits, "novel", n_way=5, k_shot=k_shot, n_query=3, seed=0)
    used = np.concatenate([images_of(episode) for episode in episodes])
    assert len(set(used.tolist())) == len(used)
    assert set(used.tolist()) <= set(digits.rows_of_split("novel").tolist())
    for episode in episodes:
        assert episode.support.shape == (5, k_shot)
        assert episode.query.shape == (5, 3)
        assert len(set(episode.classes.tolist())) == 5
        assert (digits.labels[episode.query] == episode.classes[:, None]).all()
        assert (digits.labels[episode.support] == episode.classes[:, None]).all()


def test_support_and_query_come_from_different_folds(digits):
    for episode in disjoint_episodes(digits, "novel", n_way=5, k_shot=1, n_query=3, seed=0):
        assert not set(digits.folds[episode.support.ravel()]) & set(digits.folds[episode.query.ravel()])


def test_equal_classes_without_folds_are_used_up(unfolded):
    episodes = disjoint_episodes(unfolded, "novel", n_way=5, k_shot=1, n_query=3, seed=0)
    assert len(episodes) == 20 * 12 // (5 * 4)


def test_a_pool_that_is_too_small_gives_no_episode(digits):
    assert disjoint_episodes(digits, "novel", n_way=5, k_shot=1, n_query=12, seed=0) == []
    assert disjoint_episodes(digits, "novel", n_way=21, k_shot=1, n_query=1, seed=0) == []


def test_the_same_seed_names_the_same_episodes(digits):
    def used(seed):
        return [
            images_of(e).tolist() for e in disjoint_episodes(digits, "novel", n_way=5, k_shot=1, n_query=3, seed=seed)
        ]

    assert used(0) == used(0)
    assert used(0) != used(1)
