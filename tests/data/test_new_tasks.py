"""MNIST, SVHN, FGVC-Aircraft, Pets and ImageNet32: what is particular to each."""

import gzip
import io
import itertools
import pickle

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from pipeline.core.errors import ConfigError, DataError
from pipeline.data import get, imagenet32, mnist, pets, svhn
from pipeline.data.aircraft import ARCHIVE
from pipeline.data.archives import Tree
from pipeline.data.base import Options
from pipeline.data.images import decode
from pipeline.data.mnist import read_idx
from pipeline.data.settings import PrepareConfig
from pipeline.data.svhn import read_matlab
from tests.data.tiny_sources import (
    BREEDS,
    MANUFACTURERS,
    PER_BREED,
    SMALL,
    aircraft_files,
    idx,
    imagenet32_archive,
    imagenet32_files,
    imagenet32_pickles,
    imagenet32_stand_in,
    made,
    make_mirror,
    mnist_files,
    pets_archives,
    pets_folders,
    picture,
    svhn_file,
    svhn_files,
    write,
    write_tar,
)

WHOLE = PrepareConfig(max_image_size=32, min_images_per_class=2)


def test_an_idx_file_is_read_as_its_description_says():
    """Written out byte by byte: two images of 2 x 3 pixels."""
    content = gzip.compress(bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3, *range(12)]))
    assert read_idx(content, "images", 3).tolist() == [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no gzip", "cannot be unpacked"),
        (idx(np.zeros((2, 3)))[:-9], "damaged or truncated"),
        (gzip.compress(bytes([0, 0, 13, 1, 0, 0, 0, 0])), "no idx file of bytes with 1 axes"),
        (idx(np.zeros((2, 3))), "no idx file of bytes with 1 axes"),
        (gzip.compress(bytes([0, 0, 8, 1, 0, 0])), "no idx file"),
        (gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 5, 1, 2])), "announces 5 values but holds 2"),
    ],
    # packed bytes hold the time of day, and names of tests must not
    ids=["not packed", "cut", "of other values", "of other axes", "cut header", "too few values"],
)
def test_what_is_no_idx_file_is_refused(content, message):
    with pytest.raises(DataError, match=message):
        read_idx(content, "labels", 1)


def test_mnist_keeps_labels_and_is_enlarged_to_32_pixels(tmp_path):
    prepared = made(tmp_path, "mnist", mirror=make_mirror(tmp_path / "mirror", mnist_files), knobs=WHOLE)
    assert prepared.images.shape == (40, 32, 32, 1) and prepared.class_names == [str(digit) for digit in range(10)]
    for split, digit in itertools.product(("train", "test"), range(10)):
        wanted = [decode(picture("mnist", digit, split, number, side=28, channels=1), 32, 1) for number in range(2)]
        assert (prepared.images[prepared.rows_of(digit, split)] == wanted).all()


@pytest.mark.parametrize(("labels", "message"), [(range(10), "20 images but .* 10 labels"), ([10] * 20, "beyond 9")])
def test_mnist_with_other_labels_is_refused(tmp_path, labels, message):
    def spoilt(mirror):
        mnist_files(mirror)
        write(mirror / "mnist" / mnist.FILES_OF["test"][1].name, idx(np.array(labels)))

    with pytest.raises(DataError, match=message):
        made(tmp_path, "mnist", mirror=make_mirror(tmp_path / "mirror", spoilt))


def test_svhn_calls_the_label_10_by_its_digit_0_and_keeps_images_upright(tmp_path):
    prepared = made(tmp_path, "svhn", mirror=make_mirror(tmp_path / "mirror", svhn_files), knobs=WHOLE)
    assert prepared.class_names == [str(digit) for digit in range(10)]
    for split, digit in itertools.product(("train", "test"), range(10)):
        wanted = [picture("svhn", digit or 10, split, number, side=32) for number in range(2)]
        assert (prepared.images[prepared.rows_of(digit, split)] == wanted).all()


