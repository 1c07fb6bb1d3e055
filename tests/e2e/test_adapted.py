"""Learners whose start is meta-learned, and architectures decoded from a supernet, through both tools."""

import json

import jsonschema
import pandas
import pytest

from tests.e2e.project import ROOT, SMALL, Project, described_jobs

pytestmark = pytest.mark.e2e
NAME, N_TASKS = "doublemnist", 3
LITTLE = {
    "n_iterations": 2, "validate_every": 2, "n_validation_episodes": 2, "n_query": 2, "tasks_per_batch": 1,
    "channels": 2, "image_size": 16,
}  # fmt: skip
METHODS = ["maml", "randomtnas"]
PARAMS = SMALL | {
    "grid": {"datasets": [NAME], "methods": ["random", "conv4"]},
    "adapted": {"methods": METHODS, "supernets": ["tnas"], "datasets": [NAME]},
    "episodes": {"n_episodes": 6, "n_query": 3, "k_shots": [1]},
    "search": {"random": {"n_architectures": 1}, "randomtnas": {"n_architectures": 1}, "tnas": {"n_tasks": N_TASKS}},
    "train": {"epochs": 1},
    "evaluate": {"n_untrained_episodes": 2, "n_resamples": 10},
    "adapt": {"n_untrained_episodes": 2, "n_resamples": 10},
    "supernet": {"tnas": LITTLE | {"inner_steps": 1, "test_steps": 1}},
    "meta_learn": {name: LITTLE | {"inner_steps": 1, "test_steps": 1} for name in (*METHODS, "tnas")},
}  # fmt: skip


def of_method(name: str, *stages: str) -> list[str]:
    return [f"{stage}_{name}_{NAME}" for stage in stages]


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    made = Project.copied(tmp_path_factory.mktemp("adapted") / "project", PARAMS)
    made.first_jobs = made.snakemake()
    made.save("everything made")
    return made


def test_one_command_learns_starts_decodes_architectures_and_tests_them(project):
    own = of_method("tnas", "supernet", "search", "meta_learn", "adapt", "compare")
    assert {*own, *of_method("maml", "search", "meta_learn", "adapt", "compare")} <= set(project.first_jobs)
    schema = json.loads((ROOT / "workflow/schemas/result.schema.json").read_text())
    for method in (*METHODS, "tnas"):
        result = project.json(f"results/{method}_{NAME}.json")
        jsonschema.validate(result, schema)
        assert result["kind"] == "adapted" and set(result["paired"]) == {"maml", "conv4"}
        assert result["protocol"]["read_out"] == "gradient"
        assert method in (project.folder / "results/report.html").read_text()


def test_every_decoded_task_is_tested_once_by_its_own_architecture(project):
    result = project.json(f"results/tnas_{NAME}.json")
    (line,) = result["decoded"]["by_seed"]
    assert line["n_tasks"] == N_TASKS and line["n_genotypes"] == len(result["genotypes"])
    numbers = sorted(number for one in result["genotypes"] for number in one["episodes"])
    assert numbers == list(range(N_TASKS))
    table = pandas.read_csv(project.folder / f"results/episodes/tnas_{NAME}.csv")
    assert table["episode"].tolist() == numbers and result["protocol"]["n_episodes"] == N_TASKS
    assert result["control"]["method"] == "randomtnas" and result["control"]["same_recipe"]
    assert {of["by_shot"]["1"]["n_episodes"] for of in result["paired"].values()} == {N_TASKS}
    n_curves = pandas.read_csv(project.folder / f"models/tnas_{NAME}/curve.csv")["architecture"].nunique()
    assert n_curves == line["n_genotypes"]


def test_both_tools_describe_the_same_jobs_and_find_nothing_to_do(project):
    snakemake_jobs, dvc_jobs = described_jobs(project)
    assert set(snakemake_jobs) == set(dvc_jobs)
    for command, described in snakemake_jobs.items():
        assert described == dvc_jobs[command], command
    assert project.snakemake("-n") == []
    assert project.dvc_repro() == []


def test_a_key_of_one_meta_learning_reruns_it_and_what_stands_beside_it(project):
    project.edit({"meta_learn": {"tnas": {"learning_rate": 0.02}}})
    wanted = sorted([*of_method("tnas", "meta_learn", "adapt", "compare"), "report"])
    assert project.snakemake("-n") == wanted
    project.edit({"meta_learn": {"tnas": {"learning_rate": 0.01}}})
    project.edit({"adapt": {"n_resamples": 11}})
    every = [job for name in (*METHODS, "tnas") for job in of_method(name, "adapt", "compare")]
    assert project.snakemake("-n") == sorted([*every, "report"])
