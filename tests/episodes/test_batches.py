"""Batches hold the right images in the right order."""

import numpy as np
import pytest
import torch

from pipeline.core.errors import DataError
from pipeline.data import transforms
from pipeline.episodes.batches import image_batch, patch_batch, task_batch
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
