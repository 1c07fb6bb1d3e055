"""Published weights of ResNet-18 for ImageNet-1k: found, checked, and read without letting them run code."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Collection
from typing import Any

from pipeline.core.artifacts import PathLike
from pipeline.core.errors import DataError, DownloadError
from pipeline.data import share_images
from pipeline.data.base import Layout, Source
from pipeline.data.fetching import Found, find

FILE = "resnet18-f37072fd.pth"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
N_CLASSES, N_IMAGES = 1000, 1_281_167
WORDNET = re.compile(r"n\d{8}")


class ResNet18Weights:
    """`ResNet18_Weights.IMAGENET1K_V1` of torchvision, for the functions of `fetching`.

    Args:
        cache: the folder in which torchvision keeps downloaded weights.
    """

    title = "ResNet-18 with torchvision's ImageNet weights"

    def __init__(self, cache: PathLike):
        source = Source(
            name=FILE,
            licence="BSD-3-Clause (torchvision); trained on images under ImageNet's terms of access",
            url=f"https://download.pytorch.org/models/{FILE}",
            sha256="f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
            n_bytes=46_830_571,
            in_mirror=(FILE, f"torchvision/{FILE}"),
            cached=(str(pathlib.Path(cache) / FILE),),
        )
        self.layouts = (Layout("torchvision", (source,)),)


def find_resnet18(waiting: pathlib.Path, *, mirror: PathLike | None, cache: PathLike) -> Found:
    """The weights from the local mirror, torchvision's cache or their official address.

    Args:
        waiting: folder in which a download waits.
        cache: folder in which torchvision keeps downloaded weights.

    Raises:
        DownloadError: they are nowhere to be had; says what is wanted, where to put it, and what does without it.
        DataError: a file is damaged or not to be trusted.
    """
    try:
        _, (found,) = find(ResNet18Weights(cache), "resnet18", mirror, waiting)
    except DownloadError as error:
        raise DownloadError(
            f"{error}\ntorchvision's own cache is looked in too: {pathlib.Path(cache) / FILE}.\n"
            "Without the file, set features.weights to own in params.yaml: a ResNet-18 trained here on the base "
            "classes of the source stands in for it, and every result says so."
        ) from None
    return found


def read_weights(path: PathLike) -> dict[str, Any]:
    """Tensors by name from a file of `torch.save`, read by torch's restricted reader, which runs no code of the file.

    Raises DataError when it is damaged or holds anything but named tensors.
    """
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    # a damaged file fails in any way inside the reader
    except Exception as error:
        reason = " ".join(str(error).split(". ")[0].split())
        raise DataError(
            f"{path} cannot be read as a file of weights ({reason}). Put the published file there."
        ) from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise DataError(f"{path} holds something else than named tensors. Put the published file there.")
    return dict(state)


def seen_by_imagenet(dataset: str, names: Collection[str]) -> list[str]:
    """Those of a data set's class names that ImageNet-1k's weights were trained on.

    A class is taken for one of ImageNet's when its set is made of them, or when its name is a WordNet number.
    """
    of_imagenet = share_images(dataset, "imagenet")
    return [name for name in names if of_imagenet or WORDNET.fullmatch(name)]
