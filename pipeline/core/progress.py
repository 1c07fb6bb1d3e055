"""Progress of long work, with an estimate of the time left; on standard error, one line a while when not a terminal."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def track(items: Iterable[T], what: str, total: int | None = None, done: int = 0) -> Iterator[T]:
    """Yield `items` while showing how many are done and how long the rest will take.

    Args:
        what: what is being worked through, e.g. "round 2".
        total: number of items, where `items` has no length.
        done: items finished by an earlier, interrupted run.
    """
    from tqdm import tqdm

    on_terminal = sys.stderr.isatty()
    bar = tqdm(items, desc=what, total=total, initial=done, file=sys.stderr, leave=on_terminal)
    bar.mininterval = 0.2 if on_terminal else 15.0
    bar.ncols = None if on_terminal else 80
    yield from bar


def say(message: str) -> None:
    """One line for the log."""
    print(message, file=sys.stderr, flush=True)
