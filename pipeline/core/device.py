"""The one place that chooses a device and the number of threads."""

import os
import re
import sys

from pipeline.core.errors import DeviceError
from pipeline.core.wording import n_of

ACCELERATORS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""Device files of the drivers of NVIDIA and AMD, and of either in Windows' Linux."""
ALLOWED = re.compile("auto|cpu|mps|cuda(:[0-9]{1,4})?")


def n_cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def may_be_accelerated(name: str = "auto") -> bool:
    """False where the device named is surely the processor; told without torch, from what the system shows."""
    if name != "auto":
        return name != "cpu"
    return sys.platform == "darwin" or any(map(os.path.exists, ACCELERATORS))


def choose_device(name: str = "auto"):
    """torch.device for `auto` (CUDA where there is one, else CPU), `cpu`, `cuda`, `cuda:N` or `mps`.

    Raises DeviceError when the device named is not there.
    """
    import torch

    kind, _, index = name.partition(":")
    if not ALLOWED.fullmatch(name):
        raise DeviceError(f"Unknown device '{name}'. Allowed: auto, cpu, cuda, cuda:N, mps (compute.device).")
    if kind == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if kind == "cuda":
        seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if seen == 0 or (index and int(index) >= seen):
            built = torch.version.cuda or "none: this is a CPU build of PyTorch"
            raise DeviceError(
                f"Device '{name}' was asked for, but PyTorch sees {n_of(seen, 'CUDA device')} (CUDA of the build: "
                f"{built}). Set compute.device to auto or cpu, or install a CUDA build: FEWSHOT_NAS_TORCH=cu126 make "
                "setup."
            )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("Device 'mps' was asked for, but PyTorch sees none. Set compute.device to auto or cpu.")
    return torch.device(name)


def use_threads(n_threads: int) -> int:
    """Let torch use `n_threads` cores (0: all that this process may use); returns the number in force."""
    import torch

    torch.set_num_threads(n_threads if n_threads > 0 else n_cores())
    return torch.get_num_threads()
