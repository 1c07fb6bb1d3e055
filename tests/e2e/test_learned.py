"""A method that learns beforehand, from database to result through both tools, on the real default images."""

import json

import jsonschema
import pytest

from tests.data.tiny_sources import folder_files, write
from tests.e2e.project import ROOT, SMALL, Project, described_jobs

pytestmark = pytest.mark.e2e
NAME = "doublemnist"
PARAMS = SMALL | {
    "grid": {"datasets": [NAME], "methods": ["random"]},
    "learned": {
        "methods": ["metad2a"], "controls": ["random201"], "sources": [NAME], "datasets": [NAME], "few_shot": [NAME],
    },
    "features": {"epochs": 1},
    "database": {
        "n_classes": 4, "n_base_tasks": 4, "n_validation_tasks": 2, "n_novel_tasks": 2, "cells_per_task": 4,
        "n_architectures": 12,
    },
    "oracle": {"train": {"image_size": 8, "n_images": 12, "channels": 2, "n_cells": 1, "epochs": 1, "batch_size": 8}},
    "meta_train": {
        "n_images": 4, "generator_epochs": 2, "predictor_epochs": 2, "generator_hs": 8, "generator_nz": 8,
        "predictor_hs": 8, "predictor_nz": 8, "n_graphs": 40, "cells_per_held_out_task": 1,
    },
    "search": {
        "metad2a": {"source": NAME, "n_candidates": 4, "n_resamplings": 2},
        "random": {"n_architectures": 1},
        "random201": {"n_architectures": 1},
    },
    "train": {"epochs": 1},
}  # fmt: skip
BEFOREHAND = [f"feature_net_{NAME}", f"features_{NAME}_by_{NAME}", f"database_{NAME}"]
LEARNING = [f"meta_train_generator_{NAME}", f"meta_train_predictor_{NAME}"]
OWN = [f"{stage}_metad2a_{NAME}" for stage in ("search", "train", "evaluate", "compare")]


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    made = Project.copied(tmp_path_factory.mktemp("learned") / "project", PARAMS)
    made.first_jobs = made.snakemake()
    made.save("everything made")
    return made


def test_one_command_makes_database_networks_and_result(project):
    assert {*BEFOREHAND, *LEARNING, *OWN, "report"} <= set(project.first_jobs)
    result = project.json(f"results/metad2a_{NAME}.json")
    assert result["control"]["method"] == "random201"
    jsonschema.validate(result, json.loads((ROOT / "workflow/schemas/result.schema.json").read_text()))
    assert result["learned"]["source"] == NAME and result["learned"]["candidates"][0]["n"] == 4
    assert set(result["search_cost"]["amortised"]) == {"feature_network", "database", "generator", "predictor"}
    assert result["search_cost"]["features"]["wall_seconds"] > 0 and "best_of" not in result["learned"]
    assert "metad2a" in (project.folder / "results/report.html").read_text()


def test_both_tools_describe_the_same_jobs_and_find_nothing_to_do(project):
    snakemake_jobs, dvc_jobs = described_jobs(project)
    assert snakemake_jobs == dvc_jobs
    assert project.snakemake("-n") == []
    assert project.dvc_repro() == []


def test_a_search_key_leaves_what_was_learned_alone(project):
    project.edit({"search": {"metad2a": {"n_candidates": 5}}})
    assert project.dvc_repro() == sorted([*OWN, "report"])
    assert project.snakemake("-n") == []


def test_a_key_of_the_generator_trains_no_predictor_and_builds_no_database(project):
    project.edit({"meta_train": {"generator_epochs": 3}})
    wanted = sorted([LEARNING[0], *OWN, "report"])
    assert project.snakemake("-n") == wanted
    assert project.dvc_repro() == wanted
    assert project.snakemake("-n") == []


@pytest.mark.slow
def test_a_folder_of_the_users_own_images_gets_an_architecture_that_is_trained_and_tested(project, tmp_path):
    for file, content in folder_files(n_classes=3, per_class=30).items():
        write(tmp_path / "birds" / file, content)
    project.edit({"data": {"folders": {"birds": {"path": str(tmp_path / "birds"), "kind": "classification"}}}})
    made = project.snakemake("results/metad2a_birds.json")
    assert not {*BEFOREHAND, *LEARNING} & set(made)
    result = project.json("results/metad2a_birds.json")
    jsonschema.validate(result, json.loads((ROOT / "workflow/schemas/classifier.schema.json").read_text()))
    assert result["learned"]["source"] == NAME and result["control"]["method"] == "random"
    assert result["protocol"]["n_classes"] == 3
