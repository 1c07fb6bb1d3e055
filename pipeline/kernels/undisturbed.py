"""Passes in training mode that leave a network as it was found."""

import contextlib
from collections.abc import Iterator, Mapping

from torch import Tensor, nn
from torch.func import functional_call


@contextlib.contextmanager
def mode_of(network: nn.Module, training: bool) -> Iterator[None]:
    """`network` in training or evaluation mode, after which every module is in the mode it was in."""
    modes = [(module, module.training) for module in network.modules()]
    network.train(training)
    try:
        yield
    finally:
        for module, before in modes:
            module.training = before


def training_pass(network: nn.Module, inputs: Tensor, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
    """Outputs of `network` in training mode; its buffers, modes and parameters are left as found.

    Args:
        parameters: tensors that stand in for the network's own parameters, by name.
    """
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    with mode_of(network, True):
        return functional_call(network, {**buffers, **(parameters or {})}, (inputs,))


def stand_ins(weights: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Tensors that share the memory of `weights` and take gradients, whether or not these do."""
    return {name: weight.detach().requires_grad_() for name, weight in weights.items()}
