import json
import math

import numpy as np
import pandas as pd
import pytest

from pipeline.core.artifacts import read_json, write_json
from pipeline.data.prepared import PreparedSet
from pipeline.episodes import files
from pipeline.evaluation import mean_ci95
from tests.stages.small_training import Project, prepare_digits


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    digits = prepare_digits(tmp_path_factory.mktemp("digits"))
    project = Project(tmp_path_factory.mktemp("project"), digits)
    project.run("train")
    project.run("evaluate")
    return project


@pytest.fixture(scope="module")
def measured(project):
    return read_json(project.measured)


@pytest.fixture(scope="module")
def accuracies(project):
    return pd.read_csv(project.accuracies)


def test_every_architecture_is_tested_once_on_every_stored_episode_with_both_read_outs(accuracies):
    assert list(accuracies.columns) == ["seed", "k_shot", "episode", "read_out", "accuracy"]
    counts = accuracies.groupby(["seed", "k_shot", "read_out"])["episode"].agg(list)
    assert sorted(counts.index) == sorted(
        (seed, k_shot, name) for seed in (0, 4) for k_shot in (1, 2) for name in ("linear_probe", "prototypes")
    )
    assert all(episodes == list(range(10)) for episodes in counts)
    assert ((accuracies["accuracy"] * 15) % 1).round(9).isin([0, 1]).all()


@pytest.mark.parametrize(("block", "read_out"), [("accuracy", "linear_probe"), ("prototypes", "prototypes")])
@pytest.mark.parametrize("k_shot", [1, 2])
def test_means_and_intervals_are_those_of_the_table(measured, accuracies, block, read_out, k_shot):
    rows = accuracies[(accuracies["read_out"] == read_out) & (accuracies["k_shot"] == k_shot)]
    mean, half = mean_ci95(rows.groupby("episode")["accuracy"].mean().to_numpy())
    found = measured[block][str(k_shot)]
    assert found["mean"] == pytest.approx(mean)
    assert found["ci95"] == pytest.approx(half)
    if block == "accuracy":
        assert found["per_seed"] == pytest.approx(rows.groupby("seed")["accuracy"].mean().to_numpy())
        assert found["n_episodes"] == 10
        assert found["seeds_ci95"] > 0


@pytest.mark.parametrize("k_shot", ["1", "2"])
def test_both_data_aware_intervals_are_there(measured, k_shot):
    block = measured["accuracy"][k_shot]["data_aware"]
    once, bootstrap = block["without_replacement"], block["hierarchical_bootstrap"]
    assert once["n_episodes"] >= 4
    assert 0 <= once["mean"] <= 1
    assert bootstrap["low"] <= measured["accuracy"][k_shot]["mean"] <= bootstrap["high"]


def test_the_protocol_is_that_of_the_stored_episodes(measured, project):
    episodes = files.read(project.episodes)
    assert measured["protocol"] == {
        "n_way": 5,
        "k_shots": sorted(episodes),
        "n_query": 3,
        "n_episodes": 10,
        "n_augmented_support": 1,
        "n_untrained_episodes": 5,
        "read_out": "linear_probe",
        "setting": "inductive",
        "image_size": 16,
    }


def test_provenance_names_data_episodes_recipe_and_all_parameters(measured, project):
    facts = measured["provenance"]
    assert facts["data_digest"] == PreparedSet.open(**project.prepared).digest
    assert set(facts["params_digest"]) == {"search", "train", "evaluate"}
    assert all(len(value) == 64 for value in [*facts["params_digest"].values(), facts["recipe_digest"]])
    assert facts["official_data"] is True
    assert facts["hardware"]["device"] == "cpu"
    assert measured["parameters"]["backbone"] < measured["parameters"]["total"]
    assert len(measured["parameters"]["per_seed"]) == 2
    assert measured["flops"] > 0


def test_the_untrained_networks_are_tested_too(measured):
    for block in measured["untrained"].values():
        assert 0 <= block["mean"] <= 1
        assert math.isfinite(block["ci95"])


def test_the_same_command_gives_the_same_numbers(project, measured):
    before = project.accuracies.read_bytes()
    project.run("evaluate")
    assert project.accuracies.read_bytes() == before
    again = read_json(project.measured)
    assert {k: again[k] for k in again if k != "provenance"} == {k: measured[k] for k in measured if k != "provenance"}


def refused(project, **changes):
    """Run the evaluation with another file in place of one of the project's; returns the log of its refusal."""
    process = project.start("evaluate", **changes)
    _, log = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "Traceback" not in log
    return " ".join(log.split())


def test_weights_of_other_architectures_are_refused(project, tmp_path):
    genotype = json.loads(project.genotype.read_text())
    genotype["architectures"].reverse()
    write_json(tmp_path / "genotype.json", genotype)
    assert "other architectures" in refused(project, genotype=tmp_path / "genotype.json")


def test_damaged_weights_are_refused(project, tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(project.weights.read_bytes()[:1000])
    assert "damaged" in refused(project, weights=tmp_path / "weights.safetensors")


def test_episodes_of_other_images_are_refused(project, tmp_path):
    episodes = files.read(project.episodes)
    for episode in episodes[1]:
        episode.query[...] = np.roll(episode.query, 1, axis=0)
    files.write(tmp_path / "episodes.csv", episodes)
    assert "episodes stage again" in refused(project, episodes=tmp_path / "episodes.csv")
