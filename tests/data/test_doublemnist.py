"""The embedded default: which digits meet where."""

import collections
import itertools

import numpy as np
import pytest

from pipeline.core.types import SPLITS
from pipeline.data import get
from pipeline.data.archives import Tree
from pipeline.data.doublemnist import compose, read_digits
from pipeline.data.fetching import fetch
from pipeline.episodes.sampler import EpisodeSampler

DIGEST = "dfb8f50553de907afbedc2c1d23bbcf6aa402e991dae330781b50924a0fb77b7"


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    dataset = get("doublemnist")()
    fetch(dataset, "doublemnist", folder / "raw.tar")
    tree = Tree.opened(folder / "raw.tar", folder / "scratch")
    return list(dataset.records(tree, "digits")), read_digits(tree)


def digits_of(source: str) -> tuple[int, int]:
    left, right = source.split(":")[1].split("+")
    return int(left), int(right)


def used(records) -> set[int]:
    return set(itertools.chain.from_iterable(digits_of(record.source) for record in records))


def test_a_class_shows_its_two_digits(records):
    for record in records[0]:
        assert tuple(row // 500 for row in digits_of(record.source)) == tuple(map(int, record.class_name))


def test_no_digit_image_crosses_the_class_split(records):
    of_split = {split: used(r for r in records[0] if r.split == split) for split in SPLITS}
    assert len(set.union(*of_split.values())) == sum(map(len, of_split.values()))
    assert [len(of_split[split]) for split in SPLITS] == [2975, 1000, 1000]


def test_no_digit_image_lies_in_two_folds_of_a_split(records):
    for split in SPLITS:
        first, second = (used(r for r in records[0] if r.split == split and r.fold == fold) for fold in (0, 1))
        assert first and second and not first & second


def test_a_class_uses_a_digit_image_at_most_once_on_each_side(records):
    by_class = collections.defaultdict(list)
    for record in records[0]:
        by_class[record.class_name].append(digits_of(record.source))
    assert len(by_class) == 100
    for pairs in by_class.values():
        lefts, rights = zip(*pairs, strict=True)
        assert len(pairs) == len(set(lefts)) == len(set(rights)) == 100
        assert all(left != right for left, right in pairs)


def test_an_image_is_its_two_digits_averaged_and_nothing_else(records):
    _, digits = records
    image = compose(digits[3], digits[4000], "a place")
    assert image.shape == (32, 32)
    assert abs(image.sum() * 4 - int(digits[3].sum()) - int(digits[4000].sum())) <= 2 * image.size
    left, right = compose(digits[3], 0 * digits[4000], "a place"), compose(0 * digits[3], digits[4000], "a place")
    assert (image == left + right).all()
    assert not left[:, 16:].any() and not right[:, :16].any()


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize(("k_shot", "n_query"), [(1, 15), (5, 15), (5, 50)])
def test_support_and_query_of_an_episode_share_no_digit_image(doublemnist, records, split, k_shot, n_query):
    by_class = collections.defaultdict(list)
    for record in records[0]:
        by_class[record.class_name].append(digits_of(record.source))
    digits = [pair for name in doublemnist.class_names for pair in by_class[name]]
    sampler = EpisodeSampler(doublemnist, split, n_way=5, k_shot=k_shot, n_query=n_query, seed=0)
    for index in range(30):
        episode = sampler.episode(index)
        support, query = (
            set(itertools.chain.from_iterable(digits[row] for row in rows.ravel()))
            for rows in (episode.support, episode.query)
        )
        assert not support & query


def test_the_composition_is_the_one_that_results_are_compared_on(doublemnist):
    assert doublemnist.digest == DIGEST
    assert doublemnist.images.shape == (10_000, 32, 32, 1)
    assert np.allclose(doublemnist.mean, 0.05, atol=0.01)
