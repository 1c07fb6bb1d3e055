"""Leaving when told to: SIGTERM lets the step at hand end and its state be saved, then the process goes.

Schedulers send SIGTERM some time before they kill (SLURM 30 seconds by default). A step that ends within
GRACE_SECONDS is kept; a longer one is broken off, so that the process is gone in time, and is done again by the next
run.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

GRACE_SECONDS = 10.0
EXIT_CODE = 128 + signal.SIGTERM

_asked = False


class Stopped(BaseException):
    """The process was told to leave. Not an Exception: nothing on its way may take it for a failure of its own."""


def asked() -> bool:
    """Whether SIGTERM has come: then a state that can be saved must be saved now."""
    return _asked


def leave_if_asked() -> None:
    """A moment at which nothing is half-done: raises Stopped if SIGTERM has come."""
    if _asked:
        raise Stopped


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Answer SIGTERM inside the block, which must be in the main thread; elsewhere nothing is changed.

    The first signal is noted, and Stopped is raised at the next `leave_if_asked`, or GRACE_SECONDS later wherever the
    process is, or at a second signal.
    """
    global _asked
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {which: signal.signal(which, _answer) for which in (signal.SIGTERM, signal.SIGALRM)}
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for which, handler in before.items():
            signal.signal(which, handler)
        _asked = False


def _answer(which: int, frame) -> None:
    global _asked
    if _asked:
        raise Stopped
    _asked = True
    signal.setitimer(signal.ITIMER_REAL, GRACE_SECONDS)
    with contextlib.suppress(OSError):
        # not print: it may have been in the midst of a line
        os.write(2, f"told to stop; the step at hand has {GRACE_SECONDS:.0f} seconds\n".encode())
