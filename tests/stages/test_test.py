import json
import random

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.core.artifacts import read_json, sha256
from pipeline.data import transforms
from pipeline.data.prepared import PreparedSet
from pipeline.evaluation.networks import fresh_network
from pipeline.evaluation.settings import NetworkConfig, TrainConfig
from pipeline.evaluation.statistics import wilson_ci95
from tests.stages.small_training import Project, kill_in_the_middle, prepare_classes, prepare_digits

RECIPE = {"epochs": 15, "batch_size": 24, "auxiliary_weight": 0.4, "clip_norm": 5.0, "cutout": 4, "warm_up": 2}
CHECKPOINT = "build/checkpoints/train_hand_cifar10.pt"


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    return prepare_classes(tmp_path_factory.mktemp("classes"))


@pytest.fixture(scope="module")
def project(classes, tmp_path_factory):
    project = Project(tmp_path_factory.mktemp("project"), classes, "cifar10", **RECIPE)
    project.run("train")
    project.run("test")
    return project


@pytest.fixture(scope="module")
def measured(project):
    return read_json(project.measured)


@pytest.fixture(scope="module")
def table(project):
    return pd.read_csv(project.accuracies)


def test_the_weights_are_those_of_the_networks_without_their_auxiliary_classifiers(project):
    names = {name.split("/", 1)[1] for name in load_file(project.weights)}
    assert not any(name.startswith("auxiliary.") for name in names)
    assert "classifier.weight" in names


def test_every_architecture_has_a_row_for_every_class_with_all_its_test_images(table):
    assert list(table.columns) == ["seed", "class", "n", "n_right", "n_right_top5"]
    assert table["seed"].tolist() == [0] * 10 + [4] * 10
    assert table["class"].tolist()[:10] == table["class"].tolist()[10:] == sorted(set(table["class"]))
    assert (table["n"] == 12).all()
    assert not table["n_right"].isin([0, 12]).all(), "networks that know one class only would show no mistake"
    assert (table["n_right"] <= table["n_right_top5"]).all() and (table["n_right_top5"] <= table["n"]).all()


def by_hand(project, number, trained):
    """Logits of one network on the test images in one batch, and the labels."""
    prepared = PreparedSet.open(**project.prepared)
    genotype = read_json(project.genotype)
    network = fresh_network(
        "darts_fewshot",
        genotype["architectures"][number],
        prepared,
        NetworkConfig(channels=4, n_cells=2, stem_multiplier=3),
        TrainConfig(),
        7,
    )
    if trained:
        state = {n.split("/", 1)[1]: w for n, w in load_file(project.weights).items() if n.startswith(f"{number}/")}
        network.load_state_dict(state)
    rows = prepared.rows_of_split("test")
    images = transforms.to_float(transforms.gather(prepared, rows), prepared.mean, prepared.std)
    with torch.no_grad():
        return network.eval()(images), torch.from_numpy(prepared.labels[rows])


@pytest.mark.parametrize("number", [0, 1])
def test_the_accuracies_are_those_of_the_networks_run_by_hand(project, measured, number):
    logits, labels = by_hand(project, number, trained=True)
    assert measured["accuracy"]["top1"]["per_seed"][number] == float((logits.argmax(1) == labels).double().mean())
    among = (logits.topk(5).indices == labels[:, None]).any(1)
    assert measured["accuracy"]["top5"]["per_seed"][number] == pytest.approx(float(among.double().mean()))


def test_the_untrained_control_is_the_same_networks_before_their_training(project, measured):
    right = [(logits.argmax(1) == labels) for logits, labels in (by_hand(project, i, trained=False) for i in (0, 1))]
    assert measured["untrained"]["top1"]["mean"] == pytest.approx(float(torch.stack(right).double().mean()))
    assert set(measured["untrained"]) == {"top1", "top5"}


@pytest.mark.parametrize(("top", "column"), [("top1", "n_right"), ("top5", "n_right_top5")])
def test_means_and_intervals_are_those_of_the_table(measured, table, top, column):
    found = measured["accuracy"][top]
    per_seed = table.groupby("seed")[column].sum() / 120
    assert found["per_seed"] == pytest.approx(per_seed.to_list())
    assert found["mean"] == pytest.approx(per_seed.mean())
    assert found["sd"] == pytest.approx(per_seed.std())
    assert found["n_images"] == 120
    low, high = wilson_ci95(found["mean"] * 120, 120)
    assert found["ci95"] == pytest.approx((high - low) / 2)
    assert (found["seeds_ci95"] > found["ci95"]) == (found["sd"] > 0)
    for share, interval in zip(found["per_seed"], found["per_seed_interval"], strict=True):
        assert interval["low"] <= share <= interval["high"]


def test_protocol_provenance_and_sizes_are_told(measured, project):
    assert measured["protocol"] == {
        "setting": "classification",
        "n_classes": 10,
        "n_train_images": 120,
        "n_test_images": 120,
        "image_size": 16,
    }
    facts = measured["provenance"]
    assert facts["data_digest"] == PreparedSet.open(**project.prepared).digest
    assert set(facts["params_digest"]) == {"search", "train", "test"}
    assert all(len(value) == 64 for value in [*facts["params_digest"].values(), facts["recipe_digest"]])
    assert facts["reproducible"] is True
    weights = load_file(project.weights)
    per_seed = [
        sum(w.numel() for n, w in weights.items() if n.startswith(f"{i}/") and not is_buffer(n)) for i in (0, 1)
    ]
    assert measured["parameters"]["per_seed"] == per_seed
    assert measured["parameters"]["backbone"] < measured["parameters"]["total"] == np.mean(per_seed)
    assert measured["flops"] > 0


def is_buffer(name):
    return name.endswith(("running_mean", "running_var", "num_batches_tracked"))


def test_the_same_command_gives_the_same_numbers(project, measured):
    before = project.accuracies.read_bytes()
    project.run("test")
    assert project.accuracies.read_bytes() == before
    again = read_json(project.measured)
    assert {k: again[k] for k in again if k != "provenance"} == {k: measured[k] for k in measured if k != "provenance"}


def test_a_training_with_all_that_classifiers_need_is_the_same_when_it_was_killed(project, classes, tmp_path):
    again = Project(tmp_path, classes, "cifar10", **RECIPE)
    moments = random.Random(0)
    assert any([kill_in_the_middle(again, "train", CHECKPOINT, moments.uniform(0.0, 0.3)) for _ in range(2)])
    again.run("train")
    assert sha256(again.weights) == sha256(project.weights)


def test_weights_of_other_networks_are_refused(project, tmp_path):
    genotype = json.loads(project.genotype.read_text())
    genotype["architectures"].reverse()
    (tmp_path / "genotype.json").write_text(json.dumps(genotype))
    assert "other architectures" in refused(project, "test", genotype=tmp_path / "genotype.json")
    save_file({"0/x": torch.zeros(1)}, tmp_path / "weights.safetensors")
    assert "damaged" in refused(project, "test", weights=tmp_path / "weights.safetensors")


def refused(project, stage, **changes):
    process = project.start(stage, **changes)
    _, log = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "Traceback" not in log
    return " ".join(log.split())


def test_each_kind_of_data_set_has_its_own_test(project, tmp_path):
    assert "classification data set" in refused(project, "evaluate", episodes=project.episodes)
    digits = Project(tmp_path, prepare_digits(tmp_path / "digits"), epochs=1)
    digits.run("train")
    assert "evaluate stage" in refused(digits, "test")
