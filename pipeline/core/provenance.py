"""Where a number comes from: commit, package versions, and the hardware seen inside the job."""

import functools
import importlib.metadata
import os
import pathlib
import platform
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "opacus", "pandas", "igraph", "snakemake", "dvc")


@functools.cache
def commit() -> str:
    """Commit of the code, "+" appended when tracked files differ from it; "unknown" outside a git checkout."""
    git = ["git", "-C", str(ROOT)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changes = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no", "--", "pipeline"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (FileNotFoundError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+" if changes else "")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a number."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def processor() -> str:
    """The processor's own name."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def hardware(device=None) -> dict:
    """What the job runs on: host processor, cores in use, memory, and the accelerator when `device` is one."""
    import psutil
    import torch

    seen = {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "device": str(device) if device is not None else "cpu",
        "system": platform.platform(terse=True),
    }
    if device is not None and device.type == "cuda":
        seen["accelerator"] = torch.cuda.get_device_name(device)
    return seen


def gather(device=None) -> dict:
    """The provenance block of an artifact: commit, versions, hardware."""
    return {"commit": commit(), "versions": versions(), "hardware": hardware(device)}
