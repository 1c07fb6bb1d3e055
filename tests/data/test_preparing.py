"""What preparing refuses, leaves out, and records."""

import pickle
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch

from pipeline.core.errors import ArtifactError, DataError, UnknownNameError
from pipeline.core.stopping import Stopped
from pipeline.data import get, preparing
from pipeline.data.archives import Blob, Tree
from pipeline.data.base import Options, Record, open_dataset
from pipeline.data.cifar import CIFAR10
from pipeline.data.fetching import fetch
from pipeline.data.imagenet16 import TEST, TRAIN
from pipeline.data.images import decode
from pipeline.data.preparing import mean_and_std, prepare
from pipeline.data.settings import FetchConfig, PrepareConfig
from pipeline.data.transforms import to_float
from tests.data.test_fetching import open_to_all, without_privileges
from tests.data.tiny_sources import (
    CIFAR10_NAMES,
    SMALL,
    cifar,
    cifar_rows,
    encoded,
    folder_files,
    imagenet,
    imagenet16,
    imagenet16_stand_in,
    made,
    made_folder,
    make_mirror,
    mini_csv,
    omniglot,
    outputs,
    picture,
    vouch,
    write,
    write_cifar,
    write_tar,
)

BAD = {"class03/bad.png": b"not an image", "class07/cut.png": encoded(picture("cut", side=40))[:900]}


def test_corrupt_images_are_refused_with_a_list(tmp_path):
    with pytest.raises(DataError) as error:
        made_folder(tmp_path, folder_files() | BAD)
    assert "2 of 74 images" in str(error.value)
    assert all(name in str(error.value) for name in BAD)
    assert not list(tmp_path.glob("mine.*.npy")) and not (tmp_path / "mine.manifest.json").exists()


def test_corrupt_images_are_left_out_on_demand_and_recorded(tmp_path, folder_set):
    prepared = made_folder(tmp_path, folder_files() | BAD, corrupt="drop")
    assert [one["source"] for one in prepared.manifest["checks"]["dropped"]] == sorted(BAD)
    assert prepared.digest == folder_set.digest


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def test_an_image_that_would_take_all_memory_is_refused_by_name_unread(packing, tmp_path, monkeypatch):
    monkeypatch.setattr(preparing, "MOST_IMAGE_BYTES", 2**20)
    with zipfile.ZipFile(tmp_path / "x.zip", "w", packing) as archive:
        archive.writestr("fits.png", bytes(2**20))
        archive.writestr("large.png", bytes(2**20 + 1))
    tree = Tree.opened(tmp_path / "x.zip", tmp_path / "scratch")
    read = []
    monkeypatch.setattr(Blob, "read", lambda blob: read.append(blob) or b"no image")
    records = [Record("class", "base", name, tree[name]) for name in tree]
    fits, large = preparing.read_into(np.zeros((2, 8, 8, 3), np.uint8), 0, records, preparing.Target(8, 3, False))
    assert read == [tree["fits.png"]] and fits.failure == "no image of a known format"
    assert large.failure == "it has 1,048,577 bytes, more than the 1,048,576 that an image may have"


def test_images_that_are_too_large_are_listed_or_left_out_as_unreadable(tmp_path, monkeypatch, folder_set):
    files = folder_files()
    most = max(map(len, files.values()))
    monkeypatch.setattr(preparing, "MOST_IMAGE_BYTES", most)
    files |= {"class03/large.png": encoded(picture("class03", side=8)).ljust(most + 1)}
    with pytest.raises(DataError, match=rf"class03/large\.png: it has {most + 1:,} bytes, more than the {most:,} that"):
        made_folder(tmp_path, files)
    prepared = made_folder(tmp_path, files, corrupt="drop")
    assert [one["source"] for one in prepared.manifest["checks"]["dropped"]] == ["class03/large.png"]
    assert prepared.digest == folder_set.digest


def test_a_class_with_too_few_images_is_refused_by_name(tmp_path):
    files = {
        name: content for name, content in folder_files().items() if name not in ("class05/0.png", "class05/1.png")
    }
    with pytest.raises(DataError, match=r"'class05' \(4\)"):
        made_folder(tmp_path, files, min_images_per_class=5)


def test_a_class_that_becomes_too_small_without_its_corrupt_images_is_refused(tmp_path):
    files = folder_files() | {f"class05/{i}.png": b"broken" for i in range(5)}
    with pytest.raises(DataError, match=r"'class05' \(1\)"):
        made_folder(tmp_path, files, corrupt="drop")


