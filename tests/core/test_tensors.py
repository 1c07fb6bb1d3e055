"""Named tensors in one file."""

import pytest
import torch

from pipeline.core.errors import ArtifactError
from pipeline.core.tensors import read_tensors, write_tensors


def test_tensors_come_back_as_they_were_and_the_same_tensors_give_the_same_bytes(tmp_path):
    tensors = {"b": torch.arange(6.0).view(2, 3), "a.c": torch.tensor([1, 2])}
    for name in ("first", "second"):
        write_tensors(tmp_path / name, tensors, {"y": 1, "x": [2]})
    back = read_tensors(tmp_path / "first", "feature-net")
    assert back.keys() == tensors.keys() and all(torch.equal(back[name], tensors[name]) for name in tensors)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_what_cannot_be_read_names_the_stage_that_makes_it(tmp_path):
    with pytest.raises(ArtifactError, match="Run the feature-net stage"):
        read_tensors(tmp_path / "none", "feature-net")
    (tmp_path / "broken").write_bytes(b"not tensors")
    with pytest.raises(ArtifactError, match="damaged"):
        read_tensors(tmp_path / "broken", "feature-net")
