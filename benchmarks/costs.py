"""What a unit of work of every kind of job takes on one core: the coefficients of `python -m pipeline forecast`.

    python benchmarks/costs.py --out benchmarks/figures/costs_cpu.json

Runs every kind of job once, small, by its own command, in a copy of the project on the default images, one after the
other on one core, and divides its processor time, less that of a start, by its work as pipeline/evaluation/work.py
counts it. Processor time, because other work on the machine does not lengthen it. Kinds that need a download (tables,
`score`, ImageNet weights) are not measured.
"""

import argparse
import json
import math
import os
import pathlib
import platform
import re
import resource
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

PARTS = ("Snakefile", "params.yaml", "profiles", "workflow", "pipeline", "dvc.yaml")
N_IMAGES = 30
SHORT = {"n_iterations": 8, "validate_every": 8, "n_validation_episodes": 4}
# sizes of networks and images as in the laptop budget, counts small
SMALL = {
    "compute": {"threads": 1, "device": "cpu"},
    "prepare": {"max_images_per_class": N_IMAGES},
    "episodes": {"n_episodes": 40, "n_query": 5},
    "features": {"epochs": 1},
    "search": {
        "metantk": {"prune_number": 6, "repeat": 1, "n_region_samples": 1000},
        "ntk": {"prune_number": 6, "repeat": 1},
        "tenas": {"prune_number": 6, "repeat": 1, "n_images": 16},
        "tegnas_evo": {"population_size": 8, "tournament_size": 4, "n_cycles": 4, "repeat": 1},
        "tegnas_rl": {"n_steps": 12, "repeat": 1},
        "metad2a": {"source": "doublemnist", "n_candidates": 20},
        "tnas": {"n_tasks": 6},
    },
    "train": {"epochs": 1},
    "evaluate": {"n_untrained_episodes": 20, "n_resamples": 50},
    "adapt": {"n_untrained_episodes": 12, "n_resamples": 50},
    "supernet": {"tnas": SHORT, "automaml": SHORT},
    "meta_learn": {
        name: SHORT for name in ("maml", "fomaml", "anil", "metalstm", "randomtnas", "tnas", "automaml")
    },
    "database": {"n_base_tasks": 4, "n_validation_tasks": 2, "n_novel_tasks": 2, "cells_per_task": 3},
    "oracle": {"train": {"epochs": 2, "n_images": N_IMAGES}},
    "meta_train": {"predictor_epochs": 20, "generator_epochs": 40, "n_graphs": 100, "cells_per_held_out_task": 0},
}  # fmt: skip
METHODS = ("metantk", "conv4", "maml", "fomaml", "anil", "metalstm", "randomtnas", "tnas", "automaml")
# of what these find the training and the test cost as those of any other cells
SEARCHES = ("ntk", "tenas", "tegnas_evo", "tegnas_rl", "metad2a")
# the searches that judge cells of NAS-Bench-201 too
OF_CELLS = ("tenas", "tegnas_evo", "tegnas_rl")
PRUNED = ("darts_fewshot", "darts", "nas_bench_201")
WIDE = 2


def laid_over(below: dict, above: dict) -> dict:
    """Nested values of `above` over those of `below`."""
    both = dict(below)
    for key, value in above.items():
        both[key] = (
            laid_over(both[key], value) if isinstance(value, dict) and isinstance(both.get(key), dict) else value
        )
    return both


def copied(folder: pathlib.Path) -> None:
    """A copy of the project, made small."""
    for name in PARTS:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    set_params(folder, SMALL)


def set_params(folder: pathlib.Path, values: dict) -> None:
    params = yaml.safe_load((folder / "params.yaml").read_text())
    (folder / "params.yaml").write_text(yaml.safe_dump(laid_over(params, values), sort_keys=False))


def processor_seconds(command: list[str], folder: pathlib.Path) -> float:
    """Processor time of a command and its children. Raises CalledProcessError when it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def commands(folder: pathlib.Path, targets: list[str]) -> dict[str, list[str]]:
    """Job -> its command, of the jobs that the targets still need, in an order in which they can run."""
    from pipeline.stages.forecast import COMMAND

    planning = [sys.executable, "-m", "snakemake", "-n", "--printshellcmds", "--cores", "1", *targets]
    done = subprocess.run(planning, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"Snakemake cannot plan:\n{(done.stdout + done.stderr)[-3000:]}")
    found = {}
    for command in COMMAND.findall(done.stdout + done.stderr):
        (name,) = re.findall(r"--params build/params/(\S+)\.json", command)
        found[name] = [sys.executable, "-m", "pipeline", *shlex.split(command)]
    return found


def space_facts(name: str) -> dict:
    """What the count of a pruning's candidates needs to know of a space."""
    from pipeline import spaces

    space = spaces.get(name)()
    mask = space.full_mask()
    wide = [stop - start for start, stop in space.edge_groups if stop - start > 2]
    return {"operations": mask.sum(-1).flatten().tolist(), "in_groups": len(mask) * sum(wide)}


