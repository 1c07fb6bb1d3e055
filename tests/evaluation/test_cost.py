import time

import numpy as np
import pytest
import torch

from pipeline.evaluation.cost import Meter

CPU = torch.device("cpu")


def test_sleeping_takes_wall_seconds_but_no_processor_seconds():
    meter = Meter(CPU)
    time.sleep(0.2)
    cost = meter.so_far()
    assert 0.2 <= cost["wall_seconds"] < 0.6
    assert cost["device_seconds"] < 0.1
    assert "peak_device_memory_mib" not in cost


def test_the_peak_of_host_memory_counts_what_was_freed_since_the_start_but_not_what_was_freed_before():
    before = Meter(CPU).so_far()["peak_memory_mib"]
    meter = Meter(CPU)
    block = np.ones(2**24)
    del block
    peak = meter.so_far()["peak_memory_mib"]
    assert peak > before + 100
    assert Meter(CPU).so_far()["peak_memory_mib"] < peak - 100


def test_seconds_of_an_interrupted_run_are_added_and_peaks_are_not():
    earlier = {"wall_seconds": 100.0, "device_seconds": 50.0, "peak_memory_mib": 1e9}
    cost = Meter(CPU, earlier).so_far()
    assert 100 <= cost["wall_seconds"] < 101
    assert 50 <= cost["device_seconds"] < 51
    assert cost["peak_memory_mib"] == 1e9


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_device_memory_and_seconds_are_measured_on_the_accelerator():
    meter = Meter(torch.device("cuda"))
    block = torch.ones(2**24, device="cuda")
    del block
    cost = meter.so_far()
    assert cost["peak_device_memory_mib"] >= 64
    assert cost["device_seconds"] == cost["wall_seconds"]
