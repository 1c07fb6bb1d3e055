"""SVHN, Street View House Numbers (Netzer et al., 2011): single digits cut out of photographs, 32 pixels a side.

Read are the files of cropped digits to train on and to test on; the 531,131 easier ones called `extra` are not.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np

from pipeline.core.errors import DataError
from pipeline.core.types import CLASSIFICATION
from pipeline.data import DATASETS
from pipeline.data.archives import Tree
from pipeline.data.base import Dataset, Layout, Record, Source
from pipeline.data.common_layouts import require_all, require_key

LICENCE = "for non-commercial use only, as its page says"
ADDRESS = "https://ufldl.stanford.edu/housenumbers/"
SIDE = 32
N_CLASSES = 10


def _file(name: str, md5: str) -> Source:
    return Source(name, LICENCE, url=ADDRESS + name, page=ADDRESS, md5=md5)


FILE_OF = {
    "train": _file("train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373"),
    "test": _file("test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3"),
}


@DATASETS.register("svhn")
class Svhn(Dataset):
    """10 classes; 73,257 images to train on and 26,032 to test on in the published set."""

    kind = CLASSIFICATION
    title = "SVHN"
    licence = LICENCE
    native_size = SIDE
    layouts = (Layout("MATLAB files", tuple(FILE_OF.values())),)

    def records(self, raw: Tree, layout: str) -> Iterator[Record]:
        seen = set()
        for split, source in FILE_OF.items():
            images, digits = read_matlab(raw.read(source.name), source.name)
            seen.update(digits)
            for row, (image, digit) in enumerate(zip(images, digits, strict=True)):
                yield Record(digit, split, f"{source.name}:{row}", image)
        require_all({str(digit): "" for digit in range(N_CLASSES)}, seen, raw.what)


def read_matlab(content: bytes, what: str) -> tuple[np.ndarray, list[str]]:
    """Images (n 32 32 3) and digits of a file of X (32 32 3 n) and y (n 1), where the label 10 stands for the digit 0.

    Raises DataError when it is damaged or of another layout.
    """
    from scipy.io.matlab import MatReadError, loadmat

    # scipy has NotImplementedError for files of MATLAB 7.3
    damages = (MatReadError, ValueError, TypeError, LookupError, OSError, EOFError, NotImplementedError)
    try:
        arrays = loadmat(io.BytesIO(content))
    except (*damages, MemoryError, struct.error, zlib.error) as error:
        raise DataError(f"{what} cannot be read as a MATLAB file ({error}). Fetch it again.") from None
    images, labels = (np.asarray(require_key(arrays, key, what)) for key in ("X", "y"))
    labels = labels.reshape(-1)
    if images.dtype != np.uint8 or images.shape != (SIDE, SIDE, 3, len(labels)):
        raise DataError(f"{what} does not hold {SIDE} x {SIDE} RGB bytes for each of its {len(labels)} labels.")
    if not set(np.unique(labels)) <= set(range(1, N_CLASSES + 1)):
        raise DataError(f"{what} has labels outside 1 to {N_CLASSES}. Fetch it again.")
    return images.transpose(3, 0, 1, 2), [str(int(label) % N_CLASSES) for label in labels]