def test_a_cap_keeps_the_first_images_of_each_class(tmp_path, folder_set):
    capped = made_folder(tmp_path, max_images_per_class=4)
    assert len(capped.images) == 12 * 4
    for class_id in range(12):
        assert (capped.images[capped.rows_of(class_id)] == folder_set.images[folder_set.rows_of(class_id)[:4]]).all()


def test_a_cap_keeps_both_folds_of_the_default(tmp_path):
    knobs = PrepareConfig(max_images_per_class=20)
    prepared = made(tmp_path, "doublemnist", knobs=knobs)
    assert len(prepared.images) == 2000
    for class_id in (0, 70, 99):
        assert np.bincount(prepared.folds[prepared.rows_of(class_id)]).tolist() == [10, 10]


def test_no_image_is_enlarged_beyond_the_native_size(tmp_path):
    prepared = made_folder(tmp_path, max_image_size=200)
    assert prepared.image_size == 84


def test_images_that_a_list_names_must_be_in_the_archive(tmp_path):
    mirror = make_mirror(tmp_path / "mirror", mini_csv)
    write_tar(mirror / "miniimagenet/images.tar", {"images/other.jpg": b"x"})
    vouch(mirror)
    with pytest.raises(DataError, match="lacks 128 of the 128 images that train.csv lists"):
        made(tmp_path, "miniimagenet", mirror=mirror)


def test_a_truncated_source_is_an_error_that_names_it(tmp_path):
    mirror = make_mirror(tmp_path / "mirror", mini_csv)
    path = mirror / "miniimagenet/images.tar"
    path.write_bytes(path.read_bytes()[:20_000])
    vouch(mirror)
    with pytest.raises(DataError, match=r"images\.tar.*truncated"):
        made(tmp_path, "miniimagenet", mirror=mirror)


def test_a_missing_class_is_an_error(tmp_path):
    import zipfile

    mirror = make_mirror(tmp_path / "mirror", omniglot)
    path = mirror / "omniglot/images_background.zip"
    with zipfile.ZipFile(path) as archive:
        kept = {name: archive.read(name) for name in archive.namelist() if "Angelic/" not in name}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in kept.items():
            archive.writestr(name, content)
    vouch(mirror)
    with pytest.raises(DataError, match="lacks 10 of 1623 classes, e.g. 'Angelic/"):
        made(tmp_path, "omniglot", mirror=mirror)


def test_omniglots_characters_can_be_turned_into_four_classes_each(tmp_path):
    mirror = make_mirror(tmp_path / "mirror", omniglot)
    knobs = PrepareConfig(max_image_size=8, min_images_per_class=2, rotations=True)
    prepared = made(tmp_path, "omniglot", mirror=mirror, knobs=knobs)
    assert [prepared.n_classes(split) for split in ("base", "validation", "novel")] == [4112, 688, 1692]
    upright, *turned = (
        prepared.images[prepared.rows_of(prepared.class_names.index(f"Angelic/character01/rot{angle:03d}"))[0]]
        for angle in (0, 90, 180, 270)
    )
    for quarter, image in enumerate(turned, 1):
        assert (image == np.rot90(upright, quarter)).all()


def test_strokes_of_omniglot_are_light_on_dark(tmp_path):
    prepared = made(tmp_path, "omniglot", mirror=make_mirror(tmp_path / "mirror", white_omniglot))
    assert not prepared.images[0].any() and prepared.images.any()


def white_omniglot(mirror):
    """Omniglot with a white sheet as the first drawing of each class."""
    import zipfile

    omniglot(mirror)
    blank = encoded(np.full((14, 14), 255, dtype=np.uint8))
    for path in (mirror / "omniglot").glob("*.zip"):
        with zipfile.ZipFile(path) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, blank if name.endswith("_01.png") else content)


def test_near_duplicates_across_splits_are_counted(tmp_path):
    shade = np.tile(np.arange(0, 100, 10, dtype=np.uint8)[None, :, None], (10, 1, 3))
    files = folder_files() | {f"class{c:02d}/near.png": encoded(shade + np.uint8(c % 2)) for c in range(12)}
    for name, content in files.items():
        write(tmp_path / "pictures" / name, content)
    spec = FetchConfig(path=str(tmp_path / "pictures"), duplicates="report")
    checks = made(tmp_path, "mine", spec=spec).manifest["checks"]
    total = checks["duplicates_across_splits"]["count"] + checks["near_duplicates_across_splits"]["count"]
    assert checks["near_duplicates_across_splits"]["count"] > 0 and total >= 4


