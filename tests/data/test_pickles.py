"""Pickles are data, never programs."""

import collections
import os
import pickle

import numpy as np
import pytest

from pipeline.core.errors import DataError
from pipeline.data.pickles import read_pickle


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_numbers_and_containers_come_back(protocol):
    value = {
        "data": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
        "labels": [1, 2],
        "row": np.int64(7),
        "dict": collections.OrderedDict(a=(1.5, None)),
        "bytes": b"\x00\xff",
    }
    found = read_pickle(pickle.dumps(value, protocol=protocol), "here")
    assert (found["data"] == value["data"]).all() and found["data"].dtype == np.uint8
    assert {key: found[key] for key in ("labels", "row", "dict")} == {k: value[k] for k in ("labels", "row", "dict")}


def test_text_written_by_python_2_is_read():
    assert read_pickle(b"(dp0\nS'data'\np1\nI3\ns.", "here") == {"data": 3}


def test_a_pickle_that_calls_a_function_is_refused_before_the_call(tmp_path):
    target = tmp_path / "made by the pickle"
    with pytest.raises(DataError, match="mkdir"):
        read_pickle(pickle.dumps(Malicious(target)), "here")
    assert not target.exists()


@pytest.mark.parametrize("content", [b"", b"nonsense", pickle.dumps(list(range(100)))[:-20]])
def test_a_damaged_pickle_is_an_error_that_names_it(content):
    with pytest.raises(DataError, match="labels.pkl"):
        read_pickle(content, "labels.pkl")
