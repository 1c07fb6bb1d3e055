"""Initial weights, every one drawn from the generator that is passed in."""

import abc
import math
from collections.abc import Callable

import torch
from torch import nn

from pipeline.core.errors import ConfigError, UnknownNameError
from pipeline.nets.norms import NORM_TYPES


class OwnWeights(nn.Module, abc.ABC):
    """A layer that draws the weights it holds itself, whatever the scheme; those of its children follow the scheme."""

    @abc.abstractmethod
    def draw_weights(self, generator: torch.Generator) -> None:
        """Fill the weights held by this layer itself."""


def _fans(weight: torch.Tensor) -> tuple[int, int]:
    """(fan_in, fan_out) as torch counts them: groups are not taken into account in fan_out."""
    field = math.prod(weight.shape[2:])
    return weight.shape[1] * field, weight.shape[0] * field


def _normal(weight: torch.Tensor, std: float, generator: torch.Generator) -> None:
    drawn = torch.randn(weight.shape, generator=generator, device=generator.device, dtype=weight.dtype)
    weight.copy_(drawn.mul_(std))


def _uniform(weight: torch.Tensor, bound: float, generator: torch.Generator) -> None:
    drawn = torch.rand(weight.shape, generator=generator, device=generator.device, dtype=weight.dtype)
    weight.copy_(drawn.mul_(2 * bound).sub_(bound))


def _kaiming(which: int) -> Callable[[nn.Module, torch.Generator], None]:
    def fill(layer: nn.Module, generator: torch.Generator) -> None:
        _normal(layer.weight, math.sqrt(2.0 / _fans(layer.weight)[which]), generator)
        if layer.bias is not None:
            layer.bias.zero_()

    return fill


def _torch_default(layer: nn.Module, generator: torch.Generator) -> None:
    bound = 1.0 / math.sqrt(_fans(layer.weight)[0])
    _uniform(layer.weight, bound, generator)
    if layer.bias is not None:
        _uniform(layer.bias, bound, generator)


SCHEMES: dict[str, Callable[[nn.Module, torch.Generator], None]] = {
    "kaiming_fanout": _kaiming(1),
    "kaiming_fanin": _kaiming(0),
    "torch_default": _torch_default,
}


@torch.no_grad()
def initialise(network: nn.Module, scheme: str, generator: torch.Generator) -> nn.Module:
    """Fill all weights of `network`, in the order of its modules, and return it.

    Args:
        scheme: "kaiming_fanout" and "kaiming_fanin" draw normal weights of variance 2 / fan, biases 0 (He et al. 2015);
            "torch_default" draws weights and biases uniform in +-1 / sqrt(fan_in), as torch's own constructors do.
        generator: the only source of the draws; may live on another device than the network.

    Normalisation layers get weight 1, bias 0 and fresh running statistics; recurrent cells are drawn uniform in
    +-1 / sqrt(hidden size) by any scheme. Raises UnknownNameError for other schemes
    and ConfigError for layers with weights that no scheme knows.
    """
    if scheme not in SCHEMES:
        raise UnknownNameError("initialisation", scheme, SCHEMES)
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            SCHEMES[scheme](layer, generator)
        elif isinstance(layer, NORM_TYPES):
            layer.reset_parameters()
        elif isinstance(layer, nn.GRUCell):
            for weight in layer.parameters(recurse=False):
                _uniform(weight, 1.0 / math.sqrt(layer.hidden_size), generator)
        elif isinstance(layer, OwnWeights):
            layer.draw_weights(generator)
        elif next(layer.parameters(recurse=False), None) is not None:
            raise ConfigError(
                f"No initialisation is known for a layer of type {type(layer).__name__}; use Conv2d, Linear, GRUCell, "
                "norms or a layer with OwnWeights."
            )
    return network


def construct(make: Callable[[], nn.Module]) -> nn.Module:
    """The network that `make` returns, on the CPU, without a draw from torch's global generator.

    Its weights are those of "torch_default" with a fixed seed, so that a network is never left without weights.
    """
    with torch.device("meta"):
        network = make()
    network.to_empty(device="cpu")
    return initialise(network, "torch_default", torch.Generator().manual_seed(0))
