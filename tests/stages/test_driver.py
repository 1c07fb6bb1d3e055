"""What the Snakefile asks for before any job."""

import copy
import dataclasses
import pathlib

import pytest

from pipeline.__main__ import main
from pipeline.core.errors import ArtifactError, ConfigError
from pipeline.stages.common import FROZEN
from pipeline.stages.driver import Grid, only_looks, prepare, start
from pipeline.stages.folder import DVC, SNAKEMAKE, claim
from pipeline.stages.settings import Freezer, load

PROJECT = pathlib.Path(__file__).resolve().parents[2]


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


def grid_of(**lists) -> Grid:
    names = ("datasets", "methods", "looked_up", "trained", "cards", "pages", "learned", "adapted")
    others = dict.fromkeys(field.name for field in dataclasses.fields(Grid))
    return Grid(**{**others, **{name: [] for name in names}, **lists})


@pytest.mark.parametrize("methods", [[], ["metantk", "random"]])
def test_an_empty_grid_makes_nothing_not_even_a_report_and_says_what_to_fill_in(methods, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert grid_of(methods=methods).listed() == []
    assert "params.yaml lists nothing to make: fill in grid" in capsys.readouterr().err


def test_a_report_is_made_of_listed_few_shot_results_and_of_those_that_are_there(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = "results/report.html"
    assert grid_of(datasets=["cifarfs"], methods=["random"]).listed() == ["results/random_cifarfs.json", page]
    assert grid_of(learned=["metad2a_fc100"]).listed() == ["results/metad2a_fc100.json", page]
    assert grid_of(trained=["random_pets"]).listed() == ["results/random_pets.json"]
    (tmp_path / "results/rows").mkdir(parents=True)
    (tmp_path / "results/rows/ntk_fc100.csv").touch()
    assert grid_of().listed() == [page] and capsys.readouterr().err == ""


def test_dvc_reaches_the_report_of_an_empty_grid_which_says_that_it_needs_data_sets(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_STAGE", "freeze")
    assert main(["freeze", "--params", str(PROJECT / "params.yaml")]) == 0
    files = ["--out", "page.html", "--leaderboard", "board.csv"]
    assert main(["report", "--rows", "results/rows", *files]) == 1
    assert "no result to report" in (told := " ".join(capsys.readouterr().err.split()))
    assert "list data sets and methods in params.yaml" in told


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
