"""Pickled arrays from the internet, read without letting them run code.

Few-shot data sets go round as pickles. A pickle may name any function to be called while it is read; here only the few
that rebuild arrays and containers are allowed.
"""

from __future__ import annotations

import collections
import io
import pickle
from typing import Any

import numpy as np

from pipeline.core.errors import DataError

_ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric", "numpy._core.numeric")
_ARRAY_FUNCTIONS = ("_reconstruct", "scalar", "_frombuffer")
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
    try:
        return _ArraysOnly(io.BytesIO(content), encoding="latin1").load()
    except (pickle.UnpicklingError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise DataError(f"{what} cannot be read as a pickle of arrays: {error}. Fetch it again.") from None
