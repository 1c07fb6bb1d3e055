"""Batches hold the right images in the right order."""

import dataclasses

import numpy as np
import pytest
import torch

from pipeline.core.errors import DataError, UnknownNameError
from pipeline.data import transforms
from pipeline.episodes.batches import image_batch, labelled_batch, patch_batch, task_batch
from pipeline.episodes.sampler import EpisodeSampler


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def episodes_of(prepared, n=3, n_query=2):
    sampler = EpisodeSampler(prepared, "base", n_way=5, k_shot=1, n_query=n_query, seed=0)
    return [sampler.episode(index) for index in range(n)]


def normalised(prepared, rows):
    return transforms.to_float(transforms.gather(prepared, rows), prepared.mean, prepared.std)


def test_queries_of_all_tasks_come_first_then_supports_class_after_class(folder_set):
    episodes = episodes_of(folder_set)
    batch = task_batch(folder_set, episodes, image_size=8, generator=generator())
    assert (batch.n_tasks, batch.n_query, batch.n_support, batch.n_way) == (3, 10, 5, 5)
    assert batch.images.shape == (3 * 15, 3, 8, 8) and batch.images.dtype == torch.float32
    queries = np.concatenate([episode.query.ravel() for episode in episodes])
    assert torch.equal(batch.images[:30], normalised(folder_set, queries))


