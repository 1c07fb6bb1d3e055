"""What every data set must keep, whichever it is."""

import re
import shutil
import subprocess
import sys
import tarfile

import numpy as np
import pytest

from pipeline.core.code import PACKAGE, CodeIndex
from pipeline.core.types import KINDS, SPLITS
from pipeline.data import DATASETS, get, kind_of, names
from pipeline.data.base import SPLIT_LISTS, read_split
from pipeline.data.preparing import FEW
from tests.data.tiny_sources import BUILDERS, PER_BREED, PER_CLASS, made, make_mirror, vouch

MANIFEST_KEYS = {
    "dataset", "kind", "title", "licence", "official", "sources", "image_size", "channels", "n_images", "classes",
    "mean", "std", "images_sha256", "index_sha256", "digest", "checks",
}  # fmt: skip
SIZES = {
    "miniimagenet": (64, 16, 20),
    "tieredimagenet": (351, 97, 160),
    "cifarfs": (64, 16, 20),
    "fc100": (60, 20, 20),
    "omniglot": (1028, 172, 423),
    "doublemnist": (64, 16, 20),
    "cifar10": (10, 10),
    "cifar100": (100, 100),
    "imagenet16": (120, 120),
    "imagenet": (1000, 1000),
    "mnist": (10, 10),
    "svhn": (10, 10),
    "aircraft": (30, 30),
    "pets": (37, 37),
    "imagenet32": (600, 200, 200),
}
STAND_INS = {("imagenet32", "stand-in"): (120, 40, 40)}


@pytest.mark.parametrize("name", names())
def test_a_data_set_states_its_licence_size_and_sources(name):
    dataset = get(name)()
    assert dataset.licence and dataset.native_size >= 8 and dataset.channels in (1, 3)
    assert dataset.title or name == "image_folder"
    assert dataset.kind == kind_of(name) and dataset.kind in KINDS
    assert dataset.duplicates in ("report", "refuse")
    assert dataset.layouts


@pytest.mark.parametrize("name", names())
def test_every_source_has_a_licence_a_place_and_well_formed_checksums(name):
    for layout in get(name)().layouts:
        for source in layout.sources:
            assert source.licence
            assert source.url or source.page or source.package or name == "image_folder"
            assert source.url is None or source.url.startswith("https://")
            assert source.md5 is None or re.fullmatch(r"[0-9a-f]{32}", source.md5)
            assert source.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", source.sha256)
            assert source.package is None or source.sha256


@pytest.mark.parametrize("name", sorted(path.stem for path in SPLIT_LISTS.glob("*.csv")))
def test_a_class_list_has_the_published_number_of_classes_in_each_split(name):
    split_of = read_split(name)
    assert tuple(list(split_of.values()).count(split) for split in SPLITS) == SIZES[name]


def test_no_data_set_imports_torch():
    program = "import sys; from pipeline.data import get, kind_of, names; "
    program += "[(kind_of(n), get(n)()) for n in names()]; print(*sys.modules)"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "numpy" in answer.stdout.split() and "torch" not in answer.stdout.split()


@pytest.mark.parametrize("name", names())
def test_an_edit_of_networks_spaces_or_other_families_fetches_and_prepares_nothing_again(name):
    stages = [PACKAGE / f"stages/{stage}.py" for stage in ("fetch", "prepare")]
    reached = {str(path.relative_to(PACKAGE)) for path in CodeIndex().reachable(stages, [name])}
    others = {str(path.relative_to(PACKAGE)) for path in DATASETS.files().values()}
    own = str(DATASETS.files()[name].relative_to(PACKAGE))
    assert not [path for path in reached if path.startswith(("nets/", "spaces/", "evaluation/"))]
    assert reached & others == {own}


