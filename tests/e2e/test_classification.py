"""Searches judged by a table, report cards and trained classifiers through both tools, on real CIFAR-10 images."""

import json
import os

import jsonschema
import pytest

from tests.e2e.project import ROOT, SMALL, Project

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        not os.environ.get("FEWSHOT_NAS_MIRROR"),
        reason="needs CIFAR-10 and the table of NAS-Bench-201: set FEWSHOT_NAS_MIRROR to a folder that holds them",
    ),
]
GUIDED = {"repeat": 1, "n_images": 8, "n_region_samples": 40, "channels": 2, "kernel_cells": 1}
PARAMS = SMALL | {
    "grid": {"datasets": ["doublemnist"], "methods": ["random"]},
    "classification": {
        "datasets": ["cifar10"],
        "tables": ["nas_bench_201"],
        "looked_up": ["tegnas_evo", "tenas"],
        "trained": ["conv4", "random"],
        "cards": ["nas_bench_201"],
    },
    "search": {
        "tegnas_evo": {**GUIDED, "population_size": 4, "tournament_size": 2, "n_cycles": 4},
        "tenas": {**GUIDED, "prune_number": 3},
        "random": {"space": "darts", "n_architectures": 1},
    },
    "train": {"epochs": 1},
    "score": {
        "proxies": ["n_params", "linear_regions", "naswot"], "n_architectures": 6, "repeat": 1, "n_images": 8,
        "n_region_samples": 40, "kernel_channels": 2, "kernel_cells": 1, "channels": 4, "n_cells": 1,
    },
    "rate": {"n_resamples": 10},
}  # fmt: skip
SEARCHED = ["tegnas_evo", "tenas"]


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    made = Project.copied(tmp_path_factory.mktemp("classification") / "project", PARAMS)
    made.snakemake()
    made.save("everything made")
    return made


@pytest.mark.parametrize("method", SEARCHED)
def test_what_a_search_found_is_looked_up_in_the_real_table(project, method):
    result = project.json(f"results/{method}_cifar10.json")
    jsonschema.validate(result, json.loads((ROOT / "workflow/schemas/lookup.schema.json").read_text()))
    assert result["protocol"]["n_architectures"] == 15625
    assert result["best"]["accuracy"] == pytest.approx(0.943733, abs=1e-5)
    assert 0.09 < result["accuracy"]["mean"] <= result["best"]["accuracy"]
    assert 1 <= result["rank"]["per_seed"][0] <= 15625
    assert result["control"]["search_cost"]["network_evaluations"] <= result["search_cost"]["network_evaluations"]


def test_a_classifier_is_trained_and_tested_beside_random_architectures(project):
    result = project.json("results/conv4_cifar10.json")
    jsonschema.validate(result, json.loads((ROOT / "workflow/schemas/classifier.schema.json").read_text()))
    assert result["control"]["method"] == "random"
    assert 0 <= result["accuracy"]["top1"]["mean"] <= 1


def test_the_report_card_and_the_page_of_the_searches_are_written(project):
    card = project.json("results/proxies_nas_bench_201_cifar10.json")
    jsonschema.validate(card, json.loads((ROOT / "workflow/schemas/proxies.schema.json").read_text()))
    page = (project.folder / "results/nas_bench_201.html").read_text()
    assert all(method in page for method in SEARCHED)


def test_after_a_run_neither_tool_has_anything_to_do(project):
    assert project.snakemake("-n") == []
    assert project.dvc_repro() == []


def test_a_search_key_reruns_that_search_and_its_look_up_only(project):
    project.edit({"search": {"tegnas_evo": {"n_cycles": 5}}})
    wanted = sorted(["search_tegnas_evo_cifar10", "look_up_tegnas_evo_cifar10", "report_lookups"])
    assert project.snakemake("-n") == wanted
    assert project.dvc_repro() == wanted
    assert project.snakemake("-n") == []


def test_a_key_of_the_rating_rates_again_and_scores_nothing(project):
    project.edit({"rate": {"n_resamples": 11}})
    assert project.dvc_repro() == ["rate_nas_bench_201_cifar10"]
    assert project.snakemake("-n") == []
