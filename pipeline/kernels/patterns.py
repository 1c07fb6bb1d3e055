"""Activation patterns: which ReLUs of a network are active at which inputs."""

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from pipeline.kernels.errors import KernelError

_RELUS = (torch.relu, torch.relu_, torch.nn.functional.relu, torch.nn.functional.relu_, Tensor.relu, Tensor.relu_)


class _ReluWatch(TorchFunctionMode):
    """Notes which outputs of every ReLU on maps (n c h w) are positive, in the order of execution."""

    def __init__(self):
        super().__init__()
        self.patterns: list[Tensor] = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        if function in _RELUS and output.ndim == 4:
            self.patterns.append((output > 0).flatten(1))
        return output


@torch.no_grad()
def activation_patterns(network: nn.Module, inputs: Tensor) -> Tensor:
    """Booleans (n neurons): the signs of all executed ReLUs on maps, in the order of execution.

    The network runs in training mode, so BatchNorm uses the statistics of these inputs; buffers and modes are left as
    found. A ReLU whose output several operations share counts once.

    Args:
        inputs: (n c h w).

    Raises:
        KernelError: the network executes no ReLU on maps.
    """
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    modes = [(module, module.training) for module in network.modules()]
    network.train()
    try:
        with _ReluWatch() as watch:
            functional_call(network, buffers, (inputs,))
    finally:
        for module, training in modes:
            module.training = training
    if not watch.patterns:
        raise KernelError(f"{type(network).__name__} executes no ReLU on maps, so it has no activation patterns.")
    return torch.cat(watch.patterns, dim=1)
