"""The real workflow under both tools: what runs, what does not, and that no result is ever stale.

One project is taken through a user's week; each test leaves it finished and recorded.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import time

import jsonschema
import psutil
import pytest

from pipeline.stages.track import recorded_stages
from tests.e2e.project import ROOT, SMALL, Project, described_jobs, jobs_in

pytestmark = pytest.mark.e2e

DATA = ["episodes_doublemnist", "fetch_doublemnist", "prepare_doublemnist"]


def of_method(*stages: str, methods=("metantk", "random")) -> list[str]:
    return [f"{stage}_{method}_doublemnist" for stage in stages for method in methods]


ALL = sorted([*DATA, "report", *of_method("search", "train", "evaluate", "compare")])


def test_one_command_makes_every_result(finished):
    assert finished.first_jobs == ALL
    schema = json.loads((ROOT / "workflow/schemas/result.schema.json").read_text())
    for method in ("metantk", "random"):
        result = finished.json(f"results/{method}_doublemnist.json")
        jsonschema.validate(result, schema)
        assert result["budget"] == "laptop" and set(result["accuracy"]) == {"1", "5"}
    assert "metantk" in (finished.folder / "results/report.html").read_text()


def test_after_a_run_neither_tool_has_anything_to_do(finished):
    assert finished.snakemake("-n") == []
    assert "Nothing to be done" in finished.run("snakemake", "-n", "--cores", "2")
    assert finished.dvc_repro() == []
    assert "up to date" in finished.run("dvc", "status")


def test_snakemake_and_dvc_describe_the_same_jobs(finished):
    snakemake_jobs, dvc_jobs = described_jobs(finished)
    assert set(snakemake_jobs) == set(dvc_jobs)
    for command, described in snakemake_jobs.items():
        assert described == dvc_jobs[command], command


def test_an_evaluation_key_reruns_evaluation_only_and_snakemake_recognises_it(finished):
    finished.edit({"evaluate": {"n_resamples": 21}})
    assert finished.dvc_repro() == sorted([*of_method("evaluate", "compare"), "report"])
    assert finished.dvc_repro() == []
    assert finished.snakemake("-n") == []


def test_a_search_key_reruns_search_training_and_evaluation_of_that_method_and_dvc_recognises_it(finished):
    finished.edit({"search": {"metantk": {"n_region_samples": 61}}})
    own = of_method("search", "train", "evaluate", "compare", methods=("metantk",))
    assert finished.snakemake("-n") == sorted([*own, "report"])
    assert finished.snakemake() == sorted([*own, "report"])
    assert finished.dvc_repro() == []
    assert finished.snakemake("-n") == []


def test_dvc_reruns_search_training_and_evaluation_after_a_search_key(finished):
    finished.edit({"search": {"random": {"n_architectures": 1}}})
    own = of_method("search", "train", "evaluate", methods=("random",))
    assert finished.dvc_repro() == sorted([*own, *of_method("compare"), "report"])
    assert finished.dvc_repro() == []
    assert finished.snakemake("-n") == []


def test_a_value_taken_back_is_restored_from_the_cache_and_snakemake_keeps_it(finished):
    finished.edit({"search": SMALL["search"]})
    finished.edit({"evaluate": {"n_resamples": SMALL["evaluate"]["n_resamples"]}})
    assert finished.dvc_repro() == []
    assert finished.snakemake("-n") == []


def test_a_result_made_by_dvc_is_not_kept_by_snakemake_when_the_parameters_change(finished):
    finished.edit({"evaluate": {"n_resamples": 22}})
    assert finished.dvc_repro() == sorted([*of_method("evaluate", "compare"), "report"])
    finished.edit({"evaluate": {"n_resamples": 20}})
    assert finished.dvc_repro() == []
    finished.edit({"evaluate": {"n_resamples": 22}})
    assert finished.snakemake("-n") == sorted([*of_method("evaluate", "compare"), "report"])
    finished.edit({"evaluate": {"n_resamples": 20}})
    assert finished.snakemake("-n") == []


def test_deleted_outputs_come_back_by_checkout_and_nothing_reruns(finished):
    shutil.rmtree(finished.folder / "models")
    (finished.folder / "data/prepared/doublemnist.index.csv").unlink()
    finished.run("dvc", "checkout")
    assert finished.snakemake("-n") == []
    assert finished.dvc_repro() == []


def test_a_clone_pulls_from_the_remote_after_a_wipe_and_reruns_nothing(finished, tmp_path):
    finished.run("dvc", "remote", "add", "-f", "-d", "store", str(tmp_path / "store"))
    finished.save("a remote")
    # with what earlier runs made of other values, which the wipe takes from the cache too
    finished.run("dvc", "push", "--run-cache")
    for name in (".dvc/cache", "models", "search", "data/prepared", "data/episodes", "results"):
        shutil.rmtree(finished.folder / name)
    subprocess.run(["git", "clone", "-q", str(finished.folder), str(tmp_path / "clone")], check=True)
    clone = Project(tmp_path / "clone")
    assert not (clone.folder / "results").exists() and not (clone.folder / ".dvc/cache").exists()
    for project in (clone, finished):
        project.run("dvc", "pull", "--run-cache")
        assert "up to date" in project.run("dvc", "status")
        assert "Nothing to be done" in project.run("snakemake", "-n", "--cores", "2")
        assert project.dvc_repro() == []
    said = clone.run("python", "-m", "pipeline", "verify", "results/metantk_doublemnist.json")
    assert "identical" in said.splitlines()[-1], said
    # the trap of a clone: a changed key must still rerun
    clone.edit({"evaluate": {"n_resamples": 23}})
    assert clone.snakemake("-n") == sorted([*of_method("evaluate", "compare"), "report"])


def test_metrics_plots_and_experiments_work(finished):
    assert "accuracy.1.mean" in finished.run("dvc", "metrics", "show")
    printed = finished.run("dvc", "exp", "run", "-S", "evaluate.n_resamples=24", "-n", "more")
    assert jobs_in(printed) == sorted([*of_method("evaluate", "compare"), "report"])
    assert "n_resamples" in finished.run("dvc", "exp", "show", "--only-changed", "--md")
    finished.run("dvc", "plots", "show", "-o", "dvc_plots")
    assert (finished.folder / "dvc_plots/index.html").is_file()
    finished.edit({"evaluate": {"n_resamples": 20}})
    assert finished.dvc_repro() == []
    finished.save("after the experiment")


def test_snakemakes_own_report_is_written(finished):
    finished.run("snakemake", "--report", "report.html", "--cores", "1")
    assert (finished.folder / "report.html").stat().st_size > 10_000
    (finished.folder / "report.html").unlink()


def test_an_edited_comment_reruns_nothing_and_an_edited_formula_its_users(finished):
    path = finished.folder / "pipeline/learners/prototypes.py"
    text = path.read_text()
    path.write_text(text + "\n# a remark\n")
    assert finished.snakemake("-n") == []
    path.write_text(text + "\nRADIUS = 2\n")
    assert finished.snakemake("-n") == sorted([*of_method("evaluate", "compare"), "report"])
    path.write_text(text)
    assert finished.snakemake("-n") == []


def test_another_seed_changes_everything_but_the_images(finished):
    finished.edit({"seed": 1})
    planned = set(finished.snakemake("-n"))
    finished.edit({"seed": 0})
    assert set(of_method("search", "train", "evaluate")) <= planned


def started(project, job: str, running) -> psutil.Process:
    """Wait until Snakemake has started a job; returns the job's process."""
    while running.poll() is None:
        for process in psutil.process_iter(["cmdline", "cwd"]):
            command = process.info["cmdline"] or []
            own = command[1:3] == ["-m", "pipeline"] and f"build/params/{job}.json" in command
            if own and process.info["cwd"] == str(project.folder):
                return process
        time.sleep(0.02)
    raise AssertionError(f"Snakemake ended before it came to {job}")


