"""How far two runs of the same stage agree: bitwise, or up to what relative difference.

Every stage is run on the same small inputs twice with one thread, and once with two threads (for stages that use
several processes: two of those). The files are compared without the times in them.
"""

import argparse
import pathlib
import tempfile
from collections.abc import Sequence

import numpy as np

from pipeline.core import provenance
from pipeline.core.artifacts import write_text
from tests.faults.server import Server
from tests.faults.small_jobs import OTHER_PARAMS, OTHER_TARGETS, SET, TIMED, Job, Jobs, numbers, steady

COMMAND = "python -m tests.faults.determinism --mirror FOLDER --out docs/determinism.md"
PAGE = """# Which results repeat to the bit

Written by `{command}`; do not edit.

Each stage was run on the same inputs (the default images, or CIFAR-10 and the table of NAS-Bench-201 from a mirror; a
small configuration) on the processor, twice with one thread and then with two (`compute.threads`; searches and
databases use two processes). "Bitwise": the file is the same byte for byte, but for what tells times or the machine:
`cost.json`, the columns `seconds` of tables, and the entries `cost`, `provenance`, `..._cost` and `..._seconds` of
records, which are left out; so are the pages, which repeat them. Otherwise the number is the largest
difference of two numbers at one place, relative to the largest number of that tensor, column or entry.

| stage | file | same threads, again | one thread against two |
|---|---|---|---|
{rows}

On {processor}, torch {torch}, Python {python}. What depends on the number of threads does so because sums over
a batch are then made in another order. A training carries such a difference on from step to step: its weights are then
others altogether, and as good; "other text" are digests of such weights. Where it matters, repeat a run with the same
`compute.threads`. On an
accelerator no stage promises to repeat to the bit, and its artifacts say `reproducible: false`. That a stage which was
killed and resumed ends with the same bytes is tested by `make hardening` (`tests/faults`).
"""


def largest_difference(first: pathlib.Path, second: pathlib.Path) -> float | None:
    """Over all numbers of two files of one form; None where the forms differ."""
    a, b = numbers(first), numbers(second)
    if a.keys() != b.keys() or any(a[name].shape != b[name].shape for name in a):
        return None
    found = 0.0
    for name, one in a.items():
        if one.size:
            scale = max(float(np.nanmax(np.abs(one), initial=0.0)), 1e-12)
            found = max(found, float(np.nanmax(np.abs(one - b[name]), initial=0.0)) / scale)
    return found


def compared(first: pathlib.Path, second: pathlib.Path) -> str:
    if steady(first) == steady(second):
        return "bitwise"
    difference = largest_difference(first, second)
    return "other results" if difference is None else f"{difference:.1e}" if difference else "other text"


RUNS = (("first", 1), ("again", 1), ("two", 2))
"""What the three runs of a stage are called, and their threads."""


def measure(folder: pathlib.Path, projects: Sequence[Jobs]) -> list[tuple[str, str, str, str]]:
    """(stage, file, word on a second run, word on two threads) of every artifact; of a stage in two projects, once."""
    rows, seen = [], set()
    with Server() as server:
        for project in projects:
            for name, job in project.jobs.items():
                if name in seen:
                    project.use_threads(1)
                    server.finish(project.folder, job.argv)
                    continue
                seen.add(name)
                found = compared_runs(folder, project, job, server)
                rows += [(name.replace(f"_{SET}", ""), path.name, *words) for path, words in found.items()]
    return rows


def compared_runs(folder: pathlib.Path, project: Jobs, job: Job, server: Server) -> dict[pathlib.Path, list[str]]:
    """Each file of a job, with the words on its second run and on that with two threads; the first one's are kept."""
    kept = {}
    for run, threads in RUNS:
        project.use_threads(threads)
        server.finish(project.folder, job.argv)
        kept[run] = project.bytes_of(job)
        for path, content in kept[run].items():
            copy = folder / run / path
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(content)
    project.restore(kept["first"])
    found = {
        path: [compared(folder / "first" / path, folder / run / path) for run in ("again", "two")]
        for path in job.outputs
        if path.name not in TIMED
    }
    for path, words in found.items():
        print(job.name, path, *words, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True, help="the page to write")
    parser.add_argument("--mirror", required=True, help="folder that holds CIFAR-10 and the table of NAS-Bench-201")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        second = Jobs(folder / "b/project", OTHER_PARAMS, OTHER_TARGETS, str(pathlib.Path(arguments.mirror).resolve()))
        rows = measure(folder, [Jobs(folder / "a/project"), second])
    versions = provenance.versions()
    page = PAGE.format(
        command=COMMAND,
        rows="\n".join(f"| {' | '.join(row)} |" for row in rows),
        processor=provenance.processor(),
        torch=versions["torch"],
        python=versions["python"],
    )
    write_text(arguments.out, page)


if __name__ == "__main__":
    main()
