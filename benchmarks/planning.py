"""How long Snakemake takes to plan 1,000 results, from a clone on: freezing parameters, then the dry run.

    python benchmarks/planning.py --targets 1000 --out benchmarks/figures/planning_cpu.json

Seeds are no part of a target's name (a job goes through the seeds of `search.<method>.seeds`, a run has one `seed`), so
the targets are all methods on all data sets that come with the project and on folders of images, as many as are
needed. Nothing is run; the folders need not exist.
"""

import argparse
import json
import os
import pathlib
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time

import yaml

from pipeline import methods

ROOT = pathlib.Path(__file__).resolve().parents[1]
COSTS = ROOT / "benchmarks/figures/costs_cpu.json"
PARTS = ("Snakefile", "params.yaml", "profiles", "workflow", "pipeline")
TARGETS = """
import sys
from pipeline.stages.settings import Freezer, load
freezer = Freezer(load())
kinds = freezer.kinds
# a classifier needs a control in its own space, which the default settings give to nas_bench_201 alone
pairs = sorted((d, m) for (m, d), kind in kinds.items() if kind != "trained")
print("\\n".join(f"results/{m}_{d}.json" for d, m in pairs))
"""


def copied(folder: pathlib.Path, n_folders: int) -> None:
    """A copy of the project with so many folders of images in its params.yaml."""
    for name in PARTS:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["data"]["folders"] = {f"folder{i}": {"path": f"/pictures/folder{i}"} for i in range(n_folders)}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def timed(command: list[str], folder: pathlib.Path) -> tuple[dict[str, float], str]:
    """Wall and processor seconds of a command, and what it printed. Ends the script when the command fails."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:8])} ... ended with {done.returncode}:\n{done.stdout[-3000:]}")
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_seconds": round(wall, 2), "processor_seconds": round(processor, 2)}, done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", type=int, default=1000, metavar="N", help="results to plan (default: 1000)")
    parser.add_argument("--out", metavar="FILE", help="where the figures go")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        copied(folder, max(1, arguments.targets // len(methods.names())))
        printed = subprocess.run(
            [sys.executable, "-c", TARGETS], cwd=folder, check=True, capture_output=True, text=True
        )
        targets = printed.stdout.split()[: arguments.targets]
        if len(targets) < arguments.targets:
            raise SystemExit(f"only {len(targets)} results can be named; more folders are needed")
        freeze = [sys.executable, "-m", "pipeline", "freeze"]
        plan = [sys.executable, "-m", "snakemake", "-n", "--quiet", "all", "--cores", "2", *targets]
        figures = {"n_targets": len(targets)}
        figures["first_freeze"], _ = timed(freeze, folder)
        figures["n_frozen_files"] = len(os.listdir(folder / "build/params"))
        figures["freeze_unchanged"], _ = timed(freeze, folder)
        figures["dry_run"], printed_plan = timed(plan, folder)
        figures["n_jobs"] = int(re.findall(r"^total\s+(\d+)$", printed_plan, re.MULTILINE)[-1])
        told = [sys.executable, "-m", "pipeline", "forecast", "--costs", str(COSTS), "--jobs", "1", *targets]
        figures["forecast"], printed_forecast = timed(told, folder)
        figures["forecast_says"] = printed_forecast.strip().split("\n\n")[-1].splitlines()
        shutil.rmtree(folder / "build")
        figures["dry_run_of_a_clone"], _ = timed(plan, folder)
    figures["load_average"] = round(os.getloadavg()[0], 1)
    text = json.dumps(figures, indent=1) + "\n"
    print(text, end="")
    if arguments.out:
        pathlib.Path(arguments.out).write_text(text)


if __name__ == "__main__":
    main()
