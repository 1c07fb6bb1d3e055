"""Progress of long work, with an estimate of the time left: a bar on a terminal, now and then a line in a log."""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from pipeline.core.stopping import leave_if_asked

T = TypeVar("T")
LOG_INTERVAL_SECONDS = 15.0


def say(message: str) -> None:
    """One line for the log; where nobody reads it any more, e.g. since `tee` was told to stop too, it is lost."""
    try:
        print(message, file=sys.stderr, flush=True)
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stderr.fileno())
        os.close(nowhere)


def spoken(seconds: float) -> str:
    """A duration as people say it: 12 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def track(items: Iterable[T], what: str, total: int | None = None, done: int = 0) -> Iterator[T]:
    """Yield `items` while showing how many are done and how long the rest will take.

    Args:
        what: what is being worked through, e.g. "round 2".
        total: number of all items, those of `done` included; where it is not given, `items` must have a length.
        done: items finished by an earlier, interrupted run.

    Raises Stopped after the item at whose work the process was told to stop.
    """
    for item in _shown(items, what, total, done):
        yield item
        leave_if_asked()


def _shown(items: Iterable[T], what: str, total: int | None, done: int) -> Iterator[T]:
    if total is None:
        total = done + len(items)  # type: ignore[arg-type]
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, desc=what, total=total, initial=done, file=sys.stderr, leave=False)
        return
    start = last = time.monotonic()
    for count, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= LOG_INTERVAL_SECONDS:
            last = now
            left = (now - start) / count * (total - done - count)
            say(f"{what}: {done + count} of {total}, {spoken(now - start)} so far, about {spoken(left)} left")