def test_blank_images_are_refused(tmp_path):
    files = {f"class{c:02d}/{i}.png": encoded(np.zeros((9, 9, 3), np.uint8)) for c in range(12) for i in range(3)}
    for name, content in files.items():
        write(tmp_path / "pictures" / name, content)
    spec = FetchConfig(path=str(tmp_path / "pictures"), duplicates="report")
    with pytest.raises(DataError, match="blank"):
        made(tmp_path, "mine", spec=spec)


@pytest.mark.parametrize("channels", [1, 3])
def test_mean_and_std_are_those_of_all_pixels(channels):
    images = np.random.default_rng(0).integers(0, 256, (600, 5, 5, channels), dtype=np.uint8)
    mean, std = mean_and_std(images)
    assert len(mean) == len(std) == 3
    assert np.allclose(mean, (images / 255).mean(axis=(0, 1, 2)))
    assert np.allclose(std, (images / 255).std(axis=(0, 1, 2)))


def sixteen_bits(peaks):
    """Files of a folder whose grey images of 16 bits are as bright as `peaks` says, in turn."""
    shade = np.linspace(0, 1, 64).reshape(8, 8)
    return {
        name: encoded((np.roll(shade, i) * peaks[i % len(peaks)]).astype(np.uint16))
        for i, name in enumerate(folder_files(4, per_class=16))
    }


def reported(tmp_path, files):
    for name, content in files.items():
        write(tmp_path / "pictures" / name, content)
    spec = FetchConfig(path=str(tmp_path / "pictures"), kind="classification", duplicates="report")
    return made(tmp_path, "mine", spec=spec)


def test_pictures_of_12_bits_in_files_of_16_do_not_come_out_dark(tmp_path, capsys):
    prepared = reported(tmp_path, sixteen_bits([4095, 1000, 60]))
    assert {image.max() for image in prepared.images} == {255, 62, 4}
    assert "values of 12 bits only; 4095 becomes white" in capsys.readouterr().err


def test_dark_pictures_of_16_bits_stay_dark_beside_others(tmp_path, capsys):
    prepared = reported(tmp_path, sixteen_bits([65535, 2000, 200]))
    assert {image.max() for image in prepared.images} == {255, 8, 1}
    assert "bits only" not in capsys.readouterr().err


def test_images_with_a_channel_that_is_the_same_everywhere_are_no_blank_ones(tmp_path):
    files = {}
    for name in folder_files():
        pixels = picture(name, "blue", side=8)
        pixels[..., 2] = 40
        files[name] = encoded(pixels)
    prepared = made_folder(tmp_path, files)
    assert prepared.mean[2] == 40 / 255 and prepared.std[2] == 1 and max(prepared.std[:2]) < 0.5
    normalised = to_float(torch.from_numpy(np.array(prepared.images)), prepared.mean, prepared.std)
    assert normalised.isfinite().all() and normalised[:, 2].abs().max() < 1e-6


def test_an_unknown_data_set_is_an_error_that_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'miniimagenet'"):
        open_dataset({"family": "miniimagnet"})


def test_a_raw_archive_that_cannot_be_read_is_an_error(tmp_path):
    write(tmp_path / "raw.tar", b"x")
    (tmp_path / "raw.tar").chmod(0)
    open_to_all(tmp_path)
    with without_privileges(), pytest.raises(ArtifactError, match="No permission to read"):
        prepare(get("fc100")(), "fc100", tmp_path / "raw.tar", **outputs(tmp_path, "fc100"))


def test_a_full_disk_while_preparing_is_explained_and_leaves_nothing_behind(tmp_path):
    """The limit on file sizes stops the writing half way, as a full disk does, and without -B that of modules."""
    fetch(get("fc100")(Options(SMALL)), "fc100", tmp_path / "raw.tar", mirror=make_mirror(tmp_path / "mirror", cifar))
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (700_000, 700_000))\n"
        "from pipeline.core.errors import DiskFullError\n"
        "from pipeline.data.base import open_dataset\n"
        "from pipeline.data.preparing import prepare\n"
        "dataset = open_dataset({'family': 'fc100', 'prepare': {'min_images_per_class': 2}})\n"
        "files = {kind: sys.argv[2] + '/' + kind for kind in ('images', 'index', 'manifest')}\n"
        "try: prepare(dataset, 'fc100', sys.argv[1], **files)\n"
        "except DiskFullError as error: print('explained:', error)"
    )
    command = [sys.executable, "-B", "-c", program, str(tmp_path / "raw.tar"), str(tmp_path / "prepared")]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "explained:" in answer.stdout
    assert list((tmp_path / "prepared").iterdir()) == []


