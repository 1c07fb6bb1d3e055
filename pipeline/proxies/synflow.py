"""Flow of a signal of ones through the sizes of all weights."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from pipeline import kernels
from pipeline.proxies import PROXIES


@PROXIES.register("synflow")
@dataclass(frozen=True)
class SynFlow:
    """Sum of |w| dR/d|w| over the weights of convolutions and matrix layers, R the sum of outputs for an image of ones.

    Tanaka et al., Pruning neural networks without any data by iteratively conserving synaptic flow, NeurIPS 2020,
    summed over weights as by Abdelfattah et al., ICLR 2021; high is good. All weights are replaced by their absolute
    values. Normalisation layers pass on what they get and biases are zero, so every layer of a chain carries
    the same flow, R. Computed in float64: the flow of a deep network leaves float32.
    """

    higher_is_better: ClassVar[bool] = True
    needs: ClassVar[str] = "network"
    network: ClassVar[str] = "full"

    def __call__(self, network: nn.Module, batch: Tensor, generator: torch.Generator) -> float:
        """Flow through an image of the shape of the example images (n c h w); infinite when it leaves float64.

        Draws nothing.
        """
        flows = synaptic_flows(network, batch.shape[1:])
        total = float(sum(flow.sum() for flow in flows.values()))
        return math.inf if math.isnan(total) else total


def synaptic_flows(network: nn.Module, image_shape: tuple[int, ...]) -> dict[str, Tensor]:
    """|w| dR/d|w| of every weight that takes part, by name, float64; the network is left as found."""
    counted = kernels.weights_of(network)
    parameters = {name: torch.zeros_like(value, dtype=torch.float64) for name, value in network.named_parameters()}
    sizes = {name: weight.detach().double().abs().requires_grad_() for name, weight in counted.items()}
    ones = torch.ones(1, *image_shape, dtype=torch.float64, device=next(iter(sizes.values())).device)
    with torch.enable_grad(), kernels.mode_of(network, False), _NoNorms():
        total = functional_call(network, {**parameters, **sizes}, (ones,)).sum()
    if not total.requires_grad:
        return {}
    found = torch.autograd.grad(total, list(sizes.values()), allow_unused=True)
    return {
        name: sizes[name].detach() * gradient
        for name, gradient in zip(sizes, found, strict=True)
        if gradient is not None
    }


class _NoNorms(TorchFunctionMode):
    """Normalisations pass on their input."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in _NORMS:
            return args[0] if args else kwargs["input"]
        return function(*args, **kwargs)


_NORMS = (
    nn.functional.batch_norm,
    nn.functional.group_norm,
    nn.functional.instance_norm,
    nn.functional.layer_norm,
)
