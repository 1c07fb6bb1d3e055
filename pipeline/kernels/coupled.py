"""The tangent kernel through BatchNorm in training mode, where every image's output depends on the whole batch.

This is the kernel of TE-NAS (Chen, Gong, Wang, ICLR 2021) and TEG-NAS. It is another quantity than `ntk`, which sends
each image through the network as if alone: here the row of an image also holds how its output moves through the mean
and the variance of the batch. The two are never mixed.
"""

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from pipeline.kernels.errors import KernelError
from pipeline.kernels.ntk import full_precision

ROWS_PER_CALL = 16
"""Cotangents that go back through the network together."""


def all_weights_of(network: nn.Module) -> dict[str, nn.Parameter]:
    """What the coupled kernel counts, by name: `weight` of every module, normalisation layers included, no biases."""
    return {name: value for name, value in network.named_parameters() if name.rpartition(".")[2] == "weight"}


def cell_weights_of(network: nn.Module) -> dict[str, nn.Parameter]:
    """The part of them inside `network.cells`, the reductions between cells included."""
    return {name: value for name, value in all_weights_of(network).items() if name.startswith("cells.")}


def coupled_rows(
    network: nn.Module,
    images: Tensor,
    weights: Mapping[str, nn.Parameter] | None = None,
    *,
    rows_per_call: int = ROWS_PER_CALL,
) -> Tensor:
    """Gradients (n p) of each image's sum of outputs in a training-mode pass of all images together.

    Args:
        network: gives outputs (n outputs). Left as found: weights, buffers, gradients, modes.
        images: (n c h w).
        weights: what the gradients are taken in, `all_weights_of` by default; those that take no part are left out.
        rows_per_call: images whose gradients are computed together; 1 takes least memory.

    Raises KernelError without images, or when no weight takes part in the outputs.
    """
    if len(images) == 0:
        raise KernelError(f"The images have the shape {tuple(images.shape)}; at least one image is needed.")
    chosen = list((all_weights_of(network) if weights is None else weights).values())
    with torch.enable_grad(), full_precision(images), _training(network):
        outputs = network(images.detach()).flatten(1).sum(1)
        used = _taking_part(outputs, chosen)
        if not used:
            raise KernelError(f"No weight of {type(network).__name__} took part in its outputs, it has no such kernel.")
        blocks = list(_blocks(outputs, used, rows_per_call))
    return torch.cat(blocks)


def coupled_ntk(network: nn.Module, images: Tensor, *, rows_per_call: int = ROWS_PER_CALL) -> Tensor:
    """Kernel (n n) of `coupled_rows`, float64."""
    rows = coupled_rows(network, images, rows_per_call=rows_per_call).double()
    return rows @ rows.mT


def _taking_part(outputs: Tensor, weights: list[nn.Parameter]) -> list[nn.Parameter]:
    if not weights or not outputs.requires_grad:
        return []
    found = torch.autograd.grad(outputs.sum(), weights, retain_graph=True, allow_unused=True)
    return [weight for weight, gradient in zip(weights, found, strict=True) if gradient is not None]


def _blocks(outputs: Tensor, weights: list[nn.Parameter], rows_per_call: int) -> Iterator[Tensor]:
    """Rows of the Jacobian, a few at a time; the graph is freed with the last."""
    n = len(outputs)
    for start in range(0, n, rows_per_call):
        stop = min(start + rows_per_call, n)
        last = stop == n
        if stop - start == 1:
            gradients = torch.autograd.grad(outputs[start], weights, retain_graph=not last)
            yield torch.cat([gradient.flatten() for gradient in gradients]).unsqueeze(0)
            continue
        cotangents = torch.zeros(stop - start, n, dtype=outputs.dtype, device=outputs.device)
        cotangents[torch.arange(stop - start), torch.arange(start, stop)] = 1
        gradients = torch.autograd.grad(outputs, weights, cotangents, retain_graph=not last, is_grads_batched=True)
        yield torch.cat([gradient.flatten(1) for gradient in gradients], dim=1)


@contextlib.contextmanager
def _training(network: nn.Module):
    """Training mode, after which modes and buffers are what they were."""
    modes = [(module, module.training) for module in network.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    network.train()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
