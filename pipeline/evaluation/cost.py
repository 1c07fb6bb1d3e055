"""What a job costs: wall seconds, device seconds and peak memory, also over several interrupted runs."""

import contextlib
import pathlib
import resource
import sys
import time
from collections.abc import Mapping
from typing import Any


class Meter:
    """Measures from its making on; `so_far` may be read at any time.

    Args:
        device: the torch.device that computes.
        earlier: what `so_far` gave in the interrupted run that this one goes on from.
    """

    def __init__(self, device, earlier: Mapping[str, Any] | None = None):
        self.device, self.earlier = device, earlier
        if device.type == "cuda":
            import torch

            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
        _forget_host_peak()
        self._wall, self._processor = time.perf_counter(), time.process_time()

    def so_far(self) -> dict[str, float]:
        """The cost until now.

        Returns:
            wall_seconds: time that passed.
            device_seconds: on an accelerator the time it was held, which is the wall time; on the processor the
                seconds of all its cores together.
            peak_memory_mib: most host memory the process held.
            peak_device_memory_mib: most accelerator memory in tensors; only on CUDA.
        """
        cost = {}
        if self.device.type == "cuda":
            import torch

            torch.cuda.synchronize(self.device)
            cost["peak_device_memory_mib"] = torch.cuda.max_memory_allocated(self.device) / 2**20
        wall = time.perf_counter() - self._wall
        processor = time.process_time() - self._processor
        cost |= {
            "wall_seconds": wall,
            "device_seconds": processor if self.device.type == "cpu" else wall,
            "peak_memory_mib": _host_peak_mib(),
        }
        return cost if self.earlier is None else _joined(self.earlier, cost)


def _joined(earlier: Mapping[str, float], cost: Mapping[str, float]) -> dict[str, float]:
    """Seconds add up, peaks do not."""
    joined = {}
    for name, value in cost.items():
        before = earlier.get(name, 0.0)
        joined[name] = before + value if name.endswith("_seconds") else max(before, value)
    return joined


def _forget_host_peak() -> None:
    """Let Linux measure the peak of resident memory anew; elsewhere the peak is that of the whole process."""
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/self/clear_refs").write_text("5")


def _host_peak_mib() -> float:
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    # bytes on macOS, KiB elsewhere
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
