"""The fetch stage."""

import json

import pytest

from pipeline.core.artifacts import sha256
from pipeline.core.errors import ConfigError, DataError
from tests.data.tiny_sources import cifar, make_mirror
from tests.stages.frozen import freeze, run


def test_the_mirrors_variable_says_where_and_not_what(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mirror = make_mirror(tmp_path / "mirror", cifar)
    params = freeze(tmp_path, "fetch", "fc100")
    monkeypatch.setenv("FEWSHOT_NAS_MIRROR", str(mirror))
    run("fetch", dataset="fc100", params=params, out="data/raw/a.tar")
    mirror.rename(tmp_path / "moved")
    monkeypatch.delenv("FEWSHOT_NAS_MIRROR")
    (tmp_path / "build").mkdir()
    (tmp_path / "build/machine.json").write_text(json.dumps({"mirror": str(tmp_path / "moved")}))
    run("fetch", dataset="fc100", params=params, out="data/raw/b.tar")
    assert sha256("data/raw/a.tar") == sha256("data/raw/b.tar")


def test_parameters_of_another_data_set_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="of the data set 'fc100', but --dataset is 'cifarfs'"):
        run("fetch", dataset="cifarfs", params=freeze(tmp_path, "fetch", "fc100"), out=tmp_path / "raw.tar")


def test_a_variable_that_names_no_folder_is_an_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEWSHOT_NAS_MIRROR", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="FEWSHOT_NAS_MIRROR"):
        run("fetch", dataset="fc100", params=freeze(tmp_path, "fetch", "fc100"), out="raw.tar")
