"""Write each job's parameters from params.yaml into a file of its own, only where the content changes.

Both Snakemake and DVC depend on these files and never on params.yaml, so that changing one key reruns exactly the jobs
that use it, under either tool.
"""

import contextlib
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.core.artifacts import read_json, sha256, to_json, write_text, write_texts
from pipeline.core.progress import say
from pipeline.core.wording import n_of
from pipeline.stages.common import FROZEN, MACHINE
from pipeline.stages.folder import SNAKEMAKE, claim
from pipeline.stages.settings import LOOKUPS, PARAMS, ROWS, Freezer, load, machine_settings

MADE = pathlib.Path("build/made.json")


def says(path: pathlib.Path, text: str) -> bool:
    """Whether a file is there and holds just this text."""
    return path.exists() and path.read_text(encoding="utf-8") == text


def freeze(freezer: Freezer, root: pathlib.Path = FROZEN, machine: pathlib.Path = MACHINE) -> list[str]:
    """Freeze a configuration; returns the names of the files that changed.

    Raises ConfigError, before anything is written, when any key or value is not allowed.
    """
    texts, unwanted = changes(freezer, root, machine)
    write_texts(texts)
    changed = [path.name for path in texts if path != machine]
    made = read_json(MADE) if changed and MADE.exists() else {}
    for name in changed:
        restore_age(root / name, made.get(name))
    for path in unwanted:
        path.unlink()
    return [*changed, *(path.name for path in unwanted)]


def changes(
    freezer: Freezer, root: pathlib.Path = FROZEN, machine: pathlib.Path = MACHINE
) -> tuple[dict[pathlib.Path, str], list[pathlib.Path]]:
    """What freezing would change: path -> text of the files to write, and the files to delete. Raises ConfigError."""
    wanted = {root / name: to_json(content) for name, content in freezer.files.items()}
    texts = {machine: to_json(machine_settings(freezer.config)), **wanted}
    unwanted = [path for path in root.glob("*.json") if path not in wanted]
    return {path: text for path, text in texts.items() if not says(path, text)}, unwanted


def remember(jobs: Iterable[tuple[str, Iterable[str]]]) -> None:
    """Note with which parameters the outputs of finished jobs were made, each job as (parameter file, outputs)."""
    made = read_json(MADE) if MADE.exists() else {}
    for params, outputs in jobs:
        made[pathlib.Path(params).name] = {"sha256": sha256(params), "outputs": {path: state(path) for path in outputs}}
    write_text(MADE, to_json(made))


def restore_age(params: pathlib.Path, made: Mapping[str, Any] | None) -> None:
    """Make parameters that came back look older than the outputs made with them, which are then as good as new.

    Only where the outputs are still the files that were made with just these parameters.
    """
    if not made or not params.exists() or sha256(params) != made["sha256"]:
        return
    present = {path: state(path) for path in made["outputs"] if os.path.exists(path)}
    if present == made["outputs"]:
        before = min(mtime for mtime, _ in present.values()) - 1
        os.utime(params, ns=(before, before))


def state(path: str | os.PathLike) -> list[int]:
    """Time stamp in nanoseconds, and size."""
    seen = os.stat(path)
    return [seen.st_mtime_ns, seen.st_size]


def is_current(params: pathlib.Path = PARAMS, root: pathlib.Path = FROZEN) -> bool:
    """Whether the frozen files say what params.yaml says, that is, no command-line override is in force."""
    wanted = ((root / name, to_json(content)) for name, content in Freezer(load(params)).files.items())
    return all(says(path, text) for path, text in wanted)


def add_arguments(parser) -> None:
    parser.add_argument("--params", default=str(PARAMS), metavar="FILE", help="configuration (default: params.yaml)")


def run(arguments) -> None:
    freezer = Freezer(load(arguments.params))
    # a stage of DVC has claimed the folder already
    with contextlib.nullcontext() if os.environ.get("DVC_STAGE") else claim(SNAKEMAKE):
        changed = freeze(freezer)
    listed = ", ".join(changed) if len(changed) < 8 else n_of(len(changed), "file")
    if os.environ.get("DVC_STAGE"):
        # DVC stops at the missing folder of a report without results; the report itself says what is missing
        for folder in (ROWS, LOOKUPS):
            folder.mkdir(parents=True, exist_ok=True)
    say(f"parameters changed: {listed}" if changed else "parameters unchanged")
