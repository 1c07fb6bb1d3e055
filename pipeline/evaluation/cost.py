"""What a job costs: wall seconds, device seconds and peak memory."""

import contextlib
import pathlib
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import psutil


@dataclass
class Cost:
    """Cost of a block of work, complete once the block has ended.

    Attributes:
        wall_seconds: time that passed.
        device_seconds: on an accelerator the time it was held, which is the wall time; on the processor the seconds of
            all its cores together.
        peak_memory_mib: most host memory the process held during the block.
        peak_device_memory_mib: most accelerator memory in tensors; None on the processor.
    """

    wall_seconds: float = 0.0
    device_seconds: float = 0.0
    peak_memory_mib: float = 0.0
    peak_device_memory_mib: float | None = field(default=None)


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


@contextlib.contextmanager
def measured(device) -> Iterator[Cost]:
    """Measure the block's cost; the object yielded is filled in when the block ends, also by an error.

    Args:
        device: the torch.device that computes.
    """
    on_cuda = device.type == "cuda"
    if on_cuda:
        import torch

        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    _forget_host_peak()
    cost, wall, processor = Cost(), time.perf_counter(), time.process_time()
    try:
        yield cost
    finally:
        if on_cuda:
            torch.cuda.synchronize(device)
            cost.peak_device_memory_mib = torch.cuda.max_memory_allocated(device) / 2**20
        cost.wall_seconds = time.perf_counter() - wall
        cost.device_seconds = cost.wall_seconds if device.type != "cpu" else time.process_time() - processor
        cost.peak_memory_mib = max(_host_peak_mib(), psutil.Process().memory_info().rss / 2**20)