def measure(folder: pathlib.Path, out: pathlib.Path) -> dict[str, dict]:
    """Job -> its processor seconds and its frozen parameters, the same job in another size under another name.

    What is measured so far is kept in `out`.
    """
    targets = [f"results/{method}_doublemnist.json" for method in METHODS]
    targets += [f"search/{method}_doublemnist/cost.json" for method in SEARCHES]
    targets.append("results/measured/resnet12_doublemnist.json")
    measured: dict[str, dict] = {}

    def run(targets: list[str], suffix: str = "") -> None:
        for name, command in commands(folder, targets).items():
            spent = processor_seconds(command, folder)
            print(f"{spent:8.1f} s  {name}{suffix}", file=sys.stderr, flush=True)
            measured[name + suffix] = {"seconds": spent, "name": name, "work": work_of(folder, name)}
            out.write_text(json.dumps({"jobs": measured}))

    run(targets)
    set_params(folder, {"network": {"channels": 16 * WIDE}})
    run(["models/random_doublemnist/cost.json"], f" {WIDE} times as wide")
    set_params(
        folder, {"network": {"channels": 16}, "search": {method: {"space": "nas_bench_201"} for method in OF_CELLS}}
    )
    run([f"search/{method}_doublemnist/cost.json" for method in OF_CELLS], " in nas_bench_201")
    return measured


def work_of(folder: pathlib.Path, name: str) -> dict:
    """What the estimator needs of a job, read while its parameters are in force."""
    frozen = {path.stem: json.loads(path.read_text()) for path in (folder / "build/params").glob("*doublemnist*.json")}
    job = frozen[name]
    dataset, method = job["dataset"], job.get("method")

    def params(other: str) -> dict:
        return frozen.get(other, {}).get("params", {})

    return {
        "stage": job["stage"],
        "method": method,
        "params": job["params"],
        "beside": {
            "episodes": params(f"episodes_{dataset}").get("episodes", {}),
            "database": params(f"database_{dataset}").get("database", {}),
            "search": params(f"search_{method}_{dataset}"),
            "supernet": params(f"supernet_{method}_{dataset}"),
        },
    }


def coefficients(measured: dict[str, dict], spaces: dict, images) -> dict:
    """The figures that a forecast reads."""
    from pipeline.evaluation.work import LIGHT, Costs, work

    seconds = {name: one["seconds"] for name, one in measured.items()}
    start = statistics.median(
        one["seconds"]
        for one in measured.values()
        if one["work"]["stage"] in (*LIGHT, "search") and one["work"]["method"] in (None, "conv4", "resnet12", "maml")
    )
    narrow, wide = seconds["train_random_doublemnist"], seconds[f"train_random_doublemnist {WIDE} times as wide"]
    exponent = min(2.0, max(1.0, math.log((wide - start) / (narrow - start), WIDE)))
    costs = Costs(start, exponent, {}, spaces)
    by_key: dict[str, list[float]] = {}
    for one in measured.values():
        key, amount = work(**one["work"], images=images, costs=costs)
        if amount > 0:
            by_key.setdefault(key, []).append(max(0.0, one["seconds"] - start) / amount)
    return {
        "start": start,
        "channels_exponent": exponent,
        "coefficients": {key: statistics.median(values) for key, values in sorted(by_key.items())},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, metavar="FILE", help="where the figures go")
    parser.add_argument("--again", metavar="FILE", help="figures whose measured jobs are taken instead of new ones")
    arguments = parser.parse_args()
    import torch

    from pipeline.evaluation.work import Images

    if arguments.again:
        measured = json.loads(pathlib.Path(arguments.again).read_text())["jobs"]
    else:
        with tempfile.TemporaryDirectory() as folder:
            copied(pathlib.Path(folder))
            measured = measure(pathlib.Path(folder), pathlib.Path(arguments.out))
    spaces = {name: space_facts(name) for name in PRUNED}
    figures = {
        **coefficients(measured, spaces, Images(n_train=64 * N_IMAGES, n_rest=36 * N_IMAGES, side=32)),
        "spaces": spaces,
        "unit": "processor seconds of one core per unit of work (docs/scale.md)",
        "hardware": {"machine": platform.machine(), "cores_used": 1, "torch": torch.__version__},
        "jobs": measured,
    }
    pathlib.Path(arguments.out).write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
