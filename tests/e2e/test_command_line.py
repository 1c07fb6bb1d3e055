"""Mistakes at the door: a paragraph with the cause and the way out, a failing exit code, nothing half-written."""

import os
import re
import signal
import time

import pytest

from pipeline.__main__ import main
from tests.e2e.project import ROOT, SMALL, Project

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    return Project.copied(tmp_path_factory.mktemp("doors") / "project", SMALL)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budget": "laptp"}, "Unknown budget 'laptp'. Did you mean 'laptop'"),
        ({"budgt": "laptop"}, "Unknown key in params.yaml: 'budgt'. Did you mean 'budget'"),
        ({"train": {"epoch": 3}}, "Unknown key in train: 'epoch'. Did you mean 'epochs'"),
        ({"search": {"metantk": {"prune_numbr": 3}}}, "Did you mean 'prune_number'"),
        ({"search": {"metank": {}}}, "Unknown method in search: 'metank'. Did you mean 'metantk'"),
        ({"grid": {"methods": ["metantk"]}}, "must hold 'random'"),
        ({"grid": {"datasets": ["miniimagent"]}}, "Did you mean 'miniimagenet'"),
        ({"train": {"epochs": -1}}, "train.epochs is -1; it must be at least 1"),
    ],
)
def test_a_mistake_in_params_yaml_is_told_before_any_job(project, changes, message):
    before = (project.folder / "params.yaml").read_text()
    project.edit(changes)
    for command in (["python", "-m", "pipeline", "freeze"], ["snakemake", "-n", "--cores", "1"]):
        printed = " ".join(project.run(*command, ok=False).split())
        assert project.code != 0 and message in printed, printed[-2000:]
    (project.folder / "params.yaml").write_text(before)
    assert not list((project.folder / "build").glob("params/.*"))


def test_an_unknown_stage_is_answered_with_the_nearest(project):
    printed = project.run("python", "-m", "pipeline", "serch", ok=False)
    assert project.code == 1 and "Did you mean 'search'" in printed


def test_an_unknown_method_or_dataset_in_a_target_is_told_with_the_known_ones(project):
    for target in ("results/metank_doublemnist.json", "results/metantk_miniimagent.json"):
        printed = project.run("snakemake", "-n", "--cores", "1", target, ok=False)
        assert project.code != 0 and "Did you mean" in printed, printed[-2000:]


def test_every_stage_explains_itself(project, capsys):
    stages = re.findall(r"^  ([a-z-]+) ", project.run("python", "-m", "pipeline"), flags=re.MULTILINE)
    assert {"fetch", "prepare", "episodes", "search", "train", "evaluate", "compare", "report"} <= set(stages)
    for stage in stages:
        with pytest.raises(SystemExit) as ended:
            main([stage, "--help"])
        assert ended.value.code == 0 and f"usage: python -m pipeline {stage} " in capsys.readouterr().out


@pytest.mark.parametrize("what", ["methods", "datasets", "spaces", "proxies", "strategies", "learners"])
def test_every_room_can_be_listed(project, what):
    assert len(project.run("python", "-m", "pipeline", "list", what).split()) >= 2


def test_a_second_snakemake_leaves_the_parameters_of_a_running_one_alone(project):
    project.run("snakemake", "-np", "--cores", "1")
    frozen = project.folder / "build/params"
    before = {path.name: path.stat().st_mtime_ns for path in frozen.iterdir()}
    running = project.start("snakemake", "--cores", "1", "results/metantk_doublemnist.json")
    try:
        while running.poll() is None and not list((project.folder / ".snakemake/locks").glob("*")):
            time.sleep(0.05)
        others = ("--config", "budget=gpu", "seed=7")
        for command in (("--cores", "1", *others), ("-np", *others)):
            printed = " ".join(project.run("snakemake", *command, ok=False).split())
            assert project.code != 0 and "snakemake is at work in this folder" in printed, printed[-2000:]
        costs = str(ROOT / "benchmarks/figures/costs_cpu.json")
        forecast = ("python", "-m", "pipeline", "forecast", "--costs", costs, "--config", "seed=7")
        printed = " ".join(project.run(*forecast, ok=False).split())
        assert project.code == 1 and "snakemake is at work in this folder" in printed, printed[-2000:]
        # to look at what runs is allowed
        assert "search_metantk_doublemnist" in project.snakemake("-n")
        assert running.poll() is None, "it ended before the others came"
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        project.run("snakemake", "--unlock")
    assert {path.name: path.stat().st_mtime_ns for path in frozen.iterdir()} == before


def test_the_workflow_is_free_of_lint(project):
    assert "Congratulations" in project.run("snakemake", "--lint")


def test_only_one_module_imports_torchvision():
    users = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "pipeline").rglob("*.py")
        if re.search(r"^\s*(import|from) torchvision|import_module\(.torchvision", path.read_text(), flags=re.MULTILINE)
    ]
    assert users in ([], ["pipeline/core/vision.py"])


def test_nothing_seeds_a_global_generator():
    pattern = re.compile(r"(torch\.manual_seed|torch\.cuda\.manual_seed|np\.random\.seed|random\.seed)\(")
    assert not [path for path in (ROOT / "pipeline").rglob("*.py") if pattern.search(path.read_text())]
