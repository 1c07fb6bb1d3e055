"""Published weights: found, checked, read without running code."""

import dataclasses
import hashlib
import pickle

import pytest
import torch

from pipeline.core.errors import DataError, DownloadError
from pipeline.data import pretrained
from pipeline.data.base import Layout
from pipeline.data.pretrained import FILE, find_resnet18, read_weights
from tests.data.tiny_sources import vouch

CONTENT = b"the published file"


@pytest.fixture(autouse=True)
def published(monkeypatch):
    """Weights whose official file is CONTENT, at an address where nobody answers."""
    original = pretrained.ResNet18Weights

    class Small(original):
        def __init__(self, cache):
            super().__init__(cache)
            (source,) = self.layouts[0].sources
            source = dataclasses.replace(
                source, sha256=hashlib.sha256(CONTENT).hexdigest(), url=f"http://127.0.0.1:9/{FILE}"
            )
            self.layouts = (Layout("torchvision", (source,)),)

    monkeypatch.setattr(pretrained, "ResNet18Weights", Small)
    monkeypatch.setattr("pipeline.data.downloading.PATIENCE_SECONDS", 0.0)


def put(folder, content=CONTENT):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_bytes(content)


def found(tmp_path, mirror=True):
    (tmp_path / "mirror").mkdir(exist_ok=True)
    return find_resnet18(tmp_path / "waiting", mirror=tmp_path / "mirror" if mirror else None, cache=tmp_path / "cache")


def test_the_name_of_the_official_file_carries_the_beginning_of_its_checksum(monkeypatch):
    monkeypatch.undo()
    (source,) = pretrained.ResNet18Weights("cache").layouts[0].sources
    assert source.sha256.startswith(FILE.removeprefix("resnet18-").removesuffix(".pth")) and len(source.sha256) == 64
    assert source.url == f"https://download.pytorch.org/models/{FILE}"


@pytest.mark.parametrize("place", ["", "resnet18", "torchvision"])
def test_the_mirror_is_looked_in_first(tmp_path, place):
    put(tmp_path / "mirror" / place)
    put(tmp_path / "cache")
    one = found(tmp_path)
    assert (one.path, one.origin, one.official) == (tmp_path / "mirror" / place / FILE, "mirror", True)


def test_then_torchvisions_own_cache(tmp_path):
    put(tmp_path / "cache")
    one = found(tmp_path)
    assert (one.path, one.origin, one.official) == (tmp_path / "cache" / FILE, "cache", True)
    assert found(tmp_path, mirror=False).origin == "cache"


def test_another_file_in_the_mirror_must_be_vouched_for_and_is_not_called_official(tmp_path):
    put(tmp_path / "mirror", b"other weights")
    with pytest.raises(DataError, match="neither the official"):
        found(tmp_path)
    vouch(tmp_path / "mirror")
    assert not found(tmp_path).official


def test_a_damaged_file_in_the_cache_is_passed_over_and_told(tmp_path, capsys):
    put(tmp_path / "cache", b"half a file")
    with pytest.raises(DownloadError):
        found(tmp_path)
    assert "passed over" in capsys.readouterr().err


def test_what_cannot_be_had_is_told_with_where_to_put_it_and_what_does_without(tmp_path):
    with pytest.raises(DownloadError) as error:
        found(tmp_path)
    told = str(error.value)
    for wanted in (
        FILE,
        hashlib.sha256(CONTENT).hexdigest(),
        str(tmp_path / "mirror/resnet18"),
        str(tmp_path / "cache"),
    ):
        assert wanted in told
    assert "features.weights to own" in told


def test_named_tensors_are_read_as_they_were_saved(tmp_path):
    state = {"conv1.weight": torch.randn(2, 3), "fc.bias": torch.arange(3)}
    torch.save(state, tmp_path / "w.pth")
    back = read_weights(tmp_path / "w.pth")
    assert back.keys() == state.keys() and all(torch.equal(back[name], state[name]) for name in state)


class Harmful:
    def __reduce__(self):
        return (exec, ("import pathlib, os; pathlib.Path(os.environ['HARM']).touch()",))


@pytest.mark.parametrize("kind", ["pickle", "saved"])
def test_a_file_that_wants_to_run_code_is_refused_and_runs_none(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("HARM", str(tmp_path / "harm"))
    if kind == "pickle":
        (tmp_path / "w.pth").write_bytes(pickle.dumps({"a": Harmful()}))
    else:
        torch.save({"a": Harmful()}, tmp_path / "w.pth")
    with pytest.raises(DataError, match="cannot be read as a file of weights"):
        read_weights(tmp_path / "w.pth")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("content", [b"", b"not a file of torch", b"PK\x03\x04broken"])
def test_a_damaged_file_is_told(tmp_path, content):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(DataError, match="w.pth cannot be read"):
        read_weights(tmp_path / "w.pth")


def test_anything_but_named_tensors_is_told(tmp_path):
    torch.save([torch.zeros(1)], tmp_path / "w.pth")
    with pytest.raises(DataError, match="something else"):
        read_weights(tmp_path / "w.pth")
