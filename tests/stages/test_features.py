"""The features stage: a row per image, by the network that was given, with what it had seen."""

import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pipeline.core.artifacts import read_json, sha256, write_json
from pipeline.core.errors import ArtifactError, ConfigError
from pipeline.core.vision import torchvision
from pipeline.data import transforms
from pipeline.data.features import FeatureSet
from pipeline.data.prepared import PreparedSet
from pipeline.data.settings import PrepareConfig
from tests import tiny_set
from tests.data.tiny_sources import made, made_folder, outputs
from tests.stages.feature_files import Features
from tests.stages.small_training import prepare_classes


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A network trained for an epoch on a small set, whose folder is the working folder."""
    folder = tmp_path_factory.mktemp("features")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield Features(folder, tiny_set.write(folder / "tiny"), image_size=16).train()


def one_by_one(project, prepared, size, mean, std) -> np.ndarray:
    """The slow, plain way: torchvision's network without its last layer, an image at a time."""
    network = torchvision().models.resnet18(weights=None)
    network.fc = torch.nn.Identity()
    network.load_state_dict(load_file(project.weights))
    network.eval()
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (mean, std))
    rows = []
    for image in prepared.images:
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        pixels = torchvision().transforms.v2.functional.resize(pixels, [size, size], antialias=True)
        pixels = pixels.expand(3, size, size).float() / 255
        with torch.inference_mode():
            rows.append(network(((pixels - mean) / std)[None])[0].numpy())
    return np.stack(rows)


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())


def test_row_i_holds_the_features_of_image_i(project):
    features, facts = project.encode()
    prepared = PreparedSet.open(**project.prepared)
    array = np.load(features)
    assert array.shape == (len(prepared.labels), 512) and array.dtype == np.float32
    wanted = one_by_one(project, prepared, 16, prepared.mean, prepared.std)
    close(array, wanted)
    # rows are told apart far better than they agree
    assert np.abs(wanted[0] - wanted[1]).max() > 100 * np.abs(array[0] - wanted[0]).max()
    opened = FeatureSet.open(features, facts, prepared, verify=True)
    assert opened.dim == 512 and opened.warning is None
    assert "substitute" in opened.network["label"]
    assert np.array_equal(opened.of_class(7, "validation"), array[prepared.labels == 7])


def test_equal_inputs_give_equal_bytes_and_the_size_of_batches_only_last_digits(project):
    (first, facts), (again, facts_again) = (project.encode(name=name) for name in ("first", "again"))
    assert sha256(first) == sha256(again) and read_json(facts)["digest"] == read_json(facts_again)["digest"]
    other, _ = project.encode(name="other", images_per_batch=64)
    close(np.load(other), np.load(first))
    assert read_json(facts)["cost"]["wall_seconds"] > 0


def test_images_are_normalised_by_the_networks_statistics_when_that_is_asked_for(project, tmp_path):
    other = tiny_set.write(tmp_path / "other", seed=3)
    write_json(other["manifest"], read_json(other["manifest"]) | {"mean": [0.2] * 3, "std": [0.3] * 3})
    prepared = PreparedSet.open(**other)
    for normalise_by, mean, std in (("dataset", [0.2] * 3, [0.3] * 3), ("network", [0.4] * 3, [0.23] * 3)):
        features, facts = project.encode(other, normalise_by=normalise_by)
        told = read_json(facts)
        assert (told["mean"], told["std"], told["normalise_by"]) == (mean, std, normalise_by)
        close(np.load(features), one_by_one(project, prepared, 16, mean, std))


def test_grey_images_are_repeated_to_three_channels(project, tmp_path):
    knobs = PrepareConfig(max_image_size=16, max_images_per_class=2, min_images_per_class=2)
    prepared = made(tmp_path, "doublemnist", knobs=knobs)
    assert prepared.images.shape[-1] == 1
    features, facts = project.encode(outputs(tmp_path, "doublemnist"), "doublemnist")
    some = np.arange(0, len(prepared.labels), 9)
    few = dataclasses.replace(prepared, images=prepared.images[some])
    close(np.load(features)[some], one_by_one(project, few, 16, prepared.mean, prepared.std))
    assert read_json(facts)["saw_classes"] == {"base": 0, "validation": 0, "novel": 0}


def test_every_split_of_a_classification_set_is_described(project, tmp_path):
    prepare_classes(tmp_path)
    paths = outputs(tmp_path, "cifar10")
    features, facts = project.encode(paths, "cifar10")
    prepared = PreparedSet.open(**paths)
    opened = FeatureSet.open(features, facts, prepared)
    assert len(opened.of_class(3)) == 12 and len(opened.of_class(3, "test")) == 12
    assert not np.array_equal(opened.of_class(3), opened.of_class(3, "test"))
    assert read_json(facts)["kind"] == "classification" and opened.warning is None


def test_a_users_folder_is_described_too(project, tmp_path):
    prepared = made_folder(tmp_path)
    paths = outputs(tmp_path, prepared.name)
    features, facts = project.encode(paths, prepared.name)
    assert FeatureSet.open(features, facts, prepared).dim == 512
    assert not read_json(facts)["official_data"]


def test_a_network_that_saw_novel_classes_is_told_by_the_facts(project, tmp_path, capsys):
    network = read_json(project.facts)
    seen = network["trained_on"] | {"classes": ["base1", "novel0", "novel4"]}
    other = Features(tmp_path, project.prepared)
    other.weights = project.weights
    write_json(other.facts, network | {"trained_on": seen, "label": "ResNet-18 of others"})
    features, facts = other.encode()
    assert read_json(facts)["saw_classes"] == {"base": 1, "validation": 0, "novel": 2}
    warning = FeatureSet.open(features, facts, PreparedSet.open(**project.prepared)).warning
    assert "ResNet-18 of others" in warning and "2 of the 5 novel classes of Tiny" in warning
    assert warning in capsys.readouterr().err


def test_resized_images_are_read_as_they_are_when_all_are_resized_at_once():
    images = np.random.default_rng(0).integers(0, 256, (5, 12, 12, 3)).astype(np.uint8)
    view = transforms.ResizedImages(images, 8)
    assert view.shape == (5, 8, 8, 3) and len(view) == 5
    rows = np.array([4, 0, 4])
    assert np.array_equal(view[rows], transforms.resize(torch.from_numpy(images[rows]), 8).numpy())


def test_files_that_do_not_belong_together_are_refused(project, tmp_path):
    with pytest.raises(ConfigError, match="data set 'cifar10', but the images are those of 'tiny'"):
        project.encode(dataset="cifar10", name="refused")
    with pytest.raises(ArtifactError, match="network of 'tiny', not of 'omniglot'"):
        project.encode(source="omniglot", name="refused")
    changed = Features(tmp_path, project.prepared)
    changed.facts = project.facts
    with pytest.raises(ArtifactError, match="is missing. Run the feature-net stage"):
        changed.encode(name="refused")
    changed.weights.write_bytes(project.weights.read_bytes() + b" ")
    with pytest.raises(ArtifactError, match="is not the file that"):
        changed.encode(name="refused")
    assert not list(tmp_path.glob("refused*")) and not list(project.folder.glob("refused*"))


def test_an_error_while_describing_leaves_no_features_behind(project, monkeypatch):
    calls = []

    def fail(prepared, rows):
        calls.append(rows)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return torch.zeros(len(rows), 16, 16, 3, dtype=torch.uint8)

    monkeypatch.setattr(transforms, "gather", fail)
    with pytest.raises(KeyboardInterrupt):
        project.encode(name="interrupted")
    assert not list(project.folder.glob("*interrupted*"))