@pytest.mark.parametrize("page_lost", [False, True])
def test_a_preparation_that_was_broken_off_reads_only_what_is_missing(tmp_path, monkeypatch, page_lost):
    """What was found is kept now and then; of the array's pages not all may have reached the disk."""
    dataset = get("fc100")(Options(SMALL))
    fetch(dataset, "fc100", tmp_path / "raw.tar", mirror=make_mirror(tmp_path / "mirror", cifar))
    whole, resumed = (outputs(tmp_path / name, "fc100") for name in ("whole", "resumed"))
    prepare(dataset, "fc100", tmp_path / "raw.tar", **whole)
    monkeypatch.setattr(preparing, "CHUNK", 10)
    monkeypatch.setattr(preparing, "SECONDS_BETWEEN_SAVES", 0)
    read_into, seen = preparing.read_into, []

    def counted(array, start, records, target):
        seen.append(start)
        if seen == [0, 10, 20]:
            raise Stopped
        return read_into(array, start, records, target)

    monkeypatch.setattr(preparing, "read_into", counted)
    options = {**resumed, "checkpoint": (tmp_path / "state.pt", "digest")}
    with pytest.raises(Stopped):
        prepare(dataset, "fc100", tmp_path / "raw.tar", **options)
    if page_lost:
        (partial,) = resumed["images"].parent.glob(".*.partial")
        np.load(partial, mmap_mode="r+")[13] = 0
    prepare(dataset, "fc100", tmp_path / "raw.tar", **options)
    assert seen[3] == (10 if page_lost else 20)
    assert [resumed[kind].read_bytes() for kind in whole] == [path.read_bytes() for path in whole.values()]
    assert not list(tmp_path.glob("state*")) and len(list(resumed["images"].parent.iterdir())) == 3


def changed_cifar10(folder, change):
    """A tiny CIFAR-10 whose rows (file -> [(label, names of the picture)]) are changed first."""
    rows = cifar_rows(CIFAR10, 10, 4)
    change(rows)
    return make_mirror(folder / "mirror", lambda mirror: write_cifar(mirror, CIFAR10, CIFAR10_NAMES, rows))


def test_classes_of_a_classification_set_have_the_same_numbers_in_all_splits(tmp_path):
    prepared = made(tmp_path, "cifar10", mirror=changed_cifar10(tmp_path, lambda rows: None))
    assert prepared.kind == "classification" and prepared.class_names == CIFAR10_NAMES
    for split in ("train", "test"):
        rows = prepared.rows_of_split(split)
        assert prepared.labels[rows].tolist() == [c for c in range(10) for _ in range(4)]
        for label in range(10):
            wanted = [decode(picture(split, number, label, side=32), 8, 3).tobytes() for number in range(4)]
            held = [image.tobytes() for image in prepared.images[prepared.rows_of(label, split)]]
            assert sorted(held) == sorted(wanted)


def test_a_class_that_a_split_of_a_classification_set_lacks_is_named(tmp_path):
    def without_cats(rows):
        rows["test_batch"] = [row for row in rows["test_batch"] if row[0] != 3]

    with pytest.raises(DataError, match="1 of 10 classes has no image in the test split, e.g. 'cat'"):
        made(tmp_path, "cifar10", mirror=changed_cifar10(tmp_path, without_cats))


def test_a_class_with_too_few_images_in_one_split_is_named_with_the_split(tmp_path):
    def with_one_cat(rows):
        rows["test_batch"] = [row for row in rows["test_batch"] if row[0] != 3 or row[2] == 0]

    with pytest.raises(DataError, match=r"1 class has fewer than 2 images: 'cat' \(test 1\)"):
        made(tmp_path, "cifar10", mirror=changed_cifar10(tmp_path, with_one_cat))


