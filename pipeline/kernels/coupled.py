"""The tangent kernel through BatchNorm in training mode, where every image's output depends on the whole batch.

This is the kernel of TE-NAS (Chen, Gong, Wang, ICLR 2021) and TEG-NAS. It is another quantity than `ntk`, which sends
each image through the network as if alone: here the row of an image also holds how its output moves through the mean
and the variance of the batch. The two are never mixed.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from pipeline.kernels.errors import KernelError
from pipeline.kernels.ntk import full_precision
from pipeline.kernels.undisturbed import stand_ins, training_pass

ROWS_PER_CALL = 16
"""Cotangents that go back through the network together."""


def all_weights_of(network: nn.Module) -> dict[str, nn.Parameter]:
    """What the coupled kernel counts, by name: `weight` of every module, normalisation layers included, no biases."""
    return {name: value for name, value in network.named_parameters() if name.rpartition(".")[2] == "weight"}


def cell_weights_of(network: nn.Module) -> dict[str, nn.Parameter]:
    """The part of them inside `network.cells`, the reductions between cells included."""
    return {name: value for name, value in all_weights_of(network).items() if name.startswith("cells.")}


def coupled_gradients(
    network: nn.Module,
    images: Tensor,
    weights: Mapping[str, nn.Parameter] | None = None,
    *,
    rows_per_call: int = ROWS_PER_CALL,
) -> dict[str, Tensor]:
    """Gradients (n p) of each image's sum of outputs in a training-mode pass of all images together, by weight.

    Args:
        network: gives outputs (n outputs). Left as found: weights, buffers, gradients, modes.
        images: (n c h w).
        weights: what the gradients are taken in, by their names in the network, `all_weights_of` by default; those
            that take no part are left out.
        rows_per_call: images whose gradients are computed together; 1 takes least memory.

    Raises KernelError without images.
    """
    if len(images) == 0:
        raise KernelError(f"The images have the shape {tuple(images.shape)}; at least one image is needed.")
    chosen = stand_ins(all_weights_of(network) if weights is None else weights)
    with torch.enable_grad(), full_precision(images):
        outputs = training_pass(network, images.detach(), chosen).flatten(1).sum(1)
        used = _taking_part(outputs, chosen)
        if not used:
            return {}
        blocks = list(_blocks(outputs, list(used.values()), rows_per_call))
    return {name: torch.cat(parts) for name, parts in zip(used, zip(*blocks, strict=True), strict=True)}


def coupled_rows(
    network: nn.Module,
    images: Tensor,
    weights: Mapping[str, nn.Parameter] | None = None,
    *,
    rows_per_call: int = ROWS_PER_CALL,
) -> Tensor:
    """The gradients of `coupled_gradients` side by side: a row (n p) for every image.

    Raises KernelError without images, or when no weight takes part in the outputs.
    """
    gradients = coupled_gradients(network, images, weights, rows_per_call=rows_per_call)
    if not gradients:
        raise KernelError(f"No weight of {type(network).__name__} took part in its outputs, it has no such kernel.")
    return torch.cat(list(gradients.values()), dim=1)


def coupled_ntk(network: nn.Module, images: Tensor, *, rows_per_call: int = ROWS_PER_CALL) -> Tensor:
    """Kernel (n n) of `coupled_rows`, float64."""
    rows = coupled_rows(network, images, rows_per_call=rows_per_call).double()
    return rows @ rows.mT


def _taking_part(outputs: Tensor, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    if not weights or not outputs.requires_grad:
        return {}
    found = torch.autograd.grad(outputs.sum(), list(weights.values()), retain_graph=True, allow_unused=True)
    return {name: weights[name] for name, gradient in zip(weights, found, strict=True) if gradient is not None}


def _blocks(outputs: Tensor, weights: list[Tensor], rows_per_call: int) -> Iterator[list[Tensor]]:
    """Rows of the Jacobian, a few at a time, per weight; the graph is freed with the last."""
    n = len(outputs)
    for start in range(0, n, rows_per_call):
        stop = min(start + rows_per_call, n)
        last = stop == n
        if stop - start == 1:
            gradients = torch.autograd.grad(outputs[start], weights, retain_graph=not last)
            yield [gradient.reshape(1, -1) for gradient in gradients]
            continue
        cotangents = torch.zeros(stop - start, n, dtype=outputs.dtype, device=outputs.device)
        cotangents[torch.arange(stop - start), torch.arange(start, stop)] = 1
        gradients = torch.autograd.grad(outputs, weights, cotangents, retain_graph=not last, is_grads_batched=True)
        yield [gradient.flatten(1) for gradient in gradients]
