"""Checkpoints of long work: atomic, tied to what they belong to, deleted once the work is done."""

import contextlib
import os
import pathlib
from typing import Any

from pipeline.core.artifacts import PathLike, digest, remove_abandoned, writing
from pipeline.core.progress import say


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
        """The last saved state (tensors on the CPU), or None when there is none of this key that can be read."""
        import torch

        if not self.path.exists():
            return None
        try:
            saved = torch.load(self.path, map_location="cpu", weights_only=True)
        # torch's restricted reader runs no code of the file, and fails on damaged ones in any way
        except Exception as error:
            say(f"{self.path} cannot be read ({type(error).__name__}); starting afresh")
            return None
        if not isinstance(saved, dict) or saved.get("key") != self.key or "state" not in saved:
            say(f"{self.path} belongs to other parameters or data; starting afresh")
            return None
        return saved["state"]

    def save(self, state: Any) -> None:
        """Replace the saved state; `state` holds only tensors, numbers, text, None, lists, tuples and dicts."""
        import torch

        with writing(self.path, "wb") as file:
            torch.save({"key": self.key, "state": state}, file)

    def clear(self) -> None:
        if self.path.parent.is_dir():
            remove_abandoned(self.path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
