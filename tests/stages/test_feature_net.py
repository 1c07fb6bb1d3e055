"""The feature-net stage: our own training, and published weights."""

import dataclasses
import json
import random

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from pipeline.core.artifacts import read_json, sha256
from pipeline.core.errors import ConfigError, DataError, DownloadError
from pipeline.core.vision import torchvision
from pipeline.data.prepared import PreparedSet
from pipeline.data.pretrained import FILE
from pipeline.evaluation.settings import FeatureNetConfig
from pipeline.stages.feature_net import WEIGHTS
from tests import tiny_set
from tests.data.tiny_sources import outputs, vouch
from tests.stages.feature_files import Features
from tests.stages.small_training import kill_in_the_middle, prepare_classes

CHECKPOINT = "build/checkpoints/feature_net_tiny.pt"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_set.write(tmp_path_factory.mktemp("tiny"), n_images=12)


@pytest.fixture(scope="module")
def undisturbed(tiny, tmp_path_factory):
    project = Features(tmp_path_factory.mktemp("undisturbed"), tiny, epochs=4)
    process = project.start("feature-net")
    _, log = process.communicate(timeout=300)
    assert process.returncode == 0, log
    project.log = log
    return project


def test_every_way_to_come_by_weights_is_a_choice_of_the_knob():
    (knob,) = (field for field in dataclasses.fields(FeatureNetConfig) if field.name == "weights")
    assert set(knob.metadata["choices"]) == set(WEIGHTS)


def test_our_own_weights_are_those_of_torchvisions_network_and_say_that_they_stand_in(undisturbed, tiny):
    weights = load_file(undisturbed.weights)
    published = torchvision().models.resnet18(weights=None).state_dict()
    assert {name for name in published if not name.startswith("fc.")} == set(weights)
    assert all(weights[name].shape == published[name].shape for name in weights)
    facts, prepared = read_json(undisturbed.facts), PreparedSet.open(**tiny)
    assert facts["substitute"] and "substitute" in facts["label"] and "6 base classes of Tiny" in facts["label"]
    assert facts["trained_on"]["classes"] == [f"base{i}" for i in range(6)]
    assert facts["trained_on"]["n_images"] == 72 and facts["trained_on"]["official_data"]
    assert (facts["source"], facts["dim"], facts["image_size"]) == ("tiny", 512, 8)
    assert facts["weights_sha256"] == sha256(undisturbed.weights) and facts["data_digest"] == prepared.digest
    assert facts["mean"] == list(prepared.mean) and facts["std"] == list(prepared.std)
    assert "substitute" in undisturbed.log


def test_the_training_learns_the_base_classes_and_warns_that_it_is_short(undisturbed):
    curve = pd.read_csv(undisturbed.curve)
    assert curve["epoch"].tolist() == [1, 2, 3, 4]
    assert curve["learning_rate"].iloc[-1] < curve["learning_rate"].max() <= 0.05
    weights = load_file(undisturbed.weights)
    assert weights["bn1.num_batches_tracked"] == 4 * 6
    assert "features.epochs: 50 " in undisturbed.log and "only 24 training steps" in undisturbed.log


def test_a_training_killed_again_and_again_gives_the_bytes_of_an_undisturbed_one(undisturbed, tiny, tmp_path):
    project = Features(tmp_path, tiny, epochs=4)
    moments = random.Random(0)
    assert sum(kill_in_the_middle(project, "feature-net", CHECKPOINT, moments.uniform(0.0, 0.2)) for _ in range(2))
    process = project.start("feature-net")
    _, log = process.communicate(timeout=300)
    assert process.returncode == 0, log
    assert sha256(project.weights) == sha256(undisturbed.weights)
    facts = [read_json(of.facts) for of in (project, undisturbed)]
    assert all(one.pop("cost")["wall_seconds"] > 0 for one in facts) and facts[0] == facts[1]
    columns = ["epoch", "learning_rate", "loss", "train_accuracy"]
    assert pd.read_csv(project.curve)[columns].equals(pd.read_csv(undisturbed.curve)[columns])
    assert not (tmp_path / CHECKPOINT).exists()


def test_another_seed_gives_other_weights_and_leaves_the_global_generator_alone(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    project = Features(tmp_path, tiny)
    before, digests = torch.get_rng_state(), []
    for seed in (1, 1, 2):
        project.params.write_text(json.dumps(read_json(project.params) | {"seed": seed}))
        digests.append(sha256(project.train().weights))
    assert digests[0] == digests[1] != digests[2]
    assert torch.equal(before, torch.get_rng_state())


def test_images_of_another_size_are_resized_for_the_training(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_json(Features(tmp_path, tiny, image_size=16).train().facts)["image_size"] == 16


def test_too_few_images_for_a_batch_name_the_knob_of_this_section(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"features\.batch_size is 100.*72 images"):
        Features(tmp_path, tiny, batch_size=100).train()
    assert not (tmp_path / "weights.safetensors").exists()


def test_a_classification_set_is_no_source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepare_classes(tmp_path / "classes")
    with pytest.raises(DataError, match="source.*needs a few-shot data set"):
        Features(tmp_path, outputs(tmp_path / "classes", "cifar10"), "cifar10").train()


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A mirror to put a file of weights in, and a torchvision cache that is empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEWSHOT_NAS_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    (tmp_path / "mirror").mkdir()
    return tmp_path / "mirror"


def test_weights_of_imagenet_come_from_the_mirror_without_classifier_and_say_what_they_saw(tiny, tmp_path, mirror):
    torch.manual_seed(3)
    published = torchvision().models.resnet18(weights=None).state_dict()
    # as in the official file, which is older than these counters
    saved = {name: value for name, value in published.items() if not name.endswith("num_batches_tracked")}
    torch.save(saved, mirror / FILE)
    vouch(mirror)
    project = Features(tmp_path, tiny, weights="imagenet").train()
    weights = load_file(project.weights)
    assert all(torch.equal(weights[name], value) for name, value in saved.items() if not name.startswith("fc."))
    assert not any(name.startswith("fc.") for name in weights)
    facts = read_json(project.facts)
    assert not facts["substitute"] and facts["trained_on"]["title"] == "ImageNet-1k"
    assert facts["mean"] == [0.485, 0.456, 0.406] and facts["std"] == [0.229, 0.224, 0.225]
    assert not facts["file"]["official"] and "not the official one" in facts["label"]
    assert pd.read_csv(project.curve).empty
    assert not (tmp_path / ".downloads").exists()


def test_weights_of_another_network_are_refused(tiny, tmp_path, mirror):
    torch.save({"conv1.weight": torch.zeros(2)}, mirror / FILE)
    vouch(mirror)
    with pytest.raises(DataError, match="holds no weights of a ResNet-18"):
        Features(tmp_path, tiny, weights="imagenet").train()
    assert not (tmp_path / "weights.safetensors").exists()


def test_where_imagenets_weights_cannot_be_had_the_substitute_is_named(tiny, tmp_path, mirror, monkeypatch):
    def no_connection(*arguments, **options):
        raise TimeoutError("no connection")

    monkeypatch.setattr("urllib.request.urlopen", no_connection)
    monkeypatch.setattr("pipeline.data.downloading.PATIENCE_SECONDS", 0.0)
    with pytest.raises(DownloadError) as error:
        Features(tmp_path, tiny, weights="imagenet").train()
    told, cache = str(error.value), str(tmp_path / "torch/hub/checkpoints")
    for wanted in (FILE, "f37072fd47e8", str(mirror), cache, "features.weights to own"):
        assert wanted in told
