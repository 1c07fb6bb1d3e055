"""The tangent kernel through BatchNorm in training mode, where every image's output depends on the whole batch.

This is the kernel of TE-NAS (Chen, Gong, Wang, ICLR 2021) and TEG-NAS. It is another quantity than `ntk`, which sends
each image through the network as if alone: here the row of an image also holds how its output moves through the mean
and the variance of the batch. The two are never mixed.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pipeline.kernels.errors import KernelError
from pipeline.kernels.folded import jacobian, products
from pipeline.kernels.ntk import full_precision
from pipeline.kernels.undisturbed import stand_ins, training_pass

ROWS_PER_CALL = 16
"""Directions that go through the network together by torch's own vmap."""


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
    rows_per_call: int | None = None,
) -> dict[str, Tensor]:
    """Gradients (n p) of each image's sum of outputs in a training-mode pass of all images together, by weight.

    Args:
        network: gives outputs (n outputs). Left as found: weights, buffers, gradients, modes.
        images: (n c h w).
        weights: what the gradients are taken in, by their names in the network, `all_weights_of` by default; those
            that take no part are left out.
        rows_per_call: images whose gradients are computed together, by default as many as are fast; few take little
            memory.

    Raises KernelError without images.
    """
    if len(images) == 0:
        raise KernelError(f"The images have the shape {tuple(images.shape)}; at least one image is needed.")
    chosen = stand_ins(all_weights_of(network) if weights is None else weights)
    # with the channels last torch's forward passes round worse, and more ReLUs near zero switch
    images, constants = images.detach().contiguous(), _constants(network)
    with torch.enable_grad(), full_precision(images):
        outputs = training_pass(network, images, {**constants, **chosen}).flatten(1).sum(1)
        if not outputs.requires_grad:
            return {}
        return (jacobian if images.device.type == "cpu" else _jacobian_by_vmap)(outputs, chosen, rows_per_call)


def coupled_rows(
    network: nn.Module,
    images: Tensor,
    weights: Mapping[str, nn.Parameter] | None = None,
    *,
    rows_per_call: int | None = None,
) -> Tensor:
    """The gradients of `coupled_gradients` side by side: a row (n p) for every image.

    Raises KernelError without images, or when no weight takes part in the outputs.
    """
    gradients = coupled_gradients(network, images, weights, rows_per_call=rows_per_call)
    if not gradients:
        raise KernelError(f"No weight of {type(network).__name__} took part in its outputs, it has no such kernel.")
    return torch.cat(list(gradients.values()), dim=1)


def coupled_products(network: nn.Module, images: Tensor, directions: Mapping[str, Tensor]) -> Tensor:
    """Products (n k) of the rows of `coupled_gradients` with k directions, without the rows.

    By forward mode: k passes, where the rows take n. The same in exact arithmetic.

    Args:
        network: as in `coupled_gradients`.
        images: (n c h w).
        directions: (k *weight) by the name of the weight; those not named stay as they are.
    """
    images, constants = images.detach().contiguous(), _constants(network)
    if images.device.type != "cpu":
        return _products_by_vmap(network, images, constants, directions)
    leaves = stand_ins({name: constants[name] for name in directions})
    with torch.enable_grad():
        outputs = training_pass(network, images, {**constants, **leaves}).flatten(1).sum(1)
    return products(outputs, leaves, directions)


def coupled_ntk(network: nn.Module, images: Tensor, *, rows_per_call: int | None = None) -> Tensor:
    """Kernel (n n) of `coupled_rows`, float64."""
    rows = coupled_rows(network, images, rows_per_call=rows_per_call).double()
    return rows @ rows.mT


def _products_by_vmap(
    network: nn.Module, images: Tensor, constants: dict[str, Tensor], directions: Mapping[str, Tensor]
) -> Tensor:
    """What `products` gives, by torch's own forward mode."""
    start = {name: constants[name] for name in directions}

    def outputs(weights: dict[str, Tensor]) -> Tensor:
        return training_pass(network, images, {**constants, **weights}).flatten(1).sum(1)

    def product(direction: dict[str, Tensor]) -> Tensor:
        return torch.func.jvp(outputs, (start,), (direction,))[1]

    with torch.no_grad(), full_precision(images):
        return torch.func.vmap(product, chunk_size=ROWS_PER_CALL)(dict(directions)).mT


def _constants(network: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in network.named_parameters()}


def _jacobian_by_vmap(outputs: Tensor, weights: dict[str, Tensor], rows_per_call: int | None) -> dict[str, Tensor]:
    """What `jacobian` gives, by torch's own batched gradients; for devices on which launching work is what costs."""
    n, names, leaves = len(outputs), list(weights), list(weights.values())
    cotangents = torch.eye(n, dtype=outputs.dtype, device=outputs.device)
    blocks = [
        torch.autograd.grad(outputs, leaves, part, retain_graph=True, allow_unused=True, is_grads_batched=True)
        for part in cotangents.split(rows_per_call or ROWS_PER_CALL)
    ]
    by_weight = zip(names, zip(*blocks, strict=True), strict=True)
    return {name: torch.cat(parts).flatten(1) for name, parts in by_weight if parts[0] is not None}
