"""Pickled arrays from the internet, read without letting them run code.

Data sets and benchmarks go round as pickles. A pickle may name any function to be called while it is read; here only
the few that rebuild arrays and containers are allowed.
"""

from __future__ import annotations

import collections
import io
import pickle
import zipfile
from typing import IO, Any

import numpy as np

from pipeline.core.errors import DataError

_ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric", "numpy._core.numeric")
_ARRAY_FUNCTIONS = ("_reconstruct", "scalar", "_frombuffer")
_TORCH_MAGIC = 0x1950A86A20F9469CFC6C  # the first value of the files that torch.save wrote before version 1.6
_CONTAINERS = {"list": list, "dict": dict, "set": set, "tuple": tuple, "int": int, "float": float, "bytes": bytes}


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that knows arrays, numbers, text and containers."""

    def find_class(self, module: str, name: str) -> Any:
        if module in _ARRAY_MODULES and name in _ARRAY_FUNCTIONS:
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        if module in ("builtins", "__builtin__") and name in _CONTAINERS:
            return _CONTAINERS[name]
        if module == "collections" and name in ("OrderedDict", "defaultdict"):
            return getattr(collections, name)
        if (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it wants to call {module}.{name}")


def read_pickle(content: bytes, what: str) -> Any:
    """The value of a pickle of arrays, written by Python 2 or 3. Raises DataError when damaged or not only data."""
    return read_pickle_file(io.BytesIO(content), what)


def read_pickle_file(file: IO[bytes], what: str) -> Any:
    """`read_pickle` from where a file stands; another pickle may follow it."""
    try:
        return _ArraysOnly(file, encoding="latin1").load()
    except (
        pickle.UnpicklingError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
    ) as error:
        raise DataError(f"{what} cannot be read as a pickle of arrays: {error}. Fetch it again.") from None


def read_torch_file(file: IO[bytes], what: str) -> Any:
    """The value of a file of `torch.save`, old or new form, that holds no tensors. Raises DataError like `read_pickle`.

    torch's own restricted reader refuses the numbers of NumPy that such files of older benchmarks hold.
    """
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            inside = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            if len(inside) != 1:
                raise DataError(f"{what} is a zip archive but no file of torch.save. Fetch it again.")
            with archive.open(inside[0]) as content:
                return read_pickle_file(content, what)
    file.seek(0)
    if read_pickle_file(file, what) != _TORCH_MAGIC:
        raise DataError(f"{what} is no file of torch.save. Fetch it again.")
    for _ in ("protocol", "machine"):
        read_pickle_file(file, what)
    return read_pickle_file(file, what)
