"""Stages of `dvc repro` as jobs of a cluster: what they ask for, and when. `tests/cluster` submits real ones."""

import pytest

from pipeline.__main__ import main
from pipeline.core.errors import UnknownNameError
from pipeline.stages.site import Group
from pipeline.stages.submitting import VARIABLE, is_wanted, options


@pytest.fixture
def submitted(monkeypatch):
    monkeypatch.setenv(VARIABLE, "slurm")
    monkeypatch.setenv("DVC_STAGE", "search@metantk-doublemnist")
    return monkeypatch


def test_only_stages_that_dvc_starts_and_the_table_knows_are_submitted(submitted):
    assert is_wanted("search") and is_wanted("episodes")
    assert not is_wanted("fetch") and not is_wanted("freeze") and not is_wanted("compare")
    submitted.delenv("DVC_STAGE")
    assert not is_wanted("search")


def test_nothing_is_submitted_unless_asked_for(submitted):
    submitted.delenv(VARIABLE)
    assert not is_wanted("search")


def test_another_scheduler_is_refused_with_what_is_known(submitted):
    submitted.setenv(VARIABLE, "slrum")
    with pytest.raises(UnknownNameError, match="Did you mean 'slurm'"):
        is_wanted("search")


def test_each_try_asks_for_twice_the_memory_and_time_up_to_the_limits():
    group = Group(mem_mb=100, max_mem_mb=300, minutes=10)
    asked = [[word for word in options(group, attempt) if "mem" in word or "time" in word] for attempt in (1, 2, 3)]
    assert asked == [["--mem=100", "--time=10"], ["--mem=200", "--time=20"], ["--mem=300", "--time=40"]]


def test_what_the_table_leaves_out_is_not_asked_for():
    assert options(Group(), 1) == ["--cpus-per-task=1", "--mem=4000", "--time=60"]


def test_accelerators_are_asked_for_by_number_and_by_type_where_it_is_named():
    assert "--gpus=2" in options(Group(gpus=2), 1)
    assert "--gpus=a100:2" in options(Group(gpus=2, gpu_model="a100"), 1)


def test_further_arguments_of_sbatch_stay_words():
    assert options(Group(extra="--nice=5 --comment='a b'"), 1)[-2:] == ["--nice=5", "--comment=a b"]


def test_where_there_is_no_scheduler_the_user_is_told_what_to_do(submitted, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    submitted.setenv("PATH", str(tmp_path))
    files = [f"--{name}={name}" for name in ("images", "index", "manifest", "out")]
    assert main(["episodes", *files, "--params", "build/params/episodes_x.json"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "needs sbatch, which is not found here" in said and f"unset {VARIABLE}" in said
