"""Gradients of a labelled batch's loss: what grad_norm, snip and zico start from."""

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline import kernels
from pipeline.core.errors import ConfigError
from pipeline.core.types import LabelledBatch


def loss_gradients(network: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Gradients of the mean cross-entropy in the weights of convolutions and matrix layers, by name.

    A training-mode pass, so BatchNorm uses the statistics of these images. Weights that take no part in the outputs are
    left out; the network is left as found.

    Args:
        images: (n c h w).
        labels: class numbers (n,).

    Raises ConfigError when the network has no output for some label.
    """
    chosen = kernels.stand_ins(kernels.weights_of(network))
    with torch.enable_grad():
        outputs = kernels.training_pass(network, images.detach(), chosen)
        n_outputs, largest = outputs.shape[1], int(labels.max())
        if largest >= n_outputs:
            raise ConfigError(
                f"There is an image of class {largest}, and the network has {n_outputs} outputs. Build it with as many "
                "as the data set has classes (`n_classes` of the batch)."
            )
        if not outputs.requires_grad:
            return {}
        loss = functional.cross_entropy(outputs, labels)
        found = torch.autograd.grad(loss, list(chosen.values()), allow_unused=True)
    return {name: gradient for name, gradient in zip(chosen, found, strict=True) if gradient is not None}


class LossGradients:
    """The gradients of one network as it is now for the images of one batch, computed when asked for."""

    def __init__(self, network: nn.Module, batch: LabelledBatch):
        self.network, self.batch = network, batch

    @functools.cached_property
    def by_weight(self) -> list[tuple[Tensor, Tensor]]:
        """(weight, gradient) of every weighted layer that took part."""
        weights = kernels.weights_of(self.network)
        found = loss_gradients(self.network, self.batch.images, self.batch.labels)
        return [(weights[name].detach(), gradient) for name, gradient in found.items()]
