"""Pickled arrays from the internet, read without letting them run code.

Data sets and benchmarks go round as pickles. A pickle may name any function to be called while it is read, and may set
any attribute of what it made; here it gets stand-ins for the few names that such files need. They build arrays, numbers
and containers only, cannot be changed, and let no state into NumPy's types that describes memory otherwise than it is:
NumPy itself believes what a pickle says of a type's flags, and then takes bytes of the file for pointers.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import zipfile
from collections.abc import Callable
from typing import IO, Any

import numpy as np

from pipeline.core.errors import DataError
from pipeline.core.memory import at_most_more
from pipeline.data.archives import DAMAGES

MEMORY, MEMORY_PER_BYTE = 2**31, 64
"""What a pickle may take: this much, and so many times its own length; small objects take far more than their text."""

_ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric", "numpy._core.numeric")
_NUMBER_KINDS = "biufcSU"
_TORCH_MAGIC = 0x1950A86A20F9469CFC6C  # the first value of the files that torch.save wrote before version 1.6
_CONTAINERS = {"list": list, "dict": dict, "set": set, "tuple": tuple, "int": int, "float": float}


class _Call:
    """A function that a pickle may call and cannot change."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]):
        object.__setattr__(self, "_function", function)

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setattr__(self, name: str, value: Any) -> None:
        raise pickle.UnpicklingError(f"it wants to set {name} of a function")


class _Dtype(_Call):
    """The type of an array's elements while a pickle describes it: a plain one, in either byte order."""

    __slots__ = ()

    def __init__(self, code: Any, *_: Any):
        dtype = np.dtype(code) if isinstance(code, str) else np.dtype("V")
        if dtype.kind not in (*_NUMBER_KINDS, "O") or dtype.shape:
            raise pickle.UnpicklingError(f"it wants arrays of the type {code!r}")
        super().__init__(dtype)

    @property
    def dtype(self) -> np.dtype:
        return self._function

    def __setstate__(self, state: tuple) -> None:
        _, order, *parts = state
        if parts[:3] != [None, None, None] or order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError("it wants arrays of records")
        if order in "<>":
            object.__setattr__(self, "_function", self.dtype.newbyteorder(order))


class _Array(np.ndarray):
    """An array whose content is still to come."""

    __slots__ = ()

    def __setstate__(self, state: tuple) -> None:
        version, shape, described, in_columns, content = state
        if not isinstance(described, _Dtype):
            raise pickle.UnpicklingError("it has an array without a type")
        n_items, dtype = math.prod(shape), described.dtype
        of_objects = dtype.kind == "O"
        n_held = len(content) if of_objects else len(content) / max(dtype.itemsize, 1)
        if isinstance(content, list) != of_objects or min(shape, default=0) < 0 or n_held != n_items:
            raise pickle.UnpicklingError(f"it has an array of {n_items} elements with the content of {n_held:g}")
        super().__setstate__((version, shape, dtype, in_columns, content))


def _reconstruct(*_: Any) -> np.ndarray:
    return np.ndarray.__new__(_Array, (0,), "b")


def _content(content: Any, described: Any) -> tuple[Any, np.dtype]:
    if not isinstance(described, _Dtype) or described.dtype.kind not in _NUMBER_KINDS:
        raise pickle.UnpicklingError("it has numbers without a type")
    return content.encode("latin1") if isinstance(content, str) else content, described.dtype


def _from_buffer(content: Any, described: Any, shape: tuple, order: str) -> np.ndarray:
    content, dtype = _content(content, described)
    return np.frombuffer(content, dtype).reshape(shape, order=order)


def _scalar(described: Any, content: Any = b"") -> np.generic:
    content, dtype = _content(content, described)
    if len(content) != dtype.itemsize:
        raise pickle.UnpicklingError(f"it has a number of {len(content)} instead of {dtype.itemsize} bytes")
    return np.frombuffer(content, dtype)[0] if content else dtype.type()


def _encode(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it wants to encode text as {encoding}")
    return text.encode("latin1")


def _nothing(*_: Any) -> Any:
    raise pickle.UnpicklingError("it wants to make an array without content")


def _dict(*_: Any) -> dict:
    return {}


_NAMES = {
    **{(module, "_reconstruct"): _Call(_reconstruct) for module in _ARRAY_MODULES},
    **{(module, "_frombuffer"): _Call(_from_buffer) for module in _ARRAY_MODULES},
    **{(module, "scalar"): _Call(_scalar) for module in _ARRAY_MODULES},
    **{(module, name): kind for module in ("builtins", "__builtin__") for name, kind in _CONTAINERS.items()},
    # protocols before 3 make empty bytes by a call, and other bytes by encoding text
    **{(module, "bytes"): _Call(lambda: b"") for module in ("builtins", "__builtin__")},
    ("_codecs", "encode"): _Call(_encode),
    ("numpy", "ndarray"): _Call(_nothing),
    ("numpy", "dtype"): _Call(_Dtype),
    ("collections", "OrderedDict"): _Call(lambda pairs=(): dict(pairs)),
    ("collections", "defaultdict"): _Call(_dict),
}


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that knows arrays, numbers, text and containers."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(f"it wants to call {module}.{name}")
        return _NAMES[module, name]


def read_pickle(content: bytes, what: str) -> Any:
    """The value of a pickle of arrays, written by Python 2 or 3; its dicts come back as plain ones.

    Raises DataError when it is damaged, is not only data, or takes more memory than such data can.
    """
    return read_pickle_file(io.BytesIO(content), what, len(content))


def read_pickle_file(file: IO[bytes], what: str, n_bytes: int) -> Any:
    """`read_pickle` from where a file stands; another pickle may follow it.

    Args:
        n_bytes: about how long the pickle is.
    """
    try:
        with at_most_more(MEMORY + MEMORY_PER_BYTE * n_bytes):
            return _ArraysOnly(file, encoding="latin1").load()
    except MemoryError:
        raise DataError(f"{what} wants more memory than its {n_bytes} bytes can hold; it is damaged.") from None
    # a damaged pickle calls what it may with arguments of any kind, and fails in any way
    except Exception as error:
        raise DataError(f"{what} cannot be read as a pickle of arrays: {error}. Fetch it again.") from None


def read_torch_file(file: IO[bytes], what: str) -> Any:
    """The value of a file of `torch.save`, old or new form, that holds no tensors. Raises DataError like `read_pickle`.

    torch's own restricted reader refuses the numbers of NumPy that such files of older benchmarks hold.
    """
    n_bytes = file.seek(0, os.SEEK_END)
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                inside = [name for name in archive.namelist() if name.endswith("/data.pkl")]
                if len(inside) != 1:
                    raise DataError(f"{what} is a zip archive but no file of torch.save. Fetch it again.")
                with archive.open(inside[0]) as content:
                    return read_pickle_file(content, what, n_bytes)
    except (*DAMAGES, OSError) as error:
        raise DataError(f"{what} cannot be read as a file of torch.save ({error}). Fetch it again.") from None
    file.seek(0)
    magic = read_pickle_file(file, what, n_bytes)
    if type(magic) is not int or magic != _TORCH_MAGIC:
        raise DataError(f"{what} is no file of torch.save. Fetch it again.")
    for _ in ("protocol", "machine"):
        read_pickle_file(file, what, n_bytes)
    return read_pickle_file(file, what, n_bytes)
