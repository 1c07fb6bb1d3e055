import json
import random

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from pipeline.core.artifacts import sha256, write_json
from pipeline.evaluation.from_scratch import too_short
from pipeline.evaluation.settings import TrainConfig
from tests.stages.small_training import Project, kill_in_the_middle, prepare_digits

CHECKPOINT = "build/checkpoints/train_hand_doublemnist.pt"


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return prepare_digits(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def undisturbed(digits, tmp_path_factory):
    project = Project(tmp_path_factory.mktemp("undisturbed"), digits)
    project.run("train")
    return project


def test_the_weights_of_every_architecture_are_in_the_file_with_what_they_belong_to(undisturbed):
    from safetensors import safe_open

    weights = load_file(undisturbed.weights)
    assert {name.split("/")[0] for name in weights} == {"0", "1"}
    assert weights["0/classifier.weight"].shape[0] == 64
    assert all(torch.isfinite(value).all() for value in weights.values())
    with safe_open(undisturbed.weights, "pt") as file:
        facts = json.loads(file.metadata()["few_shot_nas"])
    assert [entry["seed"] for entry in facts["architectures"]] == [0, 4]


def test_the_curve_has_a_row_per_architecture_and_epoch_and_the_cost_adds_up(undisturbed):
    curve = pd.read_csv(undisturbed.curve)
    assert curve[["seed", "epoch"]].to_numpy().tolist() == [[s, e] for s in (0, 4) for e in (1, 2, 3, 4)]
    cost = json.loads(undisturbed.cost.read_text())
    assert cost["wall_seconds"] >= curve["seconds"].sum() * 0.99
    assert [entry["seed"] for entry in cost["networks"]] == [0, 4]
    assert cost["hardware"]["threads"] == 1
    assert cost["peak_memory_mib"] > 100


def test_a_training_of_very_few_steps_says_so_in_one_line_and_what_it_would_take(digits, tmp_path):
    log = Project(tmp_path, digits, epochs=1, batch_size=500).run("train")
    (line,) = [line for line in log.splitlines() if "warning" in line]
    # 64 classes of 8 images: one step an epoch
    assert "hand on doublemnist" in line and "512 images give only 1 training step" in line
    assert "train.epochs: 300 " in line


@pytest.mark.parametrize(
    ("n_images", "batch_size", "epochs", "enough"),
    [(640, 64, 30, None), (640, 64, 29, 30), (700, 64, 29, 30), (90, 64, 299, 300), (63, 64, 1, None)],
)
def test_the_epochs_that_a_short_training_is_told_to_take_make_it_long_enough(n_images, batch_size, epochs, enough):
    warning = too_short(n_images, TrainConfig(epochs=epochs, batch_size=batch_size))
    if enough is None:
        assert warning is None
        return
    assert f"train.epochs: {enough} " in warning
    assert too_short(n_images, TrainConfig(epochs=enough, batch_size=batch_size)) is None
    assert too_short(n_images, TrainConfig(epochs=enough - 1, batch_size=batch_size)) is not None


def test_a_finished_training_leaves_no_checkpoint(undisturbed):
    assert not (undisturbed.folder / CHECKPOINT).exists()


def test_a_training_killed_again_and_again_gives_the_bytes_of_an_undisturbed_one(undisturbed, digits, tmp_path):
    project = Project(tmp_path, digits)
    moments = random.Random(0)
    killed = sum(kill_in_the_middle(project, "train", CHECKPOINT, moments.uniform(0.0, 0.4)) for _ in range(3))
    assert killed >= 1
    project.run("train")
    assert sha256(project.weights) == sha256(undisturbed.weights)
    columns = ["seed", "epoch", "learning_rate", "loss", "train_accuracy"]
    assert pd.read_csv(project.curve)[columns].equals(pd.read_csv(undisturbed.curve)[columns])


def test_a_checkpoint_of_other_parameters_is_not_gone_on_from(undisturbed, digits, tmp_path):
    project = Project(tmp_path, digits, epochs=30)
    assert kill_in_the_middle(project, "train", CHECKPOINT)
    Project(tmp_path, digits)
    assert "other parameters" in project.run("train")
    assert sha256(project.weights) == sha256(undisturbed.weights)


def test_a_genotype_the_space_does_not_hold_is_refused_in_one_paragraph(digits, tmp_path):
    project = Project(tmp_path, digits)
    genotype = json.loads(project.genotype.read_text())
    genotype["architectures"][0]["genotype"] = "Genotype(normal=[])"
    write_json(project.genotype, genotype)
    process = project.start("train")
    _, log = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "error:" in log and "Traceback" not in log
    assert not project.weights.exists()
