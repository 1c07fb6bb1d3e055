"""Files that are whole or absent: written beside their place, flushed to disk, then renamed into it."""

import contextlib
import csv
import errno
import fcntl
import hashlib
import io
import json
import math
import os
import pathlib
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any

import numpy as np

from pipeline.core.errors import ArtifactError, DiskFullError
from pipeline.core.progress import say

PathLike = str | os.PathLike
# the name of a file that is being written, with the name that it will have
TEMPORARY = re.compile(r"\.(.+)\.[a-z0-9_]{8}", re.DOTALL)
# what the system answers where a file system knows no locks, as on some clusters
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
# files written at once; each waits for the disk most of the time
N_WRITERS = 8


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


def remove_abandoned(*paths: PathLike) -> None:
    """Delete what killed writers of `paths` left beside them; a file that a living writer holds stays.

    Each folder is listed once, however many of its files are named.
    """
    names: dict[str, set[str]] = {}
    for folder, name in (os.path.split(path) for path in paths):
        names.setdefault(folder, set()).add(name)
    for folder, ours in names.items():
        for candidate in os.listdir(folder or "."):
            temporary = TEMPORARY.fullmatch(candidate)
            if temporary is None or temporary[1] not in ours:
                continue
            candidate = os.path.join(folder, candidate)
            with contextlib.suppress(FileNotFoundError), open(candidate, "rb") as file:
                if _locked(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB):
                    os.unlink(candidate)


@contextlib.contextmanager
def alone(path: PathLike) -> Iterator[None]:
    """Hold a lock file, which is there only meanwhile; another process that names it waits until the block has ended.

    Where the file system knows no locks nothing is waited for.
    """
    path = pathlib.Path(path)
    while True:
        with explained_write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process, which holds {path}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        if _is_at(handle, path):
            break
        # its last holder took it away before it was locked here
        os.close(handle)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def _locked(handle: int, how: int) -> bool:
    """Whether a file could be locked; never where the file system knows no locks, as on some clusters."""
    try:
        fcntl.flock(handle, how)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, *NO_LOCKS):
            raise
        return False
    return True


@contextlib.contextmanager
def _temporary(path: pathlib.Path) -> Iterator[tuple[int, str]]:
    """A new locked file beside `path`, as descriptor and name; it is gone afterwards unless it was renamed."""
    while True:
        temporary = f"{path.parent}/.{path.name}.{secrets.token_hex(4)}"
        try:
            # unlike the standard library's temporary files, open to whom the user's umask lets in
            handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            continue
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
        remove_abandoned(path)
        with _replacing(path, mode) as file:
            yield file


@contextlib.contextmanager
def _replacing(path: pathlib.Path, mode: str = "w") -> Iterator[IO]:
    """A file that takes the place of `path`, whose folder exists, when the block ends well."""
    with _temporary(path) as (handle, temporary):
        text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
        with os.fdopen(handle, mode, closefd=False, **text) as file:
            yield file
            file.flush()
            os.fsync(handle)
        os.replace(temporary, path)


def write_text(path: PathLike, text: str) -> None:
    with writing(path) as file:
        file.write(text)


def write_texts(texts: Mapping[PathLike, str]) -> None:
    """Many small files, path -> text, as `write_text` writes each; their waits for the disk overlap.

    Raises DiskFullError or ArtifactError as `writing` does; each file is whole, the old one or the new one.
    """
    if not texts:
        return
    for folder in {os.path.dirname(path) for path in texts}:
        with explained_write_errors(folder):
            os.makedirs(folder or ".", exist_ok=True)
    remove_abandoned(*texts)

    def write(path: PathLike) -> None:
        with explained_write_errors(path), _replacing(pathlib.Path(path)) as file:
            file.write(texts[path])

    with ThreadPoolExecutor(N_WRITERS) as writers:
        list(writers.map(write, texts))


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
    """Parsed JSON file. Raises ArtifactError when it is missing or damaged, or holds what `to_json` never writes."""
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8")
        return json.loads(text, parse_constant=_no_number, parse_float=_finite)
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing. Run the stage that makes it (see `snakemake -n {path}`).") from None
    except IsADirectoryError:
        raise ArtifactError(f"{path} is a folder. Name a JSON file.") from None
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is damaged ({error}). Delete it and run the stage that makes it again.") from None


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is beyond all numbers")
    return number


def read_csv(path: PathLike, **options):
    """A CSV file as a pandas DataFrame. Raises ArtifactError when it is missing or damaged."""
    import pandas

    try:
        return pandas.read_csv(path, **options)
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing. Run the stage that makes it (see `snakemake -n {path}`).") from None
    except (ValueError, TypeError, LookupError, OverflowError, MemoryError) as error:
        raise ArtifactError(f"{path} is damaged ({error}). Delete it and run the stage that makes it again.") from None


def open_array(path: PathLike) -> np.memmap:
    """A .npy file's array, memory-mapped and read-only. Raises ValueError when it is damaged or no such file.

    Never an .npz archive or a pickle, which `numpy.load` also takes.
    """
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise
    # the header is the text of a Python value, and fails as text of any kind does
    except Exception as error:
        raise ValueError(str(error)) from None


def csv_rows(text: str, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of CSV text by column. Raises ValueError unless it has just these columns, and every row all of them."""
    try:
        first, *rows = list(csv.reader(io.StringIO(text, newline=""), strict=True)) or [[]]
    except csv.Error as error:
        raise ValueError(str(error)) from None
    if tuple(first) != tuple(columns):
        raise ValueError(f"its columns are {', '.join(first) or 'none'} instead of {', '.join(columns)}")
    for line, row in enumerate(rows, start=2):
        if len(row) != len(columns):
            raise ValueError(f"row {line} is cut or has too many fields: {len(row)} of {len(columns)}")
    return [dict(zip(columns, row, strict=True)) for row in rows]


@contextlib.contextmanager
def writing_array(path: PathLike, shape: tuple[int, ...], dtype: Any) -> Iterator[np.memmap]:
    """A memory-mapped .npy array to fill, which appears at `path` only when the block ends well.

    The space is taken on the disk beforehand, so that a full disk is an error here and not a crash later.
    """
    path = pathlib.Path(path)
    with explained_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _require_room(path, _n_bytes(shape, dtype))
        remove_abandoned(path)
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
        handle = os.open(partial, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _locked(handle, fcntl.LOCK_EX | fcntl.LOCK_NB) or not _is_at(handle, partial):
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


def _is_at(handle: int, path: pathlib.Path) -> bool:
    """Whether an open file still has this name; whoever finished it first has given it another."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


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
        array = open_array(path)
    except ValueError:
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
