"""Files that are whole or absent: written beside their place, flushed to disk, then renamed into it."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

from pipeline.core.errors import ArtifactError, DiskFullError

PathLike = str | os.PathLike


@contextlib.contextmanager
def explained_write_errors(path: PathLike) -> Iterator[None]:
    """Turn the operating system's refusals while writing `path` into errors that say what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DiskFullError(
                f"The disk, the quota or the limit on file sizes is full while writing {path}. Nothing half-written "
                "was left behind: free some space and run the same command again."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise ArtifactError(
                f"No permission to write {path} ({error.strerror}). Make its folder writable or run from a project "
                "folder that is yours."
            ) from error
        raise


def remove_abandoned(path: PathLike) -> None:
    """Delete what killed writers of `path` left beside it; a file that a living writer holds stays."""
    path = pathlib.Path(path)
    ours = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}")
    for candidate in path.parent.iterdir():
        if ours.fullmatch(candidate.name):
            with contextlib.suppress(FileNotFoundError), open(candidate, "rb") as file:
                if _locked(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB):
                    candidate.unlink()


def _locked(handle: int, how: int) -> bool:
    """Whether a file could be locked; never where the file system knows no locks, as on some clusters."""
    try:
        fcntl.flock(handle, how)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        return False
    return True


@contextlib.contextmanager
def _temporary(path: pathlib.Path) -> Iterator[tuple[int, str]]:
    """A new locked file beside `path`, as descriptor and name; it is gone afterwards unless it was renamed."""
    remove_abandoned(path)
    while True:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        _locked(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            break
        # another writer took it for abandoned before it was locked
        os.close(handle)
    try:
        yield handle, temporary
    finally:
        os.close(handle)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


@contextlib.contextmanager
def writing(path: PathLike, mode: str = "w") -> Iterator[IO]:
    """Open `path` for writing so that it appears only when the block ends well.

    Raises DiskFullError or ArtifactError with the way out; on any error the old file, if any, stays as it was.
    """
    path = pathlib.Path(path)
    with explained_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(path) as (handle, temporary):
            text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
            with os.fdopen(handle, mode, closefd=False, **text) as file:
                yield file
                file.flush()
                os.fsync(handle)
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)


def write_text(path: PathLike, text: str) -> None:
    with writing(path) as file:
        file.write(text)


def to_json(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no NaN or infinity (those raise ValueError)."""
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def write_json(path: PathLike, value: Any) -> None:
    write_text(path, to_json(value))


def write_csv(path: PathLike, frame) -> None:
    """Write a pandas DataFrame, floats with full precision, without its index."""
    with writing(path) as file:
        frame.to_csv(file, index=False, lineterminator="\n")


def read_json(path: PathLike) -> Any:
    """Parsed JSON file. Raises ArtifactError when it is missing or damaged."""
    try:
        return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing. Run the stage that makes it (see `snakemake -n {path}`).") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} is damaged ({error}). Delete it and run the stage that makes it again.") from None


def read_csv(path: PathLike, **options):
    """A CSV file as a pandas DataFrame. Raises ArtifactError when it is missing or damaged."""
    import pandas

    try:
        return pandas.read_csv(path, **options)
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing. Run the stage that makes it (see `snakemake -n {path}`).") from None
    except (pandas.errors.ParserError, pandas.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} is damaged ({error}). Delete it and run the stage that makes it again.") from None


@contextlib.contextmanager
def writing_array(path: PathLike, shape: tuple[int, ...], dtype: Any) -> Iterator[np.memmap]:
    """A memory-mapped .npy array to fill, which appears at `path` only when the block ends well.

    The space is taken on the disk beforehand, so that a full disk is an error here and not a crash later.
    """
    path = pathlib.Path(path)
    with explained_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _require_room(path, _n_bytes(shape, dtype))
        with _temporary(path) as (handle, temporary):
            yield from _filled(handle, temporary, path, shape, dtype, "w+")


@contextlib.contextmanager
def resuming_array(path: PathLike, shape: tuple[int, ...], dtype: Any) -> Iterator[np.memmap]:
    """`writing_array` that goes on: a run that was stopped or killed leaves what it filled to the next one.

    What the array holds at first is whatever was left, or zeros: the caller must check it. An error (an Exception)
    leaves nothing behind. While another process fills the same array, this is `writing_array`.
    """
    path = pathlib.Path(path)
    partial = path.with_name(f".{path.name}.partial")
    with explained_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(partial, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not _locked(handle, fcntl.LOCK_EX | fcntl.LOCK_NB) or not os.fstat(handle).st_nlink:
                with writing_array(path, shape, dtype) as array:
                    yield array
                return
            try:
                goes_on = _is_array(handle, partial, shape, dtype)
                if not goes_on:
                    os.truncate(handle, 0)
                    _require_room(path, _n_bytes(shape, dtype))
                yield from _filled(handle, str(partial), path, shape, dtype, "r+" if goes_on else "w+")
            except Exception:
                partial.unlink(missing_ok=True)
                raise
        finally:
            os.close(handle)


def _n_bytes(shape: tuple[int, ...], dtype: Any) -> int:
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize


def _require_room(path: pathlib.Path, n_bytes: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if free < n_bytes + 2**20:
        raise DiskFullError(
            f"{path} needs {n_bytes / 2**20:.0f} MiB and its disk has {free / 2**20:.0f} MiB free. "
            "Nothing was written: free some space and run the same command again."
        )


def _is_array(handle: int, path: pathlib.Path, shape: tuple[int, ...], dtype: Any) -> bool:
    """Whether an open file is an array of this form, all of it there."""
    try:
        array = np.load(path, mmap_mode="r")
    except (ValueError, OSError, EOFError):
        return False
    fits = array.shape == tuple(shape) and array.dtype == np.dtype(dtype)
    return fits and os.fstat(handle).st_size == array.offset + array.nbytes


def _filled(
    handle: int, temporary: str, path: pathlib.Path, shape: tuple[int, ...], dtype: Any, mode: str
) -> Iterator[np.memmap]:
    array = np.lib.format.open_memmap(temporary, mode=mode, dtype=dtype, shape=shape)
    os.posix_fallocate(handle, 0, os.path.getsize(temporary))
    yield array
    array.flush()
    os.fsync(handle)
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)


@contextlib.contextmanager
def scratch_folder(folder: PathLike, name: str) -> Iterator[pathlib.Path]:
    """A new hidden folder in `folder`, gone afterwards; those that killed owners left under this name go, too."""
    folder = pathlib.Path(folder)
    with explained_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        prefix = f".{name}."
        ours = re.compile(rf"{re.escape(prefix)}[a-z0-9_]{{8}}")
        for candidate in folder.iterdir():
            if ours.fullmatch(candidate.name) and candidate.is_dir():
                with contextlib.suppress(FileNotFoundError), _opened(candidate) as handle:
                    if _locked(handle, fcntl.LOCK_EX | fcntl.LOCK_NB):
                        shutil.rmtree(candidate, ignore_errors=True)
        made = tempfile.TemporaryDirectory(dir=folder, prefix=prefix)
    with made, _opened(made.name) as handle:
        _locked(handle, fcntl.LOCK_EX)
        yield pathlib.Path(made.name)


@contextlib.contextmanager
def _opened(folder: PathLike) -> Iterator[int]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        yield handle
    finally:
        os.close(handle)


def sha256(path: PathLike) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: Any) -> str:
    """Hex SHA-256 of a JSON-able value, whatever the order of its keys."""
    return hashlib.sha256(to_json(value).encode()).hexdigest()