@pytest.mark.slow
def test_a_run_killed_in_the_midst_of_search_and_training_ends_as_an_undisturbed_one(finished, tmp_path):
    project = Project.copied(tmp_path / "project", SMALL)
    target = "results/metantk_doublemnist.json"
    command = ("snakemake", "--cores", "2", target)

    # the job alone, as a system short of memory does
    checkpoint = project.folder / "build/checkpoints/search_metantk_doublemnist.pt"
    running = project.start(*command)
    job = started(project, "search_metantk_doublemnist", running)
    while job.is_running() and not checkpoint.exists():
        time.sleep(0.02)
    job.kill()
    assert running.wait() != 0
    assert checkpoint.exists()
    assert not (project.folder / target).exists()

    # everything at once, as a power cut does; the folder stays locked
    for stage in ("search", "train"):
        running = project.start(*command)
        started(project, f"{stage}_metantk_doublemnist", running)
        time.sleep(random.Random(stage).uniform(0, 4))
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        project.run("snakemake", "--unlock")

    project.run(*command)
    # also what the killed runs had made
    recorded = recorded_stages(project.folder / "dvc.lock")
    assert recorded.keys() >= {"fetch@doublemnist", "prepare@doublemnist", "search@metantk-doublemnist"}
    assert project.result("metantk") == finished.first_result
    assert not list((project.folder / "build/checkpoints").iterdir())
    assert project.snakemake("-n", target) == []
