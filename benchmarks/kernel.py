"""Time and memory of one MetaNTK evaluation by the kernel engines, side by side.

    python benchmarks/kernel.py --out benchmarks/figures/kernel_cpu.json

One evaluation is the NTK of the full `darts_fewshot` supernet on 3 tasks of 5 + 5 images of 32x32 pixels (noise), and
the condition number of its MetaNTK. Every measurement is a fresh process: it evaluates once to warm up, then times one
evaluation. The engines take turns, round after round, so that a machine that slows down slows all of them. Errors are
against the loop engine in float64, relative to the largest entry. Runs unchanged on a CUDA device.
"""

import argparse
import copy
import json
import math
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import torch

from pipeline import kernels, spaces
from pipeline.core import provenance
from pipeline.core.artifacts import write_json
from pipeline.core.device import choose_device, use_threads
from pipeline.core.progress import say
from pipeline.core.rng import torch_stream
from pipeline.nets.init import initialise

N_TASKS, N_WAY, IMAGE_SIZE = 3, 5, 32
VARIANTS = {
    "fast": {"engine": "fast"},
    "low_memory": {"engine": "fast", "low_memory": True},
    "opacus": {"engine": "opacus"},
    "loop": {"engine": "loop"},
}
ORACLE = "loop float64"


def setting(channels: int, n_cells: int, device: torch.device, dtype: torch.dtype):
    """The supernet under its full mask, a head and the images of all tasks; the same in every process."""
    network = spaces.get("darts_fewshot")().supernet(n_classes=64, channels=channels, n_cells=n_cells)
    initialise(network, "kaiming_fanout", torch_stream(0, "benchmark", "weights"))
    head = initialise(
        torch.nn.Linear(network.feature_dim, N_WAY), "torch_default", torch_stream(0, "benchmark", "head")
    )
    n_images = 2 * N_TASKS * N_WAY
    images = torch.randn(n_images, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch_stream(0, "benchmark", "images"))
    return network.to(device, dtype), copy.deepcopy(head).to(device, dtype), images.to(device, dtype)


def evaluate(network, head, images, engine: dict) -> tuple[torch.Tensor, float]:
    """The MetaNTK of MAML after an endless inner loop, and its condition number."""
    result = kernels.ntk(network, images, head=head, **engine)
    kernel = kernels.meta_ntk(
        result.theta,
        result.theta,
        n_tasks=N_TASKS,
        n_query=N_WAY,
        n_support=N_WAY,
        inner_lr_time=math.inf,
        reg_coef=1e-3,
    )
    return result.theta, kernels.condition_number(kernel)


def measure(variant: str, arguments: argparse.Namespace) -> dict:
    """One process's work: warm up, time one evaluation, note the peak memory of both."""
    use_threads(arguments.threads)
    device = choose_device(arguments.device)
    oracle = variant == ORACLE
    dtype = torch.float64 if oracle else torch.float32
    network, head, images = setting(arguments.channels, arguments.cells, device, dtype)
    engine = VARIANTS["loop" if oracle else variant]
    seconds, processor = [], []
    for _ in range(1 if oracle else 2):
        wait(device)
        start, start_processor = time.perf_counter(), time.process_time()
        theta, cond = evaluate(network, head, images, engine)
        wait(device)
        seconds.append(time.perf_counter() - start)
        processor.append(time.process_time() - start_processor)
    return {
        "first_seconds": seconds[0],
        "seconds": seconds[-1],
        "processor_seconds": processor[-1],
        "peak_gib": peak_gib(device),
        "cond": cond,
        "theta": theta.tolist(),
    }


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_gib(device: torch.device) -> float:
    """Largest memory so far: allocated on a CUDA device, else resident in the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def in_fresh_process(variant: str, arguments: argparse.Namespace) -> dict:
    """`measure` in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        answer = pathlib.Path(folder) / "measured.json"
        numbers = ("channels", "cells", "threads", "device")
        given = [text for name in numbers for text in (f"--{name}", str(getattr(arguments, name)))]
        command = [sys.executable, "-W", "ignore", __file__, *given, "--measure", variant, "--out", str(answer)]
        subprocess.run(command, check=True)
        return json.loads(answer.read_text())


def summary(runs: dict[str, list[dict]]) -> dict[str, dict]:
    """Medians of every variant, its ratio of time to Opacus round by round, and its error."""
    truth = torch.tensor(runs[ORACLE][0]["theta"], dtype=torch.float64)
    rows = {}
    for variant, measured in runs.items():
        theta = torch.tensor(measured[0]["theta"], dtype=torch.float64)
        keys = ("seconds", "processor_seconds", "first_seconds", "peak_gib")
        rows[variant] = {key: round(statistics.median(run[key] for run in measured), 3) for key in keys}
        rows[variant]["rounds"] = len(measured)
        rows[variant]["cond"] = measured[0]["cond"]
        rows[variant]["error"] = float((theta - truth).abs().max() / truth.abs().max())
        if variant in VARIANTS:
            pairs = list(zip(runs["opacus"], measured, strict=False))
            for key in ("seconds", "processor_seconds"):
                ratios = [opacus[key] / run[key] for opacus, run in pairs]
                rows[variant][f"times_faster_than_opacus_{key}"] = round(statistics.median(ratios), 3)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--channels", type=int, default=48, help="channels of the first cell")
    parser.add_argument("--cells", type=int, default=5, help="cells of the supernet")
    parser.add_argument("--threads", type=int, default=1, help="processor threads (0: all)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N")
    parser.add_argument("--repeats", type=int, default=5, help="rounds in which the engines take turns")
    parser.add_argument("--measure", choices=(*VARIANTS, ORACLE), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="JSON file of the figures")
    arguments = parser.parse_args()
    if arguments.measure:
        write_json(arguments.out, measure(arguments.measure, arguments))
        return
    use_threads(arguments.threads)
    runs: dict[str, list[dict]] = {ORACLE: [in_fresh_process(ORACLE, arguments)]}
    for turn in range(arguments.repeats):
        # the loop is far slower and needs no ratio, so once is enough
        for variant in VARIANTS if turn == 0 else list(VARIANTS)[:3]:
            run = in_fresh_process(variant, arguments)
            runs.setdefault(variant, []).append(run)
            say(f"round {turn + 1}, {variant}: {run['seconds']:.2f} s, {run['peak_gib']:.2f} GiB")
    figures = {
        "what": __doc__.splitlines()[0],
        "setting": {name: getattr(arguments, name) for name in ("channels", "cells", "threads", "device", "repeats")},
        "engines": summary(runs),
        "hardware": provenance.hardware(choose_device(arguments.device)),
        "versions": provenance.versions(),
    }
    write_json(arguments.out, figures)


if __name__ == "__main__":
    main()