def test_damaged_or_foreign_matlab_files_are_refused():
    good = svhn_file([(label, "train", 0) for label in range(1, 11)])
    assert read_matlab(good, "train")[1] == ["1", "2", "3", "4", "5", "6", "7", "8", "9", "0"]
    for content in (b"", b"MATLAB", good[: len(good) // 2], good[:300] + bytes(400) + good[700:]):
        with pytest.raises(DataError, match="cannot be read as a MATLAB file|has no 'X'|has no 'y'"):
            read_matlab(content, "train_32x32.mat")
    with pytest.raises(DataError, match="labels outside 1 to 10"):
        read_matlab(svhn_file([(0, "train", 0), (1, "train", 0)]), "train_32x32.mat")


def test_matlab_files_of_another_shape_are_refused():
    file = io.BytesIO()
    savemat(file, {"X": np.zeros((28, 28, 3, 2), np.uint8), "y": np.ones((2, 1), np.uint8)})
    with pytest.raises(DataError, match="32 x 32 RGB bytes for each of its 2 labels"):
        read_matlab(file.getvalue(), "train_32x32.mat")


def aircraft_mirror(folder, change=lambda files: None):
    files = aircraft_files()
    change(files)
    packed = {f"{ARCHIVE.folder}/{name}": content for name, content in files.items()}
    return make_mirror(folder, lambda mirror: write_tar(mirror / "aircraft" / ARCHIVE.name, packed, "w:gz"))


def test_aircraft_are_divided_by_the_authors_lists_of_manufacturers(tmp_path):
    prepared = made(tmp_path, "aircraft", mirror=aircraft_mirror(tmp_path / "mirror"))
    assert prepared.class_names == sorted(MANUFACTURERS)
    with open(tmp_path / "aircraft.index.csv") as index:
        rows = [line.split(",") for line in index.read().splitlines()[1:]]
    files = aircraft_files()
    for split, word in (("train", "trainval"), ("test", "test")):
        wanted = {
            (f"data/images/{line.split(' ', 1)[0]}.jpg", line.split(" ", 1)[1])
            for line in files[f"data/images_manufacturer_{word}.txt"].decode().splitlines()
        }
        assert {(row[3], row[1]) for row in rows if row[2] == split} == wanted


def test_an_aircraft_or_a_manufacturer_that_the_archive_lacks_is_named(tmp_path):
    def without_image(files):
        del files["data/images/0034311.jpg"]

    def without_boeing(files):
        files["data/manufacturers.txt"] = files["data/manufacturers.txt"].replace(b"Boeing\n", b"")

    def with_another(files):
        files["data/manufacturers.txt"] += b"Wright Brothers\n"

    with pytest.raises(DataError, match="there is no data/images/0034311.jpg"):
        made(tmp_path, "aircraft", mirror=aircraft_mirror(tmp_path / "a", without_image))
    with pytest.raises(DataError, match="Boeing"):
        made(tmp_path, "aircraft", mirror=aircraft_mirror(tmp_path / "b", without_boeing))
    with pytest.raises(DataError, match="lacks 1 of 31 classes, e.g. 'Wright Brothers'"):
        made(tmp_path, "aircraft", mirror=aircraft_mirror(tmp_path / "c", with_another))


def parts(prepared) -> dict[str, int]:
    return {split: len(prepared.rows_of_split(split)) for split in prepared.split_classes}


@pytest.mark.parametrize("builder", [pets_archives, pets_folders])
def test_pets_are_divided_85_to_15_in_every_breed(tmp_path, builder):
    mirror = make_mirror(tmp_path / "mirror", lambda mirror: builder(mirror, per_class=20))
    prepared = made(tmp_path, "pets", mirror=mirror)
    assert prepared.class_names == sorted(BREEDS)
    for breed in range(37):
        assert (len(prepared.rows_of(breed, "train")), len(prepared.rows_of(breed, "test"))) == (17, 3)


def test_pets_are_divided_by_the_authors_lists_on_request(tmp_path):
    mirror = make_mirror(tmp_path / "mirror", pets_archives)
    knobs = PrepareConfig(max_image_size=8, min_images_per_class=2, official_split=True)
    prepared = made(tmp_path, "pets", mirror=mirror, knobs=knobs)
    assert parts(prepared) == {"train": 37 * PER_BREED // 2, "test": 37 * PER_BREED // 2}
    with open(tmp_path / "pets.index.csv") as index:
        rows = [line.split(",") for line in index.read().splitlines()[1:]]
    # the lists give images with odd numbers to training
    assert all((int(row[3].rsplit("_", 1)[1]) % 2 == 1) == (row[2] == "train") for row in rows)


def test_pets_in_folders_have_no_lists_of_the_authors(tmp_path):
    mirror = make_mirror(tmp_path / "mirror", pets_folders)
    with pytest.raises(ConfigError, match="prepare.official_split is true, but pets_folders.tar has no lists"):
        made(tmp_path, "pets", mirror=mirror, knobs=PrepareConfig(official_split=True))


def test_the_reduced_pets_say_what_they_are(tmp_path):
    prepared = made(tmp_path, "pets", mirror=make_mirror(tmp_path / "mirror", pets_folders))
    assert "NOT the official archives" in prepared.title and not prepared.manifest["official"]


def test_pets_without_a_breed_or_with_a_listed_image_missing_are_refused(tmp_path):
    def without_a_breed(mirror):
        files = {f"pets/{breed}/1.jpg": b"" for breed in BREEDS[1:]}
        write_tar(mirror / pets.FOLDERS.name, files)

    with pytest.raises(DataError, match="36 breeds instead of 37"):
        made(tmp_path, "pets", mirror=make_mirror(tmp_path / "a", without_a_breed))

    def with_another_list(mirror):
        pets_archives(mirror)
        lists = {"annotations/trainval.txt": b"Abyssinian_77 1 1 1\n", "annotations/test.txt": b""}
        write_tar(mirror / "pets" / pets.LISTS.name, lists, "w:gz")

    with pytest.raises(DataError, match="names the image Abyssinian_77"):
        made(
            tmp_path,
            "pets",
            mirror=make_mirror(tmp_path / "b", with_another_list),
            knobs=PrepareConfig(official_split=True),
        )


def test_imagenet32_splits_its_classes_by_their_official_numbers(tmp_path):
    prepared = made(tmp_path, "imagenet32", mirror=make_mirror(tmp_path / "mirror", imagenet32_pickles), knobs=WHOLE)
    names = {split: [prepared.class_names[c] for c in prepared.classes_of(split)] for split in prepared.split_classes}
    assert names == {
        "base": [f"{label:04d}" for label in range(1, 601)],
        "validation": [f"{label:04d}" for label in range(601, 801)],
        "novel": [f"{label:04d}" for label in range(801, 1001)],
    }
    for label in (1, 600, 601, 800, 801, 1000):
        wanted = [picture("imagenet32", label, number, side=32) for number in range(2)]
        assert (prepared.images[prepared.rows_of(label - 1)] == wanted).all()


def test_the_archive_of_imagenet32_and_its_pickles_give_the_same_set(tmp_path):
    both = [
        made(tmp_path / word, "imagenet32", mirror=make_mirror(tmp_path / word / "mirror", builder))
        for word, builder in (("a", imagenet32_archive), ("b", imagenet32_pickles))
    ]
    assert both[0].digest == both[1].digest


def test_images_of_imagenet32_beyond_those_that_are_kept_are_not_even_yielded(tmp_path):
    """All 1.28 million would need four gigabytes."""
    for name, content in imagenet32_files().items():
        write(tmp_path / "files" / name, content)
    tree = Tree.holding(tmp_path / "files", "files", tmp_path / "scratch").under("files")
    all_of_it, one_each = (list(imagenet32.batches(tree, most)) for most in (None, 1))
    assert len(all_of_it) == 2000
    assert [r.source for r in one_each] == [r.source for r in all_of_it[:1000]]


@pytest.mark.parametrize(("label", "message"), [(0, "labels outside 1 to 1000"), (1001, "labels outside 1 to 1000")])
def test_imagenet32_with_other_labels_is_refused(tmp_path, label, message):
    content = {"data": np.zeros((2, 3072), np.uint8), "labels": [1, label]}
    write(tmp_path / "files" / imagenet32.BATCHES[0], pickle.dumps(content))
    tree = Tree.holding(tmp_path / "files", "files", tmp_path / "scratch").under("files")
    with pytest.raises(DataError, match=message):
        list(imagenet32.batches(tree, None))


def test_imagenet32_that_lacks_a_class_is_refused(tmp_path):
    for number, name in enumerate(imagenet32.BATCHES):
        labels = [label for label in range(1 + number * 100, 101 + number * 100) if label != 777]
        content = {"data": np.zeros((len(labels), 3072), np.uint8), "labels": labels}
        write(tmp_path / "files" / name, pickle.dumps(content))
    tree = Tree.holding(tmp_path / "files", "files", tmp_path / "scratch").under("files")
    with pytest.raises(DataError, match="lacks 1 of 1000 classes, e.g. '0777'"):
        list(imagenet32.batches(tree, None))


def test_the_stand_in_of_imagenet32_is_split_in_the_same_proportion_and_says_what_it_is(tmp_path):
    prepared = made(tmp_path, "imagenet32", mirror=make_mirror(tmp_path / "mirror", imagenet32_stand_in))
    assert "NOT ImageNet32" in prepared.title and not prepared.manifest["official"]
    names = [prepared.class_names[c] for split in prepared.split_classes for c in prepared.classes_of(split)]
    assert names == [f"n{label:08d}" for label in range(200)]
    sizes = [prepared.n_classes(split) for split in ("base", "validation", "novel")]
    assert [size / 200 for size in sizes] == [size / 1000 for size in imagenet32.N_CLASSES]


@pytest.mark.parametrize("name", ["mnist", "svhn", "aircraft", "pets"])
def test_a_wanted_archive_is_told_with_its_checksum_and_address(name):
    dataset = get(name)(Options(prepare=SMALL))
    for source in dataset.layouts[0].sources:
        assert source.url.startswith("https://") and (source.md5 or name == "aircraft")


def test_photographs_keep_their_middle_at_32_pixels():
    """MetaD2A squeezes them; here the longer side is cut."""
    photograph = np.zeros((50, 100, 3), np.uint8)
    photograph[:, 25:75] = 200
    file = io.BytesIO()
    Image.fromarray(photograph).save(file, "PNG")
    assert (decode(file.getvalue(), 32, 3)[:, 1:-1] == 200).all()


def test_svhn_asks_for_no_extra_images():
    assert sorted(source.name for source in get("svhn")().layouts[0].sources) == sorted(
        source.name for source in svhn.FILE_OF.values()
    )
