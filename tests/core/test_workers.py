"""Worker processes give the results of one process, and never outlive it."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch

from pipeline.core.errors import DeviceError, ScoreError
from pipeline.core.workers import Workers

SLEEPERS = """
import time
from pipeline.core.workers import Workers
with Workers(time.sleep, 2) as workers:
    list(workers.map([60, 60]))
"""


def product(size: int) -> float:
    generator = torch.Generator().manual_seed(size)
    a = torch.randn(size, size, generator=generator)
    return float((a @ a.mT).logdet() + torch.linalg.eigvalsh(a + a.mT)[0])


def test_results_do_not_depend_on_the_number_of_workers():
    sizes = list(range(100, 160, 5))
    found = []
    for n_workers in (1, 2, 3):
        with Workers(product, n_workers) as workers:
            found.append(dict(workers.map(sizes)))
    assert found[0] == found[1] == found[2]
    assert list(found[0]) == sizes


def test_threads_of_this_process_are_given_back():
    before = torch.get_num_threads()
    with Workers(product, 1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_an_error_in_a_worker_is_raised_here():
    def fail(item):
        raise ScoreError(f"item {item}")

    with pytest.raises(ScoreError, match="item 3"), Workers(fail, 2) as workers:
        list(workers.map([3]))


def test_a_killed_worker_is_an_error_that_says_what_to_do():
    with (
        pytest.raises(DeviceError, match=r"compute\.threads"),
        Workers(lambda item: os.kill(os.getpid(), 9), 2) as workers,
    ):
        list(workers.map([1, 2]))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's death signal is Linux's")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_workers_die_with_their_parent(how):
    parent = subprocess.Popen([sys.executable, "-c", SLEEPERS])
    try:
        children = []
        deadline = time.monotonic() + 20
        while len(children) < 2 and time.monotonic() < deadline:
            children = psutil.Process(parent.pid).children()
            time.sleep(0.05)
        assert len(children) == 2
        parent.send_signal(how)
        parent.wait(10)
        _, alive = psutil.wait_procs(children, timeout=5)
        assert not alive
    finally:
        parent.kill()
