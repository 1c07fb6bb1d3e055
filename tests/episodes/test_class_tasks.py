"""Tasks made of classes: splits without a common class, replayable draws, images either trained or tested on."""

import dataclasses
import hashlib

import numpy as np
import pytest

from pipeline.core.errors import DataError
from pipeline.core.types import CLASSIFICATION, SPLITS
from pipeline.data.transforms import resize
from pipeline.episodes.class_tasks import classes_by_split, draw_tasks, task_set
from tests import tiny_set

WANTED = {"base": 30, "validation": 5, "novel": 5}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_set.prepared(tmp_path_factory.mktemp("tiny"), n_images=10)


@pytest.fixture(scope="module")
def classifying(tiny):
    """The same images as a classification set: every class has 8 training and 2 test images."""
    place = np.arange(len(tiny.labels)) % 10
    order = np.concatenate([np.flatnonzero(place < 8), np.flatnonzero(place >= 8)])
    n_train = int((place < 8).sum())
    ids = np.arange(len(tiny.class_names))
    return dataclasses.replace(
        tiny,
        images=np.asarray(tiny.images)[order],
        labels=tiny.labels[order],
        split_rows={"train": range(n_train), "test": range(n_train, len(order))},
        split_classes={"train": ids, "test": ids},
        kind=CLASSIFICATION,
    )


def small(prepared, classes, **knobs):
    return task_set(prepared, classes, **{"n_images": 0, "held_out": 0.2, "image_size": 8, "seed": 0} | knobs)


def images_by_digest(images: np.ndarray) -> set[str]:
    return {hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest() for image in images}


def test_a_few_shot_set_keeps_its_own_splits(tiny):
    found = classes_by_split(tiny, seed=3)
    assert {split: list(of) for split, of in found.items()} == {split: list(tiny.classes_of(split)) for split in SPLITS}


def test_the_classes_of_a_classification_set_are_split_60_20_20_without_overlap(classifying):
    found = classes_by_split(classifying, seed=3)
    assert [len(found[split]) for split in SPLITS] == [10, 3, 3]
    assert sorted(np.concatenate(list(found.values()))) == list(range(16))
    assert any(list(found["base"]) != list(classes_by_split(classifying, seed)["base"]) for seed in range(5))


@pytest.mark.parametrize("kind", ["few-shot", "classification"])
def test_no_class_is_in_tasks_of_two_splits(tiny, classifying, kind):
    prepared = tiny if kind == "few-shot" else classifying
    tasks = draw_tasks(classes_by_split(prepared, 0), WANTED, 3, seed=0)
    used = {split: {one for task in tasks if task.split == split for one in task.classes} for split in SPLITS}
    assert not used["base"] & used["validation"]
    assert not used["base"] & used["novel"]
    assert not used["validation"] & used["novel"]
    assert used["base"] == set(classes_by_split(prepared, 0)["base"].tolist()), "30 tasks meet every class"


def test_tasks_are_numbered_and_have_distinct_classes_of_their_split(tiny):
    tasks = draw_tasks(classes_by_split(tiny, 0), WANTED, 4, seed=0)
    assert [task.id for task in tasks] == list(range(40))
    assert [task.split for task in tasks] == ["base"] * 30 + ["validation"] * 5 + ["novel"] * 5
    for task in tasks:
        assert len(set(task.classes)) == 4 and list(task.classes) == sorted(task.classes)
        assert set(task.classes) <= set(tiny.classes_of(task.split).tolist())


def test_a_task_stays_the_same_when_more_are_asked_for(tiny):
    classes = classes_by_split(tiny, 0)
    few, many = (draw_tasks(classes, {"base": n}, 3, seed=0) for n in (4, 9))
    assert many[:4] == few
    assert draw_tasks(classes, {"base": 4}, 3, seed=1) != few


def test_classes_are_drawn_uniformly(tiny):
    tasks = draw_tasks(classes_by_split(tiny, 0), {"base": 600}, 3, seed=0)
    counts = np.bincount([one for task in tasks for one in task.classes])
    # each of 6 classes is in half of the tasks: 300 of 600, standard deviation 12
    assert abs(counts - 300).max() < 55


def test_too_few_classes_are_refused_before_any_work(tiny):
    with pytest.raises(DataError, match=r"needs 6 classes .*only 5 validation classes.*database\.n_classes"):
        draw_tasks(classes_by_split(tiny, 0), WANTED, 6, seed=0)
    assert len(draw_tasks(classes_by_split(tiny, 0), {"base": 2, "validation": 0}, 6, seed=0)) == 2


def test_a_tasks_images_are_those_of_its_classes_each_in_one_part_only(tiny):
    classes = (1, 4, 5)
    task = small(tiny, classes)
    parts = {split: images_by_digest(task.images[task.rows_of_split(split)]) for split in ("train", "test")}
    rows = np.concatenate([tiny.rows_of(one) for one in classes])
    assert not parts["train"] & parts["test"]
    assert parts["train"] | parts["test"] == images_by_digest(tiny.images[rows])
    assert [len(task.rows_of(one, "train")) for one in range(3)] == [8] * 3
    assert [len(task.rows_of(one, "test")) for one in range(3)] == [2] * 3
    for new, old in enumerate(classes):
        shown = np.concatenate([task.rows_of(new, split) for split in ("train", "test")])
        assert images_by_digest(task.images[shown]) == images_by_digest(tiny.images[tiny.rows_of(old)])
        assert task.class_names[new] == tiny.class_names[old]


def test_what_is_held_out_of_a_class_is_the_same_in_every_task_and_for_the_seed_only(tiny):
    def held_out(classes, place, seed=0):
        task = small(tiny, classes, seed=seed)
        return images_by_digest(task.images[task.rows_of(place, "test")])

    assert held_out((1, 4), 1) == held_out((0, 2, 4), 2)
    assert any(held_out((1, 4), 1) != held_out((1, 4), 1, seed) for seed in range(1, 5))


def test_images_are_resized_and_their_number_can_be_limited(tiny):
    task = small(tiny, (0, 3), n_images=5, image_size=4, held_out=0.4)
    assert task.images.shape == (10, 4, 4, 3) and task.images.dtype == np.uint8
    assert [len(task.rows_of(one, "test")) for one in range(2)] == [2, 2]
    import torch

    whole = small(tiny, (0, 3), n_images=5, held_out=0.4)
    assert np.array_equal(task.images, resize(torch.from_numpy(whole.images), 4).numpy())


def test_images_of_a_classification_set_come_from_its_training_part(classifying):
    task = small(classifying, (2, 7))
    assert len(task.images) == 16
    rows = np.concatenate([classifying.rows_of(one, "train") for one in (2, 7)])
    assert images_by_digest(task.images) == images_by_digest(classifying.images[rows])


def test_held_out_images_come_from_another_fold_where_there_are_several(tiny):
    folded = dataclasses.replace(tiny, folds=np.arange(len(tiny.labels)) % 2)
    task = small(folded, (0, 1, 2), held_out=0.3)
    train, test = (task.folds[task.rows_of_split(split)] for split in ("train", "test"))
    assert len(set(test)) == 1 and set(train) == {0, 1} - set(test)
    assert (len(train), len(test)) == (15, 9)


def test_a_class_with_a_single_image_is_refused(tiny):
    lonely = small(tiny, (0, 1), n_images=2)
    assert len(lonely.images) == 4
    with pytest.raises(DataError, match="too few to train on some and hold out others"):
        small(tiny, (0, 1), n_images=1)
