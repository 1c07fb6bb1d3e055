"""Episodes are named by number and keep their promises."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from pipeline.core.errors import DataError, UnknownNameError
from pipeline.episodes.sampler import EpisodeSampler


def sampler(prepared, split="base", n_way=5, k_shot=3, n_query=4, seed=0, **options):
    return EpisodeSampler(prepared, split, n_way=n_way, k_shot=k_shot, n_query=n_query, seed=seed, **options)


def same(a, b) -> bool:
    return all((getattr(a, f) == getattr(b, f)).all() for f in ("classes", "support", "query"))


def test_an_episode_has_different_classes_of_its_split_and_images_of_those_classes(folder_set):
    for index in range(50):
        episode = sampler(folder_set).episode(index)
        assert len(set(episode.classes)) == 5 and set(episode.classes) <= set(folder_set.split_classes["base"])
        assert episode.support.shape == (5, 3) and episode.query.shape == (5, 4)
        for rows in (episode.support, episode.query):
            assert (folder_set.labels[rows] == episode.classes[:, None]).all()
        every = np.concatenate([episode.support.ravel(), episode.query.ravel()])
        assert len(set(every)) == 5 * 7


def test_the_same_number_is_the_same_episode_in_any_order(folder_set):
    forwards = [sampler(folder_set).episode(i) for i in range(5)]
    one = sampler(folder_set)
    backwards = [one.episode(i) for i in reversed(range(5))][::-1]
    assert all(map(same, forwards, backwards))


def test_seed_purpose_split_and_number_each_give_other_episodes(folder_set):
    first = sampler(folder_set).episode(0)
    others = [
        sampler(folder_set, seed=1).episode(0),
        sampler(folder_set, purpose="test").episode(0),
        sampler(folder_set).episode(1),
    ]
    assert not any(same(first, other) for other in others)


def test_another_process_draws_the_same_episode(folder_set):
    stem = str(folder_set.images.filename).removesuffix(".images.npy")
    program = (
        "from pipeline.data.prepared import PreparedSet\n"
        "from pipeline.episodes.sampler import EpisodeSampler\n"
        f"stem = {stem!r}\n"
        "prepared = PreparedSet.open(stem + '.images.npy', stem + '.index.csv', stem + '.manifest.json')\n"
        "episode = EpisodeSampler(prepared, 'base', n_way=5, k_shot=3, n_query=4, seed=0).episode(7)\n"
        "print(episode.support.tolist(), episode.query.tolist())"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    episode = sampler(folder_set).episode(7)
    assert answer.stdout.strip() == f"{episode.support.tolist()} {episode.query.tolist()}"


@pytest.mark.parametrize("which", ["folder_set", "two_folds"])
def test_fewer_shots_have_the_same_classes_and_queries_and_part_of_the_support(which, request):
    prepared = request.getfixturevalue(which)
    for index in range(10):
        one, five = (sampler(prepared, k_shot=k_shot).episode(index) for k_shot in (1, 5))
        assert (one.classes == five.classes).all() and (one.query == five.query).all()
        assert (one.support == five.support[:, :1]).all()


def test_every_class_and_every_image_is_drawn_sooner_or_later(folder_set):
    episodes = [sampler(folder_set).episode(index) for index in range(200)]
    rows = set(folder_set.rows_of_split("base"))
    assert {row for episode in episodes for row in episode.support.ravel()} == rows
    assert {row for episode in episodes for row in episode.query.ravel()} == rows


def test_support_and_query_come_from_different_folds(two_folds):
    roles = set()
    for index in range(40):
        episode = sampler(two_folds, "novel", k_shot=5, n_query=10).episode(index)
        (support,), (query,) = (set(two_folds.folds[rows].ravel()) for rows in (episode.support, episode.query))
        assert support != query
        roles.add((int(support), int(query)))
    assert roles == {(0, 1), (1, 0)}


def rows_drawn(prepared, part, split="base", n=120):
    drawn = sampler(prepared, split, k_shot=2, n_query=2, part=part)
    episodes = [drawn.episode(index) for index in range(n)]
    return {row for episode in episodes for row in np.concatenate([episode.support, episode.query], axis=1).ravel()}


def test_the_halves_of_the_images_have_every_class_share_no_image_and_make_up_the_whole(folder_set):
    first, second = (rows_drawn(folder_set, part) for part in ("first_half", "second_half"))
    assert not first & second
    assert first | second == set(folder_set.rows_of_split("base"))
    for class_id in folder_set.classes_of("base"):
        rows = folder_set.rows_of(class_id)
        assert first & set(rows) == set(rows[:6])


def test_halves_of_classes_of_unequal_size_are_halves_of_each(folder_set):
    # two images of the first class go to the second
    labels = folder_set.labels.copy()
    first_class, second_class = folder_set.classes_of("base")[:2]
    labels[folder_set.rows_of(first_class)[-3:]] = second_class
    unequal = dataclasses.replace(folder_set, labels=labels)
    first, second = (rows_drawn(unequal, part) for part in ("first_half", "second_half"))
    for class_id, n_first, n_second in ((first_class, 4, 5), (second_class, 7, 8)):
        rows = unequal.rows_of(class_id)
        assert first & set(rows) == set(rows[:n_first])
        assert second & set(rows) == set(rows[n_first:]) and len(rows) == n_first + n_second


def test_a_half_has_half_of_every_fold_and_still_separates_support_and_query(two_folds):
    # one fold after the other in every class, whatever order the set has them in
    sorted_folds = dataclasses.replace(two_folds, folds=np.arange(len(two_folds.labels)) % 20 // 10)
    for prepared in (two_folds, sorted_folds):
        first, second = (rows_drawn(prepared, part, "novel") for part in ("first_half", "second_half"))
        assert not first & second
        for class_id in prepared.classes_of("novel"):
            folds = prepared.folds[[row for row in first if prepared.labels[row] == class_id]]
            assert np.bincount(folds).tolist() == [5, 5]
        for index in range(20):
            episode = sampler(prepared, "novel", k_shot=2, n_query=5, part="second_half").episode(index)
            (support,), (query,) = (set(prepared.folds[rows].ravel()) for rows in (episode.support, episode.query))
            assert support != query


def test_a_half_without_enough_images_or_of_an_unknown_name_is_an_error(folder_set, two_folds):
    with pytest.raises(DataError, match=r"needs 7 images per class, but class .* has 6 in the first half"):
        sampler(folder_set, part="first_half")
    with pytest.raises(DataError, match=r"folds of 5, 5 images"):
        sampler(two_folds, k_shot=4, n_query=6, part="second_half")
    with pytest.raises(UnknownNameError, match="'first_halve'. Did you mean 'first_half'"):
        sampler(folder_set, part="first_halve")


def test_what_a_split_cannot_give_is_an_error_with_the_numbers(folder_set, two_folds):
    with pytest.raises(DataError, match="9-way .* has 8"):
        sampler(folder_set, n_way=9)
    with pytest.raises(DataError, match="13 queries|has 12"):
        sampler(folder_set, n_query=13)
    with pytest.raises(DataError, match=r"folds of 10, 10 images"):
        sampler(two_folds, k_shot=5, n_query=11)
    with pytest.raises(DataError, match="k_shot is 0"):
        sampler(folder_set, k_shot=0)
    with pytest.raises(UnknownNameError, match="'noval'"):
        sampler(folder_set, "noval")


def test_episodes_of_a_classification_set_stay_in_their_split(ten_classes):
    for split in ("train", "test"):
        for index in range(5):
            episode = sampler(ten_classes, split, n_query=3).episode(index)
            rows = np.concatenate([episode.support, episode.query], axis=1)
            assert set(rows.ravel()) <= set(ten_classes.rows_of_split(split))
            assert (ten_classes.labels[rows] == episode.classes[:, None]).all()
