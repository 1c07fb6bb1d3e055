"""The project's folder: one tool at work in it at a time, and room to write."""

import errno
import fcntl
import os
import pathlib
from typing import IO

from pipeline.core.artifacts import explained_write_errors
from pipeline.core.errors import ArtifactError

CLAIMS = pathlib.Path("build/claims")
SNAKEMAKE, DVC = "snakemake", "dvc repro"
WRITTEN = ("data", "database", "search", "models", "proxies", "results", "logs", "build")
"""Folders that jobs write to."""


def claim(tool: str) -> IO:
    """Say that a tool is at work here until the file that is returned is closed, or this process ends in any way.

    Several of the same tool are left to the tool's own locks. Where the file system knows no locks nothing is refused.

    Raises ArtifactError while the other tool is at work.
    """
    own = CLAIMS / tool.replace(" ", "_")
    with explained_write_errors(own):
        CLAIMS.mkdir(parents=True, exist_ok=True)
        handle = open(own, "a")  # noqa: SIM115
        _lock(handle, fcntl.LOCK_SH)
        for other in {SNAKEMAKE, DVC} - {tool}:
            with open(CLAIMS / other.replace(" ", "_"), "a") as file:
                if not _lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB):
                    handle.close()
                    raise ArtifactError(
                        f"{other} is at work in this folder, and {tool} would change files under its hands. Wait until "
                        "it has ended and run the same command again."
                    )
    return handle


def _lock(file: IO, how: int) -> bool:
    """False where another process holds the file."""
    try:
        fcntl.flock(file, how)
    except OSError as error:
        if error.errno == errno.EWOULDBLOCK:
            return False
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
    return True


def require_writable() -> None:
    """Raises ArtifactError naming the folders of the project that exist and cannot be written to."""
    closed = [name for name in (os.curdir, *WRITTEN) if os.path.isdir(name) and not os.access(name, os.W_OK | os.X_OK)]
    if closed:
        names = ", ".join("the project's folder" if name == os.curdir else f"{name}/" for name in closed)
        raise ArtifactError(
            f"No permission to write to {names}, or the file system is read-only. Nothing was started: make it "
            "writable, or run from a project folder that is yours."
        )
