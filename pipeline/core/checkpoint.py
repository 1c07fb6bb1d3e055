"""Checkpoints of long work: atomic, tied to what they belong to, deleted once the work is done."""

import contextlib
import hashlib
import io
import os
import pathlib
from typing import Any

from pipeline.core.artifacts import PathLike, digest, remove_abandoned, writing
from pipeline.core.progress import say


def _seal(content) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


class Checkpoint:
    """State of one job in one file that is not an output of the workflow, so that no retry deletes it.

    Args:
        path: where the state goes, e.g. build/checkpoints/train_metantk_doublemnist.pt.
        key: JSON-able value naming what the state belongs to (parameters, data digest, ...). A file with another key
            is not ours and is ignored.
    """

    def __init__(self, path: PathLike, key: Any):
        self.path, self.key = pathlib.Path(path), digest(key)

    def load(self) -> Any | None:
        """The last saved state (tensors on the CPU), or None when there is none of this key that is undamaged."""
        import torch

        if not self.path.exists():
            return None
        # torch's own format tells neither a flipped bit nor, always, a lost end
        seal, _, content = self.path.read_bytes().partition(b"\n")
        if seal != _seal(content):
            say(f"{self.path} is damaged: it is not what its own SHA-256 says; starting afresh")
            return None
        saved = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        if saved["key"] != self.key:
            say(f"{self.path} belongs to other parameters or data; starting afresh")
            return None
        return saved["state"]

    def save(self, state: Any) -> None:
        """Replace the saved state; `state` holds only tensors, numbers, text, None, lists, tuples and dicts."""
        import torch

        content = io.BytesIO()
        torch.save({"key": self.key, "state": state}, content)
        with writing(self.path, "wb") as file:
            file.write(_seal(content.getbuffer()) + b"\n")
            file.write(content.getbuffer())

    def clear(self) -> None:
        if self.path.parent.is_dir():
            remove_abandoned(self.path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
