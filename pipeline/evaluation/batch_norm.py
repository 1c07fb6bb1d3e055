"""Running statistics of batch normalisation, taken anew from the final weights."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def take_statistics(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the running mean and variance of every BatchNorm layer to the averages over `batches`, in place.

    During a training they lag behind the weights: with momentum 0.1 the last twenty steps or so decide them. After a
    short training that is most of it (Izmailov et al., UAI 2018, take them anew for averaged weights).

    Args:
        batches: network inputs, at least one; each counts alike. The network is left in evaluation mode.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a plain average over all batches
    network.train()
    for batch in batches:
        network(batch)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    network.eval()
