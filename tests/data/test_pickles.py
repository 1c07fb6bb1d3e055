"""Pickles are data, never programs."""

import collections
import io
import os
import pickle
import zipfile

import numpy as np
import pytest

from pipeline.core.errors import DataError
from pipeline.data.pickles import read_pickle, read_torch_file


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


NUMPY = b"cnumpy.core.multiarray\n"
FALSE_FLAGS = (
    NUMPY + b"_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I1\ntcnumpy\ndtype\n(S'O8'\nI00\nI01\ntR"
    b"(I3\nS'|'\nNNNI-1\nI-1\nI0\ntbI00\nS'AAAAAAAA'\ntb."
)
"""An array of objects whose type's flags say that it holds none: NumPy alone takes the eight bytes for an address."""


def test_bytes_of_a_pickle_are_never_taken_for_addresses():
    with pytest.raises(DataError, match="an array of 1 elements"):
        read_pickle(FALSE_FLAGS, "here")


def test_the_functions_that_a_pickle_may_call_cannot_be_changed_by_it():
    for text in (
        b"cnumpy.core.numeric\n_frombuffer\n(N(dS'__defaults__'\nNstb.",
        b"cnumpy.core.numeric\n_frombuffer\n(N(dS'_function'\nNstb.",
    ):
        with pytest.raises(DataError):
            read_pickle(text, "here")
    value = np.arange(4, dtype=np.uint8)
    assert (read_pickle(pickle.dumps(value, protocol=5), "here") == value).all()


@pytest.mark.parametrize("name", ["ndarray\n(I9\ntR.", "core.multiarray\nscalar\n(cnumpy\nndarray\nS'a'\ntR."])
def test_an_array_without_content_is_refused(name):
    with pytest.raises(DataError):
        read_pickle(b"cnumpy\n" + name.encode(), "here")


@pytest.mark.parametrize(
    "content", [b"Nr\x00\x00\x00\x70.", b"c__builtin__\nbytes\n(I99999999999\ntR.", b"\x80\x05\x96" + b"\x7f" * 8]
)
def test_a_few_bytes_cannot_take_all_memory(content):
    with pytest.raises(DataError):
        read_pickle(content, "here")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("code", ["?", "<i2", ">i4", "u8", "<f4", ">f8", "c8", "S3", "<U2", ">U2", "O"])
def test_arrays_and_numbers_of_every_plain_type_come_back(code, protocol):
    array = np.array([[1, 0], [1, 1], [0, 0]]).astype(code)
    for given in (array, np.asfortranarray(array), array[:0]):
        content = pickle.dumps(given, protocol=protocol)
        found, oracle = read_pickle(content, "here"), pickle.loads(content)
        assert found.dtype == oracle.dtype and found.shape == given.shape and (found == given).all()
        assert found.flags.f_contiguous == oracle.flags.f_contiguous
    if code != "O":
        found = read_pickle(pickle.dumps(array[1, 1], protocol=protocol), "here")
        assert found == array[1, 1] and type(found) is type(array[1, 1])


@pytest.mark.parametrize("code", ["V4", "M8[s]", "m8[s]", [("a", "u1"), ("b", "f4")]])
def test_arrays_that_no_data_set_holds_are_refused(code):
    with pytest.raises(DataError, match="arrays of"):
        read_pickle(pickle.dumps(np.zeros(2, dtype=code)), "here")


def test_dicts_with_an_order_or_a_default_come_back_as_dicts():
    counted = collections.defaultdict(list, a=[1])
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        for value in (counted, collections.OrderedDict(b=1, a=2)):
            found = read_pickle(pickle.dumps(value, protocol=protocol), "here")
            assert type(found) is dict and list(found.items()) == list(value.items())


def test_a_torch_file_that_is_none_is_an_error():
    empty_zip, array = io.BytesIO(), io.BytesIO(pickle.dumps(np.arange(3)))
    zipfile.ZipFile(empty_zip, "w").close()
    damaged = io.BytesIO(empty_zip.getvalue().replace(b"PK\x05\x06", b"PK\x05\x06\xff"))
    for file in (empty_zip, array, damaged, io.BytesIO(b"PK\x05\x06")):
        with pytest.raises(DataError, match="here"):
            read_torch_file(file, "here")