def check_prepared(prepared, name):
    """The promises of a prepared set, each checked the slow way."""
    manifest = prepared.manifest
    assert set(manifest) >= MANIFEST_KEYS
    assert prepared.name == manifest["dataset"] == name
    assert re.fullmatch(r"[0-9a-f]{64}", prepared.digest)
    assert all(re.fullmatch(r"[0-9a-f]{64}", source["sha256"]) for source in manifest["sources"])
    assert len(prepared.images) == len(prepared.labels) == manifest["n_images"]
    assert prepared.images.dtype == np.uint8 and not prepared.images.flags.writeable
    kind = KINDS[prepared.kind]
    assert manifest["kind"] == prepared.kind and prepared.search_split == kind.search_split
    assert {*kind.splits} - {*kind.optional} <= {*prepared.split_classes} <= {*kind.splits}
    of_split = [set(prepared.rows_of_split(split).tolist()) for split in prepared.split_classes]
    assert sum(map(len, of_split)) == len(set.union(*of_split)) == len(prepared.images)
    n_images = len(prepared.images)
    for split in prepared.split_classes:
        assert [prepared.class_names[c] for c in prepared.split_classes[split]] == manifest["classes"][split]
        assert [prepared.class_names[c] for c in prepared.classes_of(split)] == sorted(manifest["classes"][split])
        for class_id in prepared.split_classes[split]:
            rows = [row for row in prepared.rows_of_split(split) if prepared.labels[row] == class_id]
            assert rows == prepared.rows_of(class_id, split).tolist() and 0 < len(rows) < n_images
            if split == prepared.search_split or not kind.shares_classes:
                assert rows == prepared.rows_of(class_id).tolist()
    searched = prepared.images[prepared.rows_of_split(kind.search_split)].astype(np.float64) / 255
    assert np.allclose(prepared.mean, searched.mean(axis=(0, 1, 2)))
    assert np.allclose(prepared.std, searched.std(axis=(0, 1, 2)))


def check_classes(prepared):
    """Which classes the splits have: each its own, or all the same under the same numbers from 0."""
    of_split = [prepared.classes_of(split).tolist() for split in prepared.split_classes]
    ids = list(range(len(prepared.class_names)))
    if KINDS[prepared.kind].shares_classes:
        assert all(classes == ids for classes in of_split)
    else:
        assert [class_id for classes in of_split for class_id in classes] == ids


@pytest.mark.parametrize(("name", "layout"), BUILDERS)
def test_every_layout_becomes_a_whole_prepared_set(name, layout, tmp_path):
    mirror = make_mirror(tmp_path / "mirror", BUILDERS[name, layout])
    prepared = made(tmp_path, name, mirror=mirror)
    check_prepared(prepared, name)
    check_classes(prepared)
    assert prepared.manifest["layout"] == layout
    assert prepared.manifest["official"] is False
    sizes = STAND_INS.get((name, layout), SIZES[name])
    assert tuple(map(prepared.n_classes, prepared.split_classes)) == sizes
    assert len(prepared.images) == (PER_BREED * sizes[0] if name == "pets" else PER_CLASS * sum(sizes))


def test_the_default_and_a_users_folder_keep_the_same_promises(doublemnist, folder_set):
    check_prepared(doublemnist, "doublemnist")
    check_prepared(folder_set, "mine")
    assert doublemnist.manifest["official"]
    # a user's own images are nobody's official release, and no variant of one either
    assert not folder_set.manifest["official"]
    assert [source["origin"] for source in folder_set.manifest["sources"]] == ["user"]


def test_layouts_of_the_same_images_give_the_same_pixels(tmp_path):
    pixels = {}
    for layout in ("class folders", "RFS pickles", "cached pickles"):
        mirror = make_mirror(tmp_path / layout / "mirror", BUILDERS["miniimagenet", layout])
        prepared = made(tmp_path / layout, "miniimagenet", mirror=mirror)
        pixels[layout] = sorted(image.tobytes() for image in prepared.images)
    assert pixels["class folders"] == pixels["RFS pickles"] == pixels["cached pickles"]


def test_unpacked_folders_are_taken_as_well_as_archives(tmp_path):
    packed = make_mirror(tmp_path / "a" / "mirror", BUILDERS["miniimagenet", "csv and images"])
    unpacked = tmp_path / "b" / "mirror"
    shutil.copytree(packed, unpacked)
    with tarfile.open(unpacked / "miniimagenet/images.tar") as archive:
        archive.extractall(unpacked / "miniimagenet", filter="data")
    (unpacked / "miniimagenet/images.tar").unlink()
    vouch(unpacked)
    first = made(tmp_path / "a", "miniimagenet", mirror=packed)
    second = made(tmp_path / "b", "miniimagenet", mirror=unpacked)
    assert first.digest == second.digest


def test_any_number_of_processes_gives_the_same_files(tmp_path):
    mirror = make_mirror(tmp_path / "mirror", BUILDERS["omniglot", "zip archives"])
    alone = made(tmp_path / "one", "omniglot", mirror=mirror, n_workers=1)
    together = made(tmp_path / "two", "omniglot", mirror=mirror, n_workers=2)
    assert len(alone.images) >= FEW, "too few images to start processes for"
    assert alone.manifest == together.manifest
