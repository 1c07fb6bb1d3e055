"""The project's folder: one tool at work in it at a time, and room to write."""

import contextlib
import errno
import fcntl
import os
import pathlib
import re
import time
from typing import IO

from pipeline.core.artifacts import NO_LOCKS, explained_write_errors
from pipeline.core.errors import ArtifactError

CLAIMS = pathlib.Path("build/claims")
SNAKEMAKE, DVC = "snakemake", "dvc repro"
DVC_FOLDER = pathlib.Path(".dvc")
DVC_LOCK = DVC_FOLDER / "tmp/lock"
"""What DVC's commands hold, unless its `core.hardlink_lock` is set; `dvc repro` lets it go while a stage computes."""
WRITTEN = ("data", "database", "search", "models", "proxies", "results", "logs", "build")
"""Folders that jobs write to."""
PATIENCE_SECONDS = 3.0
"""How long a lock is waited for; who only plans, or asks DVC for something, holds it for a moment."""


def claim(tool: str) -> contextlib.ExitStack:
    """Say that a tool is at work here until what is returned is closed, or this process ends in any way.

    One Snakemake works here at a time, and holds DVC's own lock, too: DVC deletes what a stage wrote before the stage
    can look at any claim. Several stages of DVC are left to DVC's locks. Where the file system knows no locks nothing
    is refused.

    Raises ArtifactError while another one is at work.
    """
    with explained_write_errors(_place(tool)), contextlib.ExitStack() as held:
        CLAIMS.mkdir(parents=True, exist_ok=True)
        own = held.enter_context(open(_place(tool), "a"))
        is_free = _lock(own, fcntl.LOCK_EX if tool == SNAKEMAKE else fcntl.LOCK_SH)
        for other in {SNAKEMAKE, DVC} - {tool}:
            with open(_place(other), "a") as file:
                if not _lock(file, fcntl.LOCK_EX):
                    raise _at_work(other)
        if not is_free:
            raise _at_work(tool)
        if tool == SNAKEMAKE and DVC_FOLDER.is_dir() and not _has_hardlink_lock():
            with explained_write_errors(DVC_LOCK):
                DVC_LOCK.parent.mkdir(exist_ok=True)
                if not _lock(held.enter_context(open(DVC_LOCK, "a")), fcntl.LOCK_EX):
                    raise _at_work("dvc")
        return held.pop_all()


def _place(tool: str) -> pathlib.Path:
    return CLAIMS / tool.replace(" ", "_")


def _at_work(tool: str) -> ArtifactError:
    return ArtifactError(
        f"{tool} is at work in this folder, and this command would change files under its hands. Wait until it has "
        "ended and run the same command again."
    )


def _has_hardlink_lock() -> bool:
    """Whether DVC is told to lock by links instead, which a file of that name would keep from ever locking."""
    configs = [path for path in (DVC_FOLDER / "config", DVC_FOLDER / "config.local") if path.is_file()]
    pattern = re.compile(r"^\s*hardlink_lock\s*=\s*true\b", re.IGNORECASE | re.MULTILINE)
    return any(pattern.search(path.read_text(encoding="utf-8")) for path in configs)


def _lock(file: IO, how: int) -> bool:
    """False where another process holds the file for longer than a moment."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(file, how | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno in NO_LOCKS:
                return True
            if error.errno != errno.EWOULDBLOCK:
                raise
        if time.monotonic() >= until:
            return False
        time.sleep(0.05)


def require_writable() -> None:
    """Raises ArtifactError naming the folders of the project that exist and cannot be written to."""
    closed = [name for name in (os.curdir, *WRITTEN) if os.path.isdir(name) and not os.access(name, os.W_OK | os.X_OK)]
    if closed:
        names = ", ".join("the project's folder" if name == os.curdir else f"{name}/" for name in closed)
        raise ArtifactError(
            f"No permission to write to {names}, or the file system is read-only. Nothing was started: make it "
            "writable, or run from a project folder that is yours."
        )
