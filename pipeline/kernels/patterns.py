"""Activation patterns: which ReLUs of a network are active at which inputs."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from pipeline.kernels.errors import KernelError
from pipeline.kernels.undisturbed import training_pass

_RELUS = (
    torch.relu,
    torch.relu_,
    functional.relu,
    functional.relu_,
    functional.leaky_relu,
    functional.leaky_relu_,
    Tensor.relu,
    Tensor.relu_,
)


class _ReluWatch(TorchFunctionMode):
    """Notes which outputs of every ReLU, leaky or not, on maps (n c h w) are positive, in the order of execution."""

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
    with _ReluWatch() as watch:
        training_pass(network, inputs)
    if not watch.patterns:
        raise KernelError(f"{type(network).__name__} executes no ReLU on maps, so it has no activation patterns.")
    return torch.cat(watch.patterns, dim=1)
