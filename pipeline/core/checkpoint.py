"""Checkpoints of long work: atomic, checked, tied to what they belong to, deleted once the work is done."""

import contextlib
import hashlib
import os
import pathlib
import pickle
import time
from collections.abc import Callable, Sequence
from typing import IO, Any

from pipeline.core.artifacts import PathLike, digest, remove_abandoned, writing
from pipeline.core.progress import say, track
from pipeline.core.stopping import asked

SAVE_EVERY_SECONDS = 15.0
BLOCK = 2**20
DIGEST_BYTES = hashlib.sha256().digest_size
UNREADABLE = (RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError)


class Checkpoint:
    """State of one job in one file that is not an output of the workflow, so that no retry deletes it.

    The state before the last is kept beside it, in a file that ends in `.previous`: where a power cut or a bad disk
    has torn the last one, the work goes on from there.

    Args:
        path: where the state goes, e.g. build/checkpoints/train_metantk_doublemnist.pt.
        key: JSON-able value naming what the state belongs to (parameters, data digest, ...). A file with another key
            is not ours and is ignored.
    """

    def __init__(self, path: PathLike, key: Any):
        self.path, self.key = pathlib.Path(path), digest(key)
        self.previous = self.path.with_name(f"{self.path.name}.previous")

    def load(self) -> Any | None:
        """The last saved state (tensors on the CPU) that is whole and of this key, or None when there is none."""
        for path in (self.path, self.previous):
            try:
                saved = _read(path)
            except FileNotFoundError:
                continue
            except _TornError as error:
                say(f"{path} is damaged ({error}) and is thrown away")
                # the next state must not push the whole one aside for it
                path.unlink()
                continue
            if saved["key"] == self.key:
                say(f"going on from {'the state before, ' if path == self.previous else ''}{path}")
                return saved["state"]
            say(f"{path} belongs to other parameters or data and is passed over")
        return None

    def save(self, state: Any) -> None:
        """Replace the saved state; `state` holds only tensors, numbers, text, None, lists, tuples and dicts."""
        import torch

        with writing(self.path, "wb") as file:
            hashing = _Hashing(file)
            try:
                torch.save({"key": self.key, "state": state}, hashing)
            except RuntimeError as error:
                # PyTorch hides that the disk refused behind a complaint about its archive
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise
            file.write(hashing.sha256.digest())
            file.flush()
            os.fsync(file.fileno())
            with contextlib.suppress(FileNotFoundError):
                os.replace(self.path, self.previous)

    def clear(self) -> None:
        if self.path.parent.is_dir():
            remove_abandoned(self.path)
        for path in (self.previous, self.path):
            path.unlink(missing_ok=True)


class _TornError(Exception):
    """A file that is not what was saved."""


class _Hashing:
    """A file that is written to, and the digest of what was written."""

    def __init__(self, file: IO[bytes]):
        self.file, self.sha256 = file, hashlib.sha256()

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def _read(path: pathlib.Path) -> dict[str, Any]:
    """What `Checkpoint.save` wrote. Raises FileNotFoundError, and _TornError with the reason."""
    import torch

    with open(path, "rb") as file:
        left, sha256 = os.fstat(file.fileno()).st_size - DIGEST_BYTES, hashlib.sha256()
        while block := file.read(min(max(left, 0), BLOCK)):
            sha256.update(block)
            left -= len(block)
        if file.read() != sha256.digest():
            raise _TornError("its content does not match its digest")
        file.seek(0)
        try:
            # what follows the archive's end is no part of it
            return torch.load(file, map_location="cpu", weights_only=True)
        except UNREADABLE as error:
            raise _TornError(type(error).__name__) from error


class Pace:
    """When a state is due to be saved: now and then, and at once when the process is told to stop.

    Args:
        every: seconds between two times, None for 15; what a killed run did after the last one is done again.
    """

    def __init__(self, every: float | None = None, clock: Callable[[], float] = time.monotonic):
        self.every, self.clock = SAVE_EVERY_SECONDS if every is None else every, clock
        self.restart()

    @property
    def due(self) -> bool:
        return asked() or self.clock() - self._last >= self.every

    def restart(self) -> None:
        """The state has been saved."""
        self._last = self.clock()


class Kept:
    """Results of the pieces of one job, each made by itself: a job that was broken off goes on with the next piece.

    Args:
        checkpoint: where they are kept; None to keep nothing.
    """

    def __init__(self, checkpoint: Checkpoint | None = None):
        self.checkpoint, self._pace = checkpoint, Pace()
        self._results: dict[str, list[Any]] = dict((checkpoint and checkpoint.load()) or {})

    def pieces(self, name: str, items: Sequence[Any], make: Callable[[Any], Any]) -> list[Any]:
        """`make(item)` of every item, in order, those of an earlier run not made again.

        Args:
            name: of this list of pieces, different from all others of the job.
            make: gives what a checkpoint can hold; must not depend on which pieces were made before.
        """
        results = self._results.setdefault(name, [])
        for item in track(items[len(results) :], name, total=len(items), done=len(results)):
            results.append(make(item))
            if self.checkpoint and self._pace.due:
                self.checkpoint.save(self._results)
                self._pace.restart()
        return results

    def clear(self) -> None:
        if self.checkpoint:
            self.checkpoint.clear()
