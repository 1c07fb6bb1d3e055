"""The prepare stage."""

import pytest

from pipeline.core.errors import DataError
from pipeline.data.prepared import PreparedSet
from tests.data.tiny_sources import folder_files, outputs, write
from tests.stages.frozen import freeze, run


@pytest.fixture
def raw(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, content in folder_files(per_class=4).items():
        write(tmp_path / "pictures" / name, content)
    spec = {"path": "pictures", "title": "Birds of ours"}
    params = freeze(tmp_path, "fetch", "birds", family="image_folder", spec=spec)
    run("fetch", dataset="birds", params=params, out="birds.tar")
    return spec


def test_a_users_folder_goes_from_pictures_to_a_prepared_set(raw, tmp_path):
    knobs = {"min_images_per_class": 4, "max_image_size": 16}
    params = freeze(tmp_path, "prepare", "birds", family="image_folder", spec=raw, prepare=knobs)
    files = outputs(tmp_path / "data/prepared", "birds")
    run("prepare", dataset="birds", raw="birds.tar", params=params, **files)
    prepared = PreparedSet.open(**files, verify=True)
    assert prepared.name == "birds" and prepared.title == "Birds of ours"
    assert prepared.images.shape == (48, 16, 16, 3)
    assert sorted(path.name for path in (tmp_path / "data/prepared").iterdir()) == [
        "birds.images.npy", "birds.index.csv", "birds.manifest.json"
    ]  # fmt: skip


def test_nothing_is_written_when_a_class_is_too_small(raw, tmp_path):
    params = freeze(tmp_path, "prepare", "birds", family="image_folder", spec=raw)
    with pytest.raises(DataError, match="fewer than 20 images"):
        run("prepare", dataset="birds", raw="birds.tar", params=params, **outputs(tmp_path / "out", "birds"))
    assert list((tmp_path / "out").iterdir()) == []
