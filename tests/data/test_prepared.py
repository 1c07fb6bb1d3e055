"""The three files of a prepared set are checked when they are opened."""

import json
import shutil

import numpy as np
import pytest

from pipeline.core.artifacts import read_json, sha256, write_json
from pipeline.core.errors import ArtifactError, DataError, UnknownNameError
from pipeline.data.prepared import PreparedSet, require_images
from tests.data.tiny_sources import made_folder, outputs


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("original")
    made_folder(folder)
    return folder


@pytest.fixture
def files(original, tmp_path):
    for path in outputs(original, "mine").values():
        shutil.copy(path, tmp_path)
    return outputs(tmp_path, "mine")


def test_a_whole_set_opens(files):
    prepared = PreparedSet.open(**files, verify=True)
    assert prepared.name == "mine" and prepared.title == "Mine" and prepared.image_size == 8
    assert isinstance(prepared.images, np.memmap)


@pytest.mark.parametrize("which", ["images", "index", "manifest"])
def test_a_missing_file_is_an_error_that_names_it(files, which):
    files[which].unlink()
    with pytest.raises(ArtifactError, match=files[which].name):
        PreparedSet.open(**files)


@pytest.mark.parametrize("which", ["images", "index", "manifest"])
def test_a_truncated_file_is_an_error_that_names_it(files, which):
    content = files[which].read_bytes()
    files[which].write_bytes(content[: len(content) // 2])
    with pytest.raises(ArtifactError, match=files[which].name):
        PreparedSet.open(**files)


def test_an_array_of_another_shape_is_an_error(files):
    np.save(files["images"], np.zeros((72, 9, 9, 3), dtype=np.uint8))
    with pytest.raises(ArtifactError, match="72 uint8 images of 8 x 8 x 3"):
        PreparedSet.open(**files)


def test_a_pickled_array_is_refused(files):
    np.save(files["images"], np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ArtifactError, match="damaged"):
        PreparedSet.open(**files)


def test_changed_pixels_are_noticed_on_verification(files):
    array = np.load(files["images"], mmap_mode="r+")
    array[0, 0, 0, 0] ^= 1
    array.flush()
    PreparedSet.open(**files)
    with pytest.raises(ArtifactError, match="not the file that"):
        PreparedSet.open(**files, verify=True)


def test_a_changed_index_is_always_noticed(files):
    text = files["index"].read_text()
    files["index"].write_text(text.replace(",novel,", ",base,", 1))
    with pytest.raises(ArtifactError, match="not the file that"):
        PreparedSet.open(**files)


@pytest.mark.parametrize("mean", ["0.1", [0.1, 0.2], [0.1, 0.2, "x"], [0.1, 0.2, 10**400], [0.1, 0.2, float("nan")]])
def test_a_manifest_whose_mean_is_no_three_numbers_is_refused(files, mean):
    facts = json.loads(files["manifest"].read_text())
    files["manifest"].write_text(json.dumps(facts | {"mean": mean}))
    with pytest.raises(ArtifactError, match="no manifest of a prepared set|NaN"):
        PreparedSet.open(**files)


@pytest.mark.parametrize("fold", ["", "-1", "x", "²", "9" * 5000])
def test_a_fold_that_is_no_number_is_refused_whatever_the_manifest_says(files, fold):
    text = files["index"].read_text()
    end = text.index("\n", text.index("\n") + 1)
    files["index"].write_text(text[: text.rindex(",", 0, end) + 1] + fold + text[end:])
    write_json(files["manifest"], read_json(files["manifest"]) | {"index_sha256": sha256(files["index"])})
    with pytest.raises(ArtifactError, match="row 2 has the fold"):
        PreparedSet.open(**files)


def test_the_digest_names_images_and_classes_but_not_where_they_came_from(files, original, tmp_path):
    first = PreparedSet.open(**files)
    again = made_folder(tmp_path / "elsewhere")
    other = made_folder(tmp_path / "smaller", max_images_per_class=5)
    assert first.digest == again.digest != other.digest
    assert json.loads(files["manifest"].read_text())["digest"] == first.digest


def test_an_unknown_split_is_an_error_with_the_known_ones(files):
    with pytest.raises(UnknownNameError, match="base, novel, validation"):
        PreparedSet.open(**files).rows_of_split("test")


def test_too_few_classes_or_images_are_an_error_with_the_numbers(files):
    prepared = PreparedSet.open(**files)
    require_images(prepared, "base", 8, 6, "This")
    with pytest.raises(DataError, match=r"This needs 9 classes.* has 8"):
        require_images(prepared, "base", 9, 6, "This")
    with pytest.raises(DataError, match=r"This needs 7 images per class.* has 6"):
        require_images(prepared, "base", 8, 7, "This")
