"""Choosing a device."""

import pytest
import torch

from pipeline.core.device import choose_device, may_be_accelerated, n_cores, use_threads
from pipeline.core.errors import DeviceError


def test_auto_takes_what_is_there():
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu").type == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_cuda_asked_for_and_absent_is_told_with_the_way_out():
    with pytest.raises(DeviceError, match="PyTorch sees 0 CUDA device.*Set compute.device to auto or cpu"):
        choose_device("cuda")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "", "cpu2", "cuda:²", "cuda:" + "9" * 5000, "auto:1"])
def test_an_unknown_device_is_told_with_the_known_ones(name):
    with pytest.raises(DeviceError, match="Allowed: auto, cpu, cuda"):
        choose_device(name)


def test_no_threads_means_all_cores():
    before = torch.get_num_threads()
    try:
        assert use_threads(0) == n_cores()
        assert use_threads(1) == 1
    finally:
        torch.set_num_threads(before)


def test_a_named_accelerator_is_believed_and_the_processor_is_none():
    assert may_be_accelerated("cuda:1") and not may_be_accelerated("cpu")


def test_auto_may_be_an_accelerator_where_torch_finds_one():
    assert may_be_accelerated() or choose_device("auto").type == "cpu"
