"""What a unit of work of every kind of job takes: the coefficients of `python -m pipeline forecast`.

    python benchmarks/costs.py . --out benchmarks/figures/costs_cpu.json

Reads what finished jobs of one or more project folders noted of themselves, runs nothing, and divides the seconds of
each kind of job by its work as pipeline/evaluation/work.py counts it. Searches, trainings, meta-trainings and databases
keep their processor seconds in their cost files; of other jobs Snakemake's records hold the wall seconds, which other
work on the machine lengthens. Jobs whose frozen parameters were written after their outputs are left out.
"""

import argparse
import base64
import json
import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pipeline.evaluation.work import LIGHT, Costs, work  # noqa: E402
from pipeline.stages.forecast import Estimator  # noqa: E402

# assumed, not measured: between 1 (poolings, depthwise convolutions) and 2 (pointwise convolutions)
CHANNELS_EXPONENT = 1.5
PRUNED = ("darts", "darts_fewshot", "nas_bench_201")
# where jobs keep what they cost, and the name of their parameter file
LEDGERS = {
    "search/*/cost.json": ("search_{}",),
    "models/*/cost.json": ("train_{}", "meta_learn_{}"),
    "models/*/facts.json": ("{}", "meta_train_{}"),
    "database/*/report.json": ("database_{}",),
}


def read(path: pathlib.Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def space_facts(name: str) -> dict:
    """What the count of a pruning's candidates needs to know of a space."""
    from pipeline import spaces

    space = spaces.get(name)()
    mask = space.full_mask()
    wide = [stop - start for start, stop in space.edge_groups if stop - start > 2]
    return {"operations": mask.sum(-1).flatten().tolist(), "in_groups": len(mask) * sum(wide)}


def noted(folder: pathlib.Path) -> dict[str, tuple[pathlib.Path, float]]:
    """Job -> one of its outputs and its processor seconds, of the jobs of a project that keep a cost file."""
    found = {}
    for pattern, names in LEDGERS.items():
        for path in folder.glob(pattern):
            content = read(path)
            cost = content.get("cost", content)
            for name in names:
                job = name.format(path.parent.name)
                if "device_seconds" in cost and (folder / f"build/params/{job}.json").exists():
                    controls = content.get("controls") or {}
                    found[job] = path, cost["device_seconds"] + controls.get("device_seconds", 0.0)
    return found


def recorded(folder: pathlib.Path, stages: tuple[str, ...]) -> dict[str, tuple[pathlib.Path, float]]:
    """The same of jobs of `stages`, with the wall seconds that Snakemake recorded of their outputs."""
    found = {}
    for path in folder.glob(".snakemake/metadata/*"):
        entry, output = read(path), base64.b64decode(path.name).decode()
        stem = pathlib.Path(output).name.split(".")[0]
        job = f"{entry.get('rule')}_{stem}"
        made = entry.get("endtime") and (folder / output).exists() and (folder / f"build/params/{job}.json").exists()
        if entry.get("rule") in stages and made:
            found[job] = folder / output, entry["endtime"] - entry["starttime"]
    return found


def finished(folder: pathlib.Path) -> list[dict]:
    """The jobs of a project with their seconds and what their work is counted from."""
    frozen = {path.stem: path for path in (folder / "build/params").glob("*.json")}
    measured = {job: (*one, "processor") for job, one in noted(folder).items()}
    others = ("prepare", "evaluate", "test", "adapt", "features", *LIGHT)
    measured |= {job: (*one, "wall") for job, one in recorded(folder, others).items()}
    found = []
    for job, (output, seconds, clock) in sorted(measured.items()):
        if frozen[job].stat().st_mtime > output.stat().st_mtime:
            print(f"left out: {job}, whose parameters changed afterwards", file=sys.stderr)
            continue
        found.append({"job": job, "seconds": seconds, "clock": clock})
    return found


def counted(jobs: list[dict], costs: Costs) -> list[dict]:
    """The jobs, each with its kind and the amount of its work; the present folder is their project."""
    estimator = Estimator(costs)
    for one in jobs:
        one["kind"], one["work"] = work(*estimator.inputs_of(one["job"]), costs)
    return jobs


def coefficients(jobs: list[dict], start: float) -> dict[str, float]:
    """Seconds per unit of work by kind: all seconds by all work, so that long jobs count most."""
    totals: dict[str, list[float]] = {}
    for one in jobs:
        if one["work"] > 0:
            total = totals.setdefault(one["kind"], [0.0, 0.0])
            total[0] += max(0.0, one["seconds"] - start * (one["clock"] == "wall"))
            total[1] += one["work"]
    return {kind: seconds / amount for kind, (seconds, amount) in sorted(totals.items())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="projects with finished jobs")
    parser.add_argument("--out", required=True, metavar="FILE", help="where the figures go")
    arguments = parser.parse_args()
    spaces = {name: space_facts(name) for name in PRUNED}
    empty = Costs(0.0, CHANNELS_EXPONENT, {}, spaces)
    out, jobs = pathlib.Path(arguments.out).absolute(), []
    for folder in [pathlib.Path(name).absolute() for name in arguments.folders]:
        os.chdir(folder)
        jobs += counted(finished(folder), empty)
    start = min(one["seconds"] for one in jobs if one["kind"] == "compare")
    found = coefficients(jobs, start)
    for one in jobs:
        if one["work"] > 0:
            expected = found[one["kind"]] * one["work"] + start * (one["clock"] == "wall")
            one["seconds_over_forecast"] = round(one["seconds"] / expected, 3)
    figures = {
        "start": start,
        "channels_exponent": CHANNELS_EXPONENT,
        "coefficients": found,
        "spaces": spaces,
        "unit": "seconds of one core per unit of work (docs/scale.md)",
        "jobs": [one for one in jobs if one["work"] > 0],
    }
    out.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