def test_supports_are_moved_and_mirrored_and_queries_are_not(folder_set):
    episodes = episodes_of(folder_set)
    first, again, other = (
        task_batch(folder_set, episodes, image_size=8, generator=generator(seed)).images for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert torch.equal(first[:30], other[:30])
    assert not torch.equal(first[30:], other[30:])
    supports = transforms.gather(folder_set, np.concatenate([episode.support.ravel() for episode in episodes]))
    moved = transforms.random_crop_flip(supports, generator(), pad=4, flip=True)
    assert torch.equal(first[30:], transforms.to_float(moved, folder_set.mean, folder_set.std))


def test_images_are_resized_to_the_size_asked_for(folder_set):
    batch = task_batch(folder_set, episodes_of(folder_set), image_size=16, generator=generator())
    assert batch.images.shape[-2:] == (16, 16)


def test_grey_sets_give_three_channels(two_folds):
    batch = task_batch(two_folds, episodes_of(two_folds), image_size=32, generator=generator())
    assert batch.images.shape == (45, 3, 32, 32)


def test_tasks_of_different_shapes_do_not_make_a_batch(folder_set):
    mixed = episodes_of(folder_set) + episodes_of(folder_set, n_query=3)
    with pytest.raises(DataError, match="one shape"):
        task_batch(folder_set, mixed, image_size=8, generator=generator())


def test_an_image_batch_has_different_images_of_its_split(folder_set):
    batch = image_batch(folder_set, "novel", 24, 8, generator())
    assert batch.shape == (24, 3, 8, 8)
    assert len({image.numpy().tobytes() for image in batch}) == 24
    assert torch.equal(batch, image_batch(folder_set, "novel", 24, 8, generator()))
    with pytest.raises(DataError, match="25 images were asked for"):
        image_batch(folder_set, "novel", 25, 8, generator())


def test_patches_are_single_channels_of_pieces_of_normalised_images(folder_set):
    patches = patch_batch(folder_set, "validation", 60, generator())
    assert patches.shape == (60, 1, 3, 3)
    rows = folder_set.rows_of_split("validation")
    pieces = normalised(folder_set, rows).unfold(2, 3, 1).unfold(3, 3, 1).reshape(-1, 9)
    distances = torch.cdist(patches.reshape(60, 9).double(), pieces.double()).min(dim=1).values
    assert distances.max() < 1e-5
    assert torch.equal(patches, patch_batch(folder_set, "validation", 60, generator()))
    assert not torch.equal(patches, patch_batch(folder_set, "validation", 60, generator(1)))


def test_patches_of_grey_sets_and_other_sizes_work(two_folds):
    assert patch_batch(two_folds, "base", 10, generator(), size=5).shape == (10, 1, 5, 5)


def labelled(prepared, n=20, n_held_out=15, image_size=None, seed=0, **options):
    size = image_size or prepared.image_size
    return labelled_batch(prepared, n=n, n_held_out=n_held_out, image_size=size, generator=generator(seed), **options)


def rows_of_images(prepared, images):
    """The row of each of some unmoved images; -1 where no image of the set is so."""
    row_of = {
        image.numpy().tobytes(): i for i, image in enumerate(normalised(prepared, np.arange(len(prepared.labels))))
    }
    return [row_of.get(image.numpy().tobytes(), -1) for image in images]


@pytest.mark.parametrize("name", ["folder_set", "ten_classes", "two_folds"])
def test_held_out_images_are_unmoved_others_of_the_search_split_with_their_labels(name, request, monkeypatch):
    prepared = request.getfixturevalue(name)
    batch = labelled(prepared)
    assert batch.images.shape == (20, 3, prepared.image_size, prepared.image_size)
    assert batch.labels.shape == (20,) and batch.labels.dtype == batch.held_out_labels.dtype == torch.int64
    held_out = rows_of_images(prepared, batch.held_out_images)
    assert len(set(held_out)) == 15 and set(held_out) <= set(prepared.rows_of_split(prepared.search_split))

    monkeypatch.setattr(transforms, "random_crop_flip", lambda images, *_, **__: images)
    unmoved = labelled(prepared)
    mine = rows_of_images(prepared, unmoved.images)
    assert len(set(mine)) == 20 and set(mine) <= set(prepared.rows_of_split(prepared.search_split))
    assert torch.equal(unmoved.labels, batch.labels)

    numbers = {c: i for i, c in enumerate(prepared.classes_of(prepared.search_split))}
    for labels, rows in ((batch.labels, mine), (batch.held_out_labels, held_out)):
        assert labels.tolist() == [numbers[label] for label in prepared.labels[rows]]
    assert batch.n_classes == len(numbers)


@pytest.mark.parametrize("name", ["folder_set", "two_folds"])
def test_no_original_is_in_the_batch_and_held_out(name, request, monkeypatch):
    prepared = request.getfixturevalue(name)
    monkeypatch.setattr(transforms, "random_crop_flip", lambda images, *_, **__: images)
    for seed in range(5):
        batch = labelled(prepared, seed=seed)
        mine, held_out = (set(rows_of_images(prepared, i)) for i in (batch.images, batch.held_out_images))
        assert not mine & held_out
        if prepared.folds.any():
            folds = [set(prepared.folds[list(rows)]) for rows in (mine, held_out)]
            assert not folds[0] & folds[1]


def test_labels_of_a_split_that_is_not_first_start_from_zero(folder_set):
    """The base classes have the first numbers of every few-shot set; a set ordered otherwise is numbered as well."""
    shifted = dataclasses.replace(
        folder_set,
        labels=folder_set.labels + 3,
        split_classes={split: classes + 3 for split, classes in folder_set.split_classes.items()},
    )
    assert torch.equal(labelled(shifted).labels, labelled(folder_set).labels)


def test_the_images_of_a_batch_are_those_of_an_image_batch_whatever_is_held_out(ten_classes):
    from_train, from_test = (labelled(ten_classes, held_out=part) for part in ("train", "test"))
    images = image_batch(ten_classes, "train", 20, 20, generator())
    assert torch.equal(from_train.images, images) and torch.equal(from_test.images, images)
    assert torch.equal(from_train.labels, from_test.labels)


def test_images_can_be_held_out_from_the_test_split(ten_classes):
    batch = labelled(ten_classes, held_out="test", n=60, n_held_out=60)
    rows = rows_of_images(ten_classes, batch.held_out_images)
    assert sorted(rows) == ten_classes.rows_of_split("test").tolist() and rows != sorted(rows)
    assert batch.held_out_labels.tolist() == ten_classes.labels[rows].tolist()


def test_another_seed_draws_other_images_without_regard_to_class(ten_classes):
    first, again, other = (labelled(ten_classes, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.images, again.images) and torch.equal(first.held_out_images, again.held_out_images)
    assert not torch.equal(first.labels, other.labels)
    counts = {tuple(torch.bincount(labelled(ten_classes, seed=seed).labels, minlength=10)) for seed in range(5)}
    assert len(counts) > 1, "classes are drawn evenly"


@pytest.mark.parametrize(("image_size", "pad"), [(8, 2), (16, 2), (20, 4), (32, 4)])
def test_small_images_are_moved_by_up_to_two_pixels_and_larger_ones_by_four(ten_classes, image_size, pad, monkeypatch):
    pads = []

    def noted(images, generator, *, pad, flip):
        pads.append((pad, flip))
        return images

    monkeypatch.setattr(transforms, "random_crop_flip", noted)
    batch = labelled(ten_classes, image_size=image_size)
    assert pads == [(pad, True)]
    assert batch.images.shape[-2:] == batch.held_out_images.shape[-2:] == (image_size, image_size)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n": 61, "n_held_out": 0}, "61 images were asked for, but the train split of cifar10 has 60"),
        ({"n": 50, "n_held_out": 11}, "beside the 50 of the batch has 10"),
        ({"n": 50, "n_held_out": 61, "held_out": "test"}, "the test split of cifar10 has 60"),
    ],
)
def test_more_images_than_there_are_do_not_make_a_batch(ten_classes, options, said):
    with pytest.raises(DataError, match=said):
        labelled(ten_classes, **options)


def test_a_set_without_a_test_split_of_the_same_classes_holds_out_none_from_it(folder_set):
    with pytest.raises(DataError, match="no test split with the classes of its base split"):
        labelled(folder_set, held_out="test")
    with pytest.raises(UnknownNameError, match="Known: test, train"):
        labelled(folder_set, held_out="valid")


def test_images_and_patches_of_a_classification_set_are_drawn_from_either_split(ten_classes):
    for split in ("train", "test"):
        patches = patch_batch(ten_classes, split, 70, generator())
        pieces = normalised(ten_classes, ten_classes.rows_of_split(split)).unfold(2, 3, 1).unfold(3, 3, 1)
        distances = torch.cdist(patches.reshape(70, 9).double(), pieces.reshape(-1, 9).double()).min(dim=1).values
        assert distances.max() < 1e-5
        assert image_batch(ten_classes, split, 60, 20, generator()).shape == (60, 3, 20, 20)
    with pytest.raises(UnknownNameError, match="Known: test, train"):
        image_batch(ten_classes, "base", 2, 20, generator())
