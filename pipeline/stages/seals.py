"""Digests of what stages wrote, so that no later stage uses a file that was damaged or edited since.

After a stage has ended well, the SHA-256 of every file it wrote goes into build/seals/, beside those of earlier
versions, which DVC may bring back. Before a stage begins, each of its files must have one of its digests, or be what
dvc.lock vouches for. Files that no stage wrote have no digest and are not looked at.
"""

import hashlib
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pipeline.core.artifacts import TEMPORARY, sha256, write_text
from pipeline.core.errors import ArtifactError
from pipeline.stages.track import Contents, recorded_stages

SEALS = pathlib.Path("build/seals")
OWN = pathlib.Path("build")
"""Folder of files that are checked otherwise: frozen parameters, checkpoints, these digests."""
CACHE = pathlib.Path(".dvc/cache/files/md5")
DIGEST = re.compile("[0-9a-f]{64}")

State = Mapping[str, tuple[int, ...]]


def project_files(values: Iterable[Any], in_folders: bool = False) -> Iterator[str]:
    """Relative paths of the project's files among a stage's arguments.

    Args:
        in_folders: whether those in folders among the arguments count, but for what others are just writing there.
    """
    for value in _texts(values):
        path = os.path.relpath(value or os.curdir)
        outside = path.startswith(os.pardir) or pathlib.Path(path).is_relative_to(OWN)
        if outside or path == os.curdir:
            continue
        if os.path.isdir(path):
            files = os.scandir(path) if in_folders else ()
            yield from (file.path for file in files if not TEMPORARY.fullmatch(file.name) and file.is_file())
        elif os.path.isfile(path):
            yield path


def _texts(values: Iterable[Any]) -> Iterator[str]:
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, list | tuple):
            yield from _texts(value)


def state_of(files: Iterable[str]) -> State:
    """What tells whether a file was replaced: inode, time stamp and size."""
    return {path: (seen.st_ino, seen.st_mtime_ns, seen.st_size) for path in files for seen in [os.stat(path)]}


def check(files: Iterable[str]) -> None:
    """Raises ArtifactError naming the first file that is not as it was written."""
    recorded: dict[str, dict] | None = None
    for path in files:
        known = _digests(path)
        if known and sha256(path) in known:
            continue
        if recorded is None:
            recorded = _recorded_outputs()
        entry = recorded.get(path)
        if (entry is None and not known) or (entry is not None and Contents().matches(entry)):
            continue
        raise ArtifactError(
            f"{path} is not what the stage that makes it wrote: its SHA-256 is {sha256(path)}. It was damaged or "
            f"edited, and is not used. Delete it and make it again: `snakemake --cores 4 -- {path}`."
            + _word_on_cache(entry)
        )


def seal(files: Iterable[str], before: State) -> None:
    """Keep the digests of those files that are not as they were before."""
    for path, state in state_of(files).items():
        if before.get(path) == state:
            continue
        try:
            known = _digests(path)
        # what the stage has just written needs no earlier digest
        except ArtifactError:
            known = []
        found = sha256(path)
        if found not in known:
            write_text(_place(path), "".join(f"{one}\n" for one in [*known, found]))


def _place(path: str) -> pathlib.Path:
    return SEALS / f"{path}.sha256"


def _digests(path: str) -> list[str]:
    """Those that are kept of a file. Raises ArtifactError when they cannot be told any more."""
    place = _place(path)
    try:
        found = place.read_text(encoding="utf-8", errors="replace").split()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _lost(path, str(error)) from None
    if not found or not all(DIGEST.fullmatch(one) for one in found):
        raise _lost(path, "it is empty or damaged")
    return found


def _lost(path: str, why: str) -> ArtifactError:
    return ArtifactError(
        f"{_place(path)}, which says what {path} was when it was written, cannot be read ({why}), so {path} is not "
        f"used. Delete both and make the file again: `snakemake --cores 4 -- {path}`."
    )


def _recorded_outputs() -> dict[str, dict]:
    """Entries of dvc.lock by path; none where DVC is not set up."""
    if not pathlib.Path(".dvc").is_dir():
        return {}
    return {out["path"]: out for stage in recorded_stages().values() for out in stage.get("outs", [])}


def _word_on_cache(entry: Mapping[str, Any] | None) -> str:
    """The object of DVC's cache where it is damaged too, so that DVC would bring the damage back."""
    if entry is None or "md5" not in entry:
        return ""
    stored = CACHE / entry["md5"][:2] / entry["md5"][2:]
    if not stored.is_file():
        return ""
    with open(stored, "rb") as file:
        whole = hashlib.file_digest(file, "md5").hexdigest() == entry["md5"]
    restored = f" `dvc checkout {entry['path']}` brings back what DVC recorded."
    return restored if whole else f" DVC's object {stored} is damaged too: delete it as well."
