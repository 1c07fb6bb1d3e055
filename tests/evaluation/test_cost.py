import time

import numpy as np
import pytest
import torch

from pipeline.evaluation.cost import measured

CPU = torch.device("cpu")


def test_wall_and_processor_seconds_are_those_of_the_block():
    with measured(CPU) as cost:
        time.sleep(0.2)
    assert 0.2 <= cost.wall_seconds < 0.4
    assert cost.device_seconds < 0.1
    assert cost.peak_device_memory_mib is None


def test_the_peak_of_host_memory_counts_what_was_freed_inside_but_not_what_was_freed_before():
    with measured(CPU) as nothing:
        pass
    with measured(CPU) as cost:
        block = np.ones(2**24)
        del block
    assert cost.peak_memory_mib > nothing.peak_memory_mib + 100
    with measured(CPU) as after:
        pass
    assert after.peak_memory_mib < cost.peak_memory_mib - 100


def test_a_block_that_fails_is_measured_too():
    with pytest.raises(KeyError), measured(CPU) as cost:
        time.sleep(0.05)
        raise KeyError("gone")
    assert cost.wall_seconds >= 0.05


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_device_memory_and_seconds_are_measured_on_the_accelerator():
    device = torch.device("cuda")
    with measured(device) as cost:
        block = torch.ones(2**24, device=device)
        del block
    assert cost.peak_device_memory_mib >= 64
    assert cost.device_seconds == cost.wall_seconds
