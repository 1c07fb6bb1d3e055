"""Many small evaluations on several processor cores, with results that do not depend on how many.

Every evaluation runs on one thread, in this process or in a forked one, so its arithmetic is the same for any number
of workers. Forked processes die with the process that made them, however that one ends.
"""

import concurrent.futures
import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from pipeline.core.errors import DeviceError

Item = TypeVar("Item")
Result = TypeVar("Result")
PR_SET_PDEATHSIG = 1

_function: Callable[[Any], Any] | None = None


def _die_with(parent: int) -> None:
    """Ask the kernel to kill this process when its parent ends, also by SIGKILL; without effect outside Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # the parent ended before the request


def serve(parent: int) -> None:
    """What a worker process does first: it lives as long as its parent, who answers Ctrl-C and SIGTERM for both."""
    _die_with(parent)
    for which in (signal.SIGINT, signal.SIGTERM):
        signal.signal(which, signal.SIG_IGN)


def kill_children() -> None:
    """End the worker processes of this process at once."""
    for child in multiprocessing.active_children():
        child.kill()


def _start(function: Callable[[Any], Any], parent: int) -> None:
    import torch

    global _function
    serve(parent)
    torch.set_num_threads(1)
    _function = function


def _call(item: Any) -> Any:
    return _function(item)


class Workers:
    """A context in which `function` is applied to items, each on one thread.

    Args:
        function: called as function(item); what it holds is inherited by the forks, not copied or pickled. Items and
            results are pickled.
        n_workers: forked processes; with 1, or where processes cannot be forked, all is done in this process.
    """

    def __init__(self, function: Callable[[Item], Result], n_workers: int):
        self.function = function
        self.n_workers = n_workers if "fork" in multiprocessing.get_all_start_methods() else 1
        self._pool: concurrent.futures.ProcessPoolExecutor | None = None

    def __enter__(self) -> "Workers":
        import torch

        self._threads = torch.get_num_threads()
        torch.set_num_threads(1)
        if self.n_workers > 1:
            self._pool = concurrent.futures.ProcessPoolExecutor(
                self.n_workers,
                mp_context=multiprocessing.get_context("fork"),
                initializer=_start,
                initargs=(self.function, os.getpid()),
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, *_) -> None:
        import torch

        if self._pool is not None:
            if kind is not None:
                kill_children()  # what they are at is wanted no more
            self._pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(self._threads)

    def map(self, items: Iterable[Item]) -> Iterator[tuple[Item, Result]]:
        """(item, result) of all items, as they are finished.

        Raises what the function raises, and DeviceError when the operating system killed a worker.
        """
        if self._pool is None:
            for item in items:
                yield item, self.function(item)
            return
        try:
            futures = {self._pool.submit(_call, item): item for item in items}
            for future in concurrent.futures.as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool:
            raise DeviceError(
                "A worker process was killed, most likely because the memory ran out. Finished evaluations are kept: "
                "set compute.threads to fewer (each has its own networks) and run the same command again."
            ) from None
