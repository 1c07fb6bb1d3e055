"""The table stage."""

import json

import pytest

from pipeline.core.artifacts import read_json, sha256
from pipeline.core.errors import ConfigError
from pipeline.data import nas_bench_201
from tests.data.official_tables import write_archive
from tests.data.tiny_sources import vouch
from tests.stages.frozen import run


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    folder = tmp_path / "mirror/nas_bench_201"
    folder.mkdir(parents=True)
    write_archive(folder / "NATS-tss-v1_0-3ffb9-simple.tar")
    vouch(folder.parent)
    monkeypatch.setattr(nas_bench_201, "N_ARCHITECTURES", 3)
    monkeypatch.setenv("FEWSHOT_NAS_MIRROR", str(folder.parent))
    return folder.parent


def frozen(folder, name="nas_bench_201"):
    content = {
        "stage": "table", "dataset": name, "budget": "laptop", "seed": 0, "params": {"name": name}, "code": "0"
    }  # fmt: skip
    (folder / "params.json").write_text(json.dumps(content))
    return folder / "params.json"


def test_the_table_and_its_facts_lie_side_by_side_and_are_the_same_every_time(mirror, tmp_path):
    params = frozen(tmp_path)
    for name in ("a", "b"):
        run("table", name="nas_bench_201", params=params, out=tmp_path / name / "nas_bench_201.csv")
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == ["nas_bench_201.csv", "nas_bench_201.json"]
    facts = read_json(tmp_path / "a/nas_bench_201.json")
    assert facts == read_json(tmp_path / "b/nas_bench_201.json")
    assert facts["table_sha256"] == sha256(tmp_path / "b/nas_bench_201.csv")


def test_parameters_of_another_table_are_refused(mirror, tmp_path):
    with pytest.raises(ConfigError, match="'nas_bench_101'"):
        run("table", name="nas_bench_201", params=frozen(tmp_path, "nas_bench_101"), out=tmp_path / "t.csv")
