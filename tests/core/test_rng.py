"""Named random streams."""

import subprocess
import sys

import numpy as np
import torch

from pipeline.core.rng import numpy_stream, stream_seed, torch_stream


def test_equal_names_give_equal_draws_and_other_names_others():
    def first(*names):
        return torch.randn(4, generator=torch_stream(3, *names)).tolist()

    assert first("search", 0) == first("search", 0)
    assert first("search", 0) != first("search", 1)
    assert first("search", 0) != first("train", 0)


def test_names_are_not_glued_together():
    assert stream_seed(0, "a", "bc") != stream_seed(0, "ab", "c")
    assert stream_seed(1, 1) != stream_seed(11)


def test_a_stream_is_the_same_in_another_process():
    code = "from pipeline.core.rng import stream_seed; print(stream_seed(7, 'episodes', 'novel', 3))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(told) == stream_seed(7, "episodes", "novel", 3)


def test_making_a_stream_leaves_the_global_generators_alone():
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    torch.randn(3, generator=torch_stream(0, "x"))
    numpy_stream(0, "x").random(3)
    assert torch.equal(torch_before, torch.get_rng_state())
    assert np.array_equal(numpy_before, np.random.get_state()[1])
