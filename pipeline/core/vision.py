"""The one door to torchvision, which also opens when its compiled part was built for another PyTorch.

A torchvision wheel built for CUDA cannot load its compiled operators beside a CPU build of PyTorch, and then refuses to
be imported at all because it describes two operators that nobody has defined. Declaring those two is enough for all
that needs no compiled operator: transforms, data sets, models.
"""

import contextlib
import functools
import importlib
import importlib.util
import pathlib
from types import ModuleType

from pipeline.core.errors import PipelineError

_declared: list = []  # a torch.library.Library undoes its declarations when it is collected


def _compiled_part_loads(folder: pathlib.Path) -> bool:
    import torch

    for library in sorted(folder.glob("_C*.so")):
        try:
            torch.ops.load_library(str(library))
        except OSError:
            return False
    return True


def _declare_detection_operators() -> None:
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        # a second declaration is refused, and not needed
        with contextlib.suppress(RuntimeError):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.append(library)


@functools.cache
def torchvision() -> ModuleType:
    """The torchvision package, with `transforms.v2` imported. Raises PipelineError when it is not installed."""
    found = importlib.util.find_spec("torchvision")
    if found is None or found.origin is None:
        raise PipelineError("torchvision is not installed. Run `make setup`.")
    if not _compiled_part_loads(pathlib.Path(found.origin).parent):
        _declare_detection_operators()
    importlib.import_module("torchvision.transforms.v2")
    return importlib.import_module("torchvision")
