"""Keep Snakemake (time stamps) and DVC (content hashes) in step.

`refresh` gives a new time stamp to outputs that dvc.lock vouches for but that look older than their inputs, as after a
clone and pull, a checkout or a revert. `commit` records in dvc.lock what Snakemake has just made.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

from pipeline.core.errors import ArtifactError, ConfigError
from pipeline.core.progress import say
from pipeline.core.wording import n_of
from pipeline.core.yaml_text import FAST, parse_yaml

LOCK = pathlib.Path("dvc.lock")
FREEZE = "freeze"


def recorded_stages(lock: pathlib.Path = LOCK) -> dict[str, dict]:
    """The stages of dvc.lock by name; none where there is no lock file yet. Raises ArtifactError when it is damaged."""
    if not lock.exists():
        return {}
    try:
        recorded = parse_yaml(lock.read_bytes(), "it", FAST) or {}
    except ConfigError as error:
        raise _damaged(lock, str(error)) from None
    stages = recorded.get("stages", {}) if isinstance(recorded, dict) else None
    if not isinstance(stages, dict) or not all(isinstance(stage, dict) for stage in stages.values()):
        raise _damaged(lock, "it has no section `stages` with a section for each")
    return stages


def _damaged(lock: pathlib.Path, why: str) -> ArtifactError:
    return ArtifactError(
        f"{lock}, in which DVC keeps what every file was, cannot be read: {why}. Where git left the mark of a conflict "
        f"in it, settle that; otherwise take it back with `git checkout {lock}`, or delete it and run `dvc commit`."
    )


def upstream_first(stages: dict[str, dict]) -> Iterator[str]:
    """Names of recorded stages, each after the stages that make its inputs."""
    producer = {out["path"]: name for name, stage in stages.items() for out in stage.get("outs", [])}
    seen: set[str] = set()

    def visit(name: str) -> Iterator[str]:
        if name in seen:
            return
        seen.add(name)
        for dep in stages[name].get("deps", []):
            if dep["path"] in producer:
                yield from visit(producer[dep["path"]])
        yield name

    for name in stages:
        yield from visit(name)


class Contents:
    """Whether files and folders are byte for byte what dvc.lock recorded; each file is read once at most."""

    def __init__(self):
        self._md5: dict[str, str] = {}

    def _file(self, path: str) -> str:
        if path not in self._md5:
            with open(path, "rb") as file:
                self._md5[path] = hashlib.file_digest(file, "md5").hexdigest()
        return self._md5[path]

    def _folder(self, path: str) -> str:
        """DVC's digest of a folder: the MD5 of the JSON list of its files and their MD5s."""
        listing = [{"md5": self._file(file), "relpath": os.path.relpath(file, path)} for file in files_of(path)]
        listing.sort(key=lambda entry: entry["relpath"])
        return hashlib.md5(json.dumps(listing, sort_keys=True).encode()).hexdigest() + ".dir"

    def matches(self, entry: dict[str, Any]) -> bool:
        path = entry["path"]
        if os.path.isdir(path):
            return self._folder(path) == entry.get("md5")
        if not os.path.isfile(path) or os.path.getsize(path) != entry.get("size", os.path.getsize(path)):
            return False
        return self._file(path) == entry.get("md5")


def files_of(path: str) -> list[str]:
    """The file itself, or all files below a folder."""
    if not os.path.isdir(path):
        return [path]
    return [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]


def refresh() -> list[str]:
    """Touch outputs that are what dvc.lock recorded for their present inputs yet look outdated; returns the stages."""
    stages, contents, refreshed = recorded_stages(), Contents(), []
    for name in upstream_first(stages):
        outs = stages[name].get("outs", [])
        deps = [dep for dep in stages[name].get("deps", []) if os.path.exists(dep["path"])]
        if name == FREEZE or not outs or not all(os.path.isfile(out["path"]) for out in outs):
            continue
        inputs = [file for dep in deps for file in files_of(dep["path"])]
        newest = max((os.stat(file).st_mtime_ns for file in inputs), default=0)
        if newest <= min(os.stat(out["path"]).st_mtime_ns for out in outs):
            continue
        if all(map(contents.matches, deps)) and all(map(contents.matches, outs)):
            for out in outs:
                os.utime(out["path"])
            refreshed.append(name)
    return refreshed


def unrecorded(jobs: Iterable[Iterable[str]], stages: dict[str, dict]) -> set[str]:
    """Files of those jobs of which dvc.lock does not know every file in its present size."""
    sizes = {out["path"]: out.get("size") for stage in stages.values() for out in stage.get("outs", [])}

    def is_known(file: str) -> bool:
        return file in sizes and os.path.isfile(file) and os.path.getsize(file) == sizes[file]

    return {file for files in jobs if not all(map(is_known, files)) for file in files}


def commit(files: Iterable[str], locked: bool = False) -> list[str]:
    """Record in dvc.lock the stages all of whose outputs are among `files`; returns their names.

    A stage one of whose inputs is newer than its outputs is left out: something was edited while it ran. Nothing is
    done inside a DVC stage or where DVC is not set up.

    Args:
        locked: whether the caller holds DVC's lock meanwhile, as `folder.claim` does.
    """
    if os.environ.get("DVC_STAGE") or not pathlib.Path(".dvc").is_dir():
        return []
    from dvc.lock import LockNoop
    from dvc.repo import Repo

    from pipeline.stages.freeze import is_current

    made, names = {os.path.normpath(file) for file in files}, []
    with Repo() as repo:
        root = pathlib.Path(repo.root_dir)
        # the lock by links is never held by the caller
        if locked and not repo.config["core"].get("hardlink_lock"):
            repo.lock = LockNoop()

        def relative(item) -> str:
            return str(pathlib.Path(item.fs_path).relative_to(root))

        for stage in repo.index.stages:
            outs = [relative(out) for out in stage.outs]
            if stage.addressing == FREEZE:
                if is_current() and repo.status([stage.addressing]):
                    names.append(stage.addressing)
                continue
            if not outs or not made.issuperset(outs) or not all(map(os.path.exists, outs)):
                continue
            oldest = min(map(os.path.getmtime, outs))
            inputs = [file for dep in stage.deps if os.path.exists(dep.fs_path) for file in files_of(dep.fs_path)]
            if any(os.path.getmtime(file) > oldest for file in inputs):
                say(f"DVC: {stage.addressing} is not recorded, an input changed meanwhile")
            elif repo.status([stage.addressing]):
                names.append(stage.addressing)
        for name in names:
            repo.commit(name, force=True)
    if names:
        say(f"DVC: recorded {n_of(len(names), 'stage')}")
    return names


def add_arguments(parser) -> None:
    parser.add_argument("action", choices=("refresh", "commit"), help="what to do")
    parser.add_argument("--locked", action="store_true", help="the caller holds DVC's lock (for commit)")
    parser.add_argument("--files", metavar="FILE", help="JSON: the files of each job `made` and `kept` (for commit)")


def run(arguments) -> None:
    if arguments.action == "refresh":
        say(f"new time stamps: {', '.join(refresh()) or 'none needed'}")
    else:
        jobs = json.loads(pathlib.Path(arguments.files).read_text(encoding="utf-8"))
        made = {file for files in jobs["made"] for file in files}
        commit(made | unrecorded(jobs["kept"], recorded_stages()), arguments.locked)
