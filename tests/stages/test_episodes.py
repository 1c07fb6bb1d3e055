"""The episodes stage."""

import pytest

from pipeline.core.artifacts import sha256
from pipeline.core.errors import ArtifactError, DataError
from pipeline.data.prepared import PreparedSet
from pipeline.episodes import files
from tests.data.tiny_sources import cifar10, folder_files, made, made_folder, make_mirror, outputs
from tests.stages.frozen import freeze, run

KNOBS = {"n_way": 2, "k_shots": [1, 3], "n_query": 4, "n_episodes": 7}


@pytest.fixture(scope="module")
def prepared_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    made_folder(folder, folder_files(per_class=8))
    return outputs(folder, "mine")


def test_episodes_of_the_novel_classes_are_stored_for_each_number_of_shots(prepared_files, tmp_path):
    params = freeze(tmp_path, "episodes", "mine", episodes=KNOBS)
    run("episodes", **prepared_files, params=params, out=tmp_path / "mine.csv")
    prepared, stored = PreparedSet.open(**prepared_files), files.read(tmp_path / "mine.csv")
    files.check(stored, prepared, "mine.csv")
    assert {k_shot: len(episodes) for k_shot, episodes in stored.items()} == {1: 7, 3: 7}
    assert {c for e in stored[1] for c in e.classes} <= set(prepared.split_classes["novel"])
    assert stored[3][0].query.shape == (2, 4)


def test_the_same_parameters_give_the_same_file(prepared_files, tmp_path):
    params = freeze(tmp_path, "episodes", "mine", episodes=KNOBS)
    for name in ("a.csv", "b.csv"):
        run("episodes", **prepared_files, params=params, out=tmp_path / name)
    assert sha256(tmp_path / "a.csv") == sha256(tmp_path / "b.csv")


def test_more_ways_than_novel_classes_are_an_error(prepared_files, tmp_path):
    params = freeze(tmp_path, "episodes", "mine", episodes=KNOBS | {"n_way": 5})
    with pytest.raises(DataError, match=r"5 classes, but the novel split of mine has 2\. Lower episodes\.n_way"):
        run("episodes", **prepared_files, params=params, out=tmp_path / "mine.csv")
    assert not (tmp_path / "mine.csv").exists()


def test_images_that_were_changed_since_are_an_error(prepared_files, tmp_path):
    content = bytearray(prepared_files["images"].read_bytes())
    content[-1] ^= 1
    (tmp_path / "changed.npy").write_bytes(bytes(content))
    paths = prepared_files | {"images": tmp_path / "changed.npy"}
    with pytest.raises(ArtifactError, match="not the file that"):
        run("episodes", **paths, params=freeze(tmp_path, "episodes", "mine", episodes=KNOBS), out=tmp_path / "x.csv")


def test_a_classification_set_has_no_episodes_of_new_classes(tmp_path):
    mirror = make_mirror(tmp_path / "mirror", lambda mirror: cifar10(mirror, per_class=6))
    made(tmp_path, "cifar10", mirror=mirror)
    params = freeze(tmp_path, "episodes", "cifar10", episodes=KNOBS)
    with pytest.raises(DataError, match="its train and test splits have the same classes. Name a few-shot data set"):
        run("episodes", **outputs(tmp_path, "cifar10"), params=params, out=tmp_path / "cifar10.csv")
    assert not (tmp_path / "cifar10.csv").exists()
