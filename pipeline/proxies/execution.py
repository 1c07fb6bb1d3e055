"""What a forward pass makes use of: operations that a mask switches off do not count."""

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class Execution(TorchFunctionMode):
    """Notes which parameters enter a computation, and in how many convolutions and matrix layers.

    Attributes:
        used: the parameters, by identity.
        n_weighted_layers: calls of convolutions and linear maps with a weight that is a parameter.
    """

    def __init__(self):
        super().__init__()
        self.used: dict[int, nn.Parameter] = {}
        self.n_weighted_layers = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        parameters = [value for value in (*args, *kwargs.values()) if isinstance(value, nn.Parameter)]
        result = function(*args, **kwargs)
        if parameters and isinstance(result, Tensor):
            self.used.update((id(parameter), parameter) for parameter in parameters)
            self.n_weighted_layers += function in _WEIGHTED
        return result


_WEIGHTED = (nn.functional.conv1d, nn.functional.conv2d, nn.functional.conv3d, nn.functional.linear)


def execution_of(network: nn.Module, images: Tensor) -> Execution:
    """What one forward pass of a single image uses; evaluation mode, no gradients, modes and buffers left as found."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.no_grad(), Execution() as execution:
            network(images[:1])
    finally:
        for module, training in modes:
            module.training = training
    return execution
