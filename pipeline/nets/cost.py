"""What a network costs: parameters and multiply-adds, counted on the network itself."""

import torch
from torch import Tensor, nn


def count_parameters(network: nn.Module) -> int:
    """Number of weights and biases, normalisation layers included."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_backbone_parameters(network: nn.Module) -> int:
    """Number of weights and biases without those of `network.classifier`."""
    return count_parameters(network) - count_parameters(network.classifier)


def count_multiply_adds(network: nn.Module, images: Tensor) -> int:
    """Multiply-adds of one image's forward pass in convolutions and matrix products ("FLOPs" in the NAS literature).

    Only what is executed counts. Runs in evaluation mode without gradients; modes and buffers stay as they were.

    Args:
        images: example input, shape (n, c, h, w); the count is for one of the n images.
    """
    from torch.utils.flop_counter import FlopCounterMode

    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(images)
    finally:
        for module, training in modes.items():
            module.training = training
    return counter.get_total_flops() // 2 // images.shape[0]
