"""Features of a prepared set: whose they are, what a reader may see, random draws."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from pipeline import data
from pipeline.core.artifacts import sha256, write_json
from pipeline.core.errors import ArtifactError, DataError, UnknownNameError
from pipeline.core.rng import torch_stream
from pipeline.core.types import CLASSIFICATION
from pipeline.data.features import FeatureSet, digest_of, draw, seen_classes, warning_of
from pipeline.data.pretrained import seen_by_imagenet
from pipeline.data.settings import PrepareConfig
from tests import tiny_set
from tests.data.tiny_sources import cifar10, made, make_mirror

DIM = 4


def write(folder, prepared, **changes):
    """Features that say which image they are of: row i is i, i + 0.25, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = np.arange(len(prepared.labels), dtype=np.float32)[:, None] + np.arange(DIM, dtype=np.float32) / DIM
    np.save(folder / "f.npy", rows)
    facts = {
        "data_digest": prepared.digest,
        "network_sha256": "1" * 64,
        "image_size": 32,
        "normalise_by": "dataset",
        "mean": [0.5] * 3,
        "std": [0.2] * 3,
        "dim": DIM,
        "features_sha256": sha256(folder / "f.npy"),
        "network": {"label": "a network made up"},
        "saw_classes": {"base": 6, "validation": 0, "novel": 0},
        "warning": None,
        "cost": {"wall_seconds": 1.0, "device_seconds": 1.0},
        **changes,
    }
    write_json(folder / "f.json", facts | {"digest": digest_of(facts)})
    return folder / "f.npy", folder / "f.json"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return tiny_set.prepared(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def features(prepared, tmp_path):
    return FeatureSet.open(*write(tmp_path, prepared), prepared, verify=True)


def images_of(rows) -> list[int]:
    """The images that features, shape (n, DIM), are of."""
    assert (np.asarray(rows)[:, 1] - np.asarray(rows)[:, 0] == 1 / DIM).all()
    return np.asarray(rows)[:, 0].astype(int).tolist()


def test_the_features_of_a_class_are_those_of_its_images(features, prepared):
    assert features.dim == DIM and len(features.digest) == 64
    for split in ("base", "validation", "novel"):
        for class_id in prepared.classes_of(split):
            found = features.of_class(class_id, split)
            assert found.dtype == np.float32 and found.flags.writeable
            assert images_of(found) == np.flatnonzero(prepared.labels == class_id).tolist()


def test_a_search_sees_base_classes_and_others_only_when_it_names_their_split(features, prepared):
    novel = int(prepared.classes_of("novel")[0])
    assert len(features.of_class(novel, "novel")) == 6
    with pytest.raises(DataError, match="base split of tiny has no class 11 .'novel0'.*only split that a search"):
        features.of_class(novel)
    with pytest.raises(DataError, match="has no class 11"):
        draw(features, [0, novel], 2, torch_stream(0, "x"))
    with pytest.raises(DataError, match="validation split of tiny has no class 0"):
        features.of_class(0, "validation")
    with pytest.raises(DataError, match="no class 99"):
        features.of_class(99)
    with pytest.raises(UnknownNameError, match="novel"):
        features.of_class(0, "novell")


def test_in_a_classification_set_only_training_images_are_read_unless_others_are_named(tmp_path):
    knobs = PrepareConfig(max_image_size=16, min_images_per_class=2)
    prepared = made(tmp_path, "cifar10", mirror=make_mirror(tmp_path / "mirror", cifar10), knobs=knobs)
    assert prepared.kind == CLASSIFICATION
    features = FeatureSet.open(*write(tmp_path / "features", prepared), prepared)
    for split in ("train", "test"):
        rows = set(prepared.rows_of_split(split).tolist())
        named = None if split == "train" else "test"
        for class_id in range(10):
            of_class = images_of(features.of_class(class_id, named))
            assert of_class and set(of_class) <= rows and (prepared.labels[of_class] == class_id).all()


def test_a_draw_is_without_replacement_and_the_same_for_the_same_stream(features, prepared):
    first = draw(features, [4, 1, 4], 5, torch_stream(3, "task", 7))
    assert first.shape == (3, 5, DIM) and first.dtype == torch.float32
    assert torch.equal(first, draw(features, [4, 1, 4], 5, torch_stream(3, "task", 7)))
    assert not torch.equal(first, draw(features, [4, 1, 4], 5, torch_stream(3, "task", 8)))
    for class_id, of_class in zip([4, 1, 4], first, strict=True):
        drawn = images_of(of_class)
        assert len(set(drawn)) == 5 and (prepared.labels[drawn] == class_id).all()


def test_every_image_of_a_class_is_drawn_equally_often(features):
    generator = torch_stream(0, "often")
    counts = np.zeros(6)
    for _ in range(600):
        np.add.at(counts, images_of(draw(features, [0], 2, generator)[0]), 1)
    # 1200 draws over 6 images: 200 each, standard deviation 11.5
    assert np.abs(counts - 200).max() < 58


def test_a_draw_of_all_images_is_the_whole_class_and_of_more_an_error(features):
    whole = draw(features, [2], 6, torch_stream(0, "x"))[0]
    assert sorted(images_of(whole)) == images_of(features.of_class(2))
    with pytest.raises(DataError, match="7 images of each class are wanted, but class 'base2' .* has 6"):
        draw(features, [2], 7, torch_stream(0, "x"))


def test_a_draw_leaves_the_global_generators_alone(features):
    before = torch.get_rng_state()
    draw(features, [0, 1], 3, torch_stream(0, "x"))
    assert torch.equal(before, torch.get_rng_state())


def test_features_of_other_images_are_refused(prepared, tmp_path):
    paths = write(tmp_path / "f", prepared)
    other = tiny_set.prepared(tmp_path / "other", seed=1)
    with pytest.raises(ArtifactError, match="other images than those of tiny"):
        FeatureSet.open(*paths, other)


@pytest.mark.parametrize("harm", ["rows", "type", "cut", "gone", "facts gone", "facts of another kind", "facts edited"])
def test_damaged_features_are_refused_with_what_to_do(prepared, tmp_path, harm):
    array, facts = write(tmp_path, prepared)
    if harm == "rows":
        np.save(array, np.load(array)[:-1])
    elif harm == "type":
        np.save(array, np.load(array).astype(np.float64))
    elif harm == "cut":
        array.write_bytes(array.read_bytes()[:200])
    elif harm == "gone":
        array.unlink()
    elif harm == "facts gone":
        facts.unlink()
    elif harm == "facts of another kind":
        facts.write_text("{}")
    else:
        facts.write_text(json.dumps(json.loads(facts.read_text()) | {"mean": [0.1] * 3}))
    with pytest.raises(ArtifactError, match=r"(features stage|Run the stage that makes it)"):
        FeatureSet.open(array, facts, prepared)


def test_one_changed_number_is_found_when_asked_to_look(prepared, tmp_path):
    array, facts = write(tmp_path, prepared)
    changed = np.load(array)
    changed[5, 0] += 1
    np.save(array, changed)
    FeatureSet.open(array, facts, prepared)
    with pytest.raises(ArtifactError, match="is not the file that"):
        FeatureSet.open(array, facts, prepared, verify=True)


def test_the_digest_names_images_network_and_features(prepared, tmp_path):
    digests = [
        FeatureSet.open(*write(tmp_path / name, prepared, **changes), prepared).digest
        for name, changes in {
            "a": {},
            "b": {},
            "network": {"network_sha256": "2" * 64},
            "mean": {"mean": [0.4] * 3},
            "words": {"network": {"label": "the same in other words"}},
        }.items()
    ]
    assert digests[0] == digests[1] == digests[4] and len(set(digests)) == 3


def test_classes_that_the_network_had_seen_are_counted_and_novel_ones_told(prepared):
    names = ["base0", "base5", "novel2", "elsewhere"]
    assert seen_classes(prepared, names, "others") == {"base": 2, "validation": 0, "novel": 1}
    warning = warning_of(prepared, "ResNet-9", {"base": 6, "validation": 5, "novel": 1}, "others")
    assert "ResNet-9" in warning and "1 of the 5 novel classes of Tiny" in warning
    assert warning_of(prepared, "ResNet-9", {"base": 6, "validation": 0, "novel": 0}, "others") is None


def classification(prepared, name, class_names):
    """The set as one of classification whose splits share the classes."""
    classes = dict.fromkeys(("train", "test"), np.arange(len(class_names)))
    manifest = {**prepared.manifest, "title": name.upper()}
    changes = {"name": name, "manifest": manifest, "class_names": class_names, "split_classes": classes}
    return dataclasses.replace(prepared, kind="classification", **changes)


def test_seen_classes_of_a_classification_set_are_told_too(prepared):
    other = classification(prepared, "cifar100", ["apple", "baby", "bear"])
    saw = seen_classes(other, ["apple", "bear", "wolf"], "cifarfs")
    assert saw == {"train": 2, "test": 2}
    assert "2 of the 3 classes of CIFAR100, so this" in warning_of(other, "ResNet-9", saw, "cifarfs")
    assert warning_of(other, "ResNet-9", {"train": 0, "test": 0}, "miniimagenet") is None


def test_equal_names_in_sets_without_common_images_are_no_common_classes(prepared):
    digits = classification(prepared, "mnist", ["1", "2"])
    assert seen_classes(digits, ["1", "2", "3"], "imagenet32") == {"train": 0, "test": 0}
    assert seen_classes(digits, ["1", "2", "3"], "my_own_folder") == {"train": 2, "test": 2}


def test_sets_of_one_collection_are_told_even_where_their_classes_have_other_names(prepared):
    other = classification(prepared, "imagenet16", ["1", "2"])
    saw = seen_classes(other, ["n01532829"], "miniimagenet")
    assert "collection that IMAGENET16 is taken from" in warning_of(other, "ResNet-9", saw, "miniimagenet")
    assert warning_of(other, "ResNet-9", saw, "cifarfs") is None


FAMILIES = [
    {"cifar100", "cifarfs", "fc100"}, {"miniimagenet", "tieredimagenet", "imagenet", "imagenet16", "imagenet32"},
    {"mnist", "doublemnist"},
]  # fmt: skip


@pytest.mark.parametrize("one", data.names())
def test_data_sets_share_images_with_their_family_alone(one):
    family = next((of for of in FAMILIES if one in of), {one})
    assert {other for other in data.names() if data.share_images(one, other)} == family
    assert data.share_images(one, "my_own_folder") is None


@pytest.mark.parametrize(
    ("dataset", "names", "seen"),
    [
        ("miniimagenet", ["n01532829", "n02129165"], 2),
        ("imagenet16", ["1", "2"], 2),
        ("cifarfs", ["apple", "n0153282", "n015328290"], 0),
        ("birds", ["n01532829", "owl"], 1),
    ],
)
def test_imagenets_classes_are_known_by_their_set_or_their_wordnet_number(dataset, names, seen):
    assert len(seen_by_imagenet(dataset, names)) == seen