def test_images_to_train_on_that_are_tested_on_as_well_are_reported(tmp_path):
    def leaked(rows):
        label, *name = rows["data_batch_2"][0]
        rows["test_batch"].append((label, *name))

    checks = made(tmp_path, "cifar10", mirror=changed_cifar10(tmp_path, leaked)).manifest["checks"]
    assert checks["duplicates_across_splits"] == {"count": 1, "examples": [["data_batch_2:0", "test_batch:40"]]}


def test_a_cap_counts_the_images_of_a_class_in_each_split(tmp_path):
    knobs = PrepareConfig(max_image_size=8, min_images_per_class=2, max_images_per_class=3)
    prepared = made(tmp_path, "cifar10", mirror=changed_cifar10(tmp_path, lambda rows: None), knobs=knobs)
    assert [len(prepared.rows_of(c, split)) for c in (0, 9) for split in ("train", "test")] == [3] * 4


def test_a_part_without_images_is_incomplete(tmp_path):
    def emptied(rows):
        for number in range(1, 6):
            rows[f"data_batch_{number}"] = rows["test_batch"][:1]

    with pytest.raises(DataError, match="classes have no image in the train split"):
        made(tmp_path, "cifar10", mirror=changed_cifar10(tmp_path, emptied))


def test_a_missing_batch_is_named(tmp_path):
    with pytest.raises(DataError, match="holds no file 'data_batch_4'"):
        made(tmp_path, "cifar10", mirror=changed_cifar10(tmp_path, lambda rows: rows.pop("data_batch_4")))


def test_only_the_first_120_of_the_1000_labels_are_kept_and_name_the_classes(tmp_path):
    prepared = made(
        tmp_path,
        "imagenet16",
        mirror=make_mirror(tmp_path / "mirror", imagenet16),
        knobs=PrepareConfig(min_images_per_class=2),
    )
    assert prepared.class_names == [f"{label:03d}" for label in range(1, 121)]
    assert prepared.title == "ImageNet16-120" and prepared.image_size == 16
    for split, part in (("train", "train"), ("test", "val")):
        for class_id in (0, 1, 119):
            held = [image.tobytes() for image in prepared.images[prepared.rows_of(class_id, split)]]
            wanted = [picture(part, class_id + 1, number, side=16).tobytes() for number in range(2)]
            assert sorted(held) == sorted(wanted)


def test_the_stand_in_for_imagenet16_says_that_it_is_not_it(tmp_path):
    prepared = made(tmp_path, "imagenet16", mirror=make_mirror(tmp_path / "mirror", imagenet16_stand_in))
    assert "NOT ImageNet16-120" in prepared.title and prepared.manifest["official"] is False
    assert prepared.manifest["layout"] == "stand-in"
    assert [len(prepared.rows_of_split(split)) for split in ("train", "test")] == [240, 240]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data": np.zeros((3, 767), dtype=np.uint8)}, "does not hold a row of 768 bytes"),
        ({"labels": [0, 1, 2]}, "labels below 1"),
        ({"labels": [121, 122, 123]}, "lacks 120 of 120 classes, e.g. '001'"),
        ({"labels": None}, "does not hold a row of 768 bytes"),
    ],
)
def test_pickles_of_another_layout_are_refused(tmp_path, change, said):
    def odd(mirror):
        content = {"data": np.zeros((3, 768), dtype=np.uint8), "labels": [1, 2, 3]} | change
        for source in (*TRAIN, TEST):
            write(mirror / "imagenet16" / source.name, pickle.dumps(content, protocol=2))

    with pytest.raises(DataError, match=said):
        made(tmp_path, "imagenet16", mirror=make_mirror(tmp_path / "mirror", odd))


def test_imagenet_with_missing_classes_is_refused(tmp_path):
    imagenet(tmp_path / "mirror", n_classes=3)
    with pytest.raises(DataError, match="imagenet/train has images of 3 classes; ImageNet-1k has 1000"):
        made(tmp_path, "imagenet", mirror=tmp_path / "mirror")


def test_validation_images_of_imagenet_that_are_not_sorted_into_classes_are_refused(tmp_path):
    imagenet(tmp_path / "mirror")
    shutil.rmtree(tmp_path / "mirror/imagenet/val")
    write(tmp_path / "mirror/imagenet/val/ILSVRC2012_val_00000001.JPEG", encoded(picture("a"), "JPEG"))
    with pytest.raises(DataError, match="imagenet/val must hold one folder of images per class"):
        made(tmp_path, "imagenet", mirror=tmp_path / "mirror")
