"""What the Snakefile asks for before any job."""

import copy

import pytest

from pipeline.core.errors import ArtifactError, ConfigError
from pipeline.stages.common import FROZEN
from pipeline.stages.driver import only_looks, prepare, start
from pipeline.stages.folder import DVC, SNAKEMAKE, claim
from pipeline.stages.settings import Freezer, load


@pytest.mark.parametrize("given", ["-n", "-np", "-nq", "-pn", "-knj4", "--dry-run", "-S", "-D", "--list", "--dag=dot"])
def test_a_snakemake_that_only_looks_is_recognised_by_its_options(given):
    assert only_looks(["--cores", "4", given, "results/report.html"])


@pytest.mark.parametrize(
    "given", ["-c4", "-pk", "-sSnakefile", "--nolock", "-dnew", "--notemp", "-Cseed=7n", "--unlock", "--", "-"]
)
def test_a_snakemake_that_runs_jobs_is_none_that_only_looks(given):
    assert not only_looks([given, "-p", "--config", "seed=7"])


def test_a_target_behind_two_dashes_is_no_option():
    assert not only_looks(["--cores", "4", "--", "-n"])


@pytest.mark.parametrize("tool", [SNAKEMAKE, DVC])
def test_who_looks_beside_a_run_changes_nothing_and_is_refused_where_parameters_differ(tool, tmp_path, monkeypatch):
    same = Freezer(load())
    other = Freezer(copy.deepcopy(same.config) | {"seed": 7})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pipeline.stages.folder.PATIENCE_SECONDS", 0.1)
    prepare(same, looks=True)
    before = {path: path.read_text() for path in FROZEN.iterdir()}
    with claim(tool):
        prepare(same, looks=True)
        with pytest.raises(ArtifactError, match=f"{tool} is at work.*parameters of this command are others"):
            prepare(other, looks=True)
        assert {path: path.read_text() for path in FROZEN.iterdir()} == before
    prepare(other, looks=True)
    assert {path: path.read_text() for path in FROZEN.iterdir()} != before


def test_what_snakemake_passes_over_in_the_files_that_it_read_is_refused_before_anything_is_written(
    tmp_path, monkeypatch
):
    config = load()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.yaml").write_text("seed: 1\nseed: 2\n")
    with pytest.raises(ConfigError, match=r"other.yaml holds the key 'seed' twice"):
        start(config, True, [tmp_path / "other.yaml"])
    assert [path.name for path in tmp_path.iterdir()] == ["other.yaml"]
