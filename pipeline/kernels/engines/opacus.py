"""The Opacus engine: per-sample gradients by GradSampleModule (Yousefpour et al., 2021), then a Gram per layer."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from opacus.grad_sample import GradSampleModule
from torch import Tensor, nn

from pipeline.kernels.engines import ENGINES

_SCRATCH = ("activations", "max_batch_len", "autograd_grad_sample_hooks", "ft_compute_sample_grad")
_PARAMETER_SCRATCH = ("grad_sample", "summed_grad", "_forward_counter", "_current_grad_sample", "_norm_sample")


@ENGINES.register("opacus")
def opacus_grams(
    network: nn.Module, weights: dict[str, nn.Parameter], images: Tensor, *, low_memory: bool = False
) -> dict[str, Tensor]:
    """Gram (n n) float64 per weight, from the per-sample gradients of all layers at once.

    Holds n times all weights in memory; `low_memory` has nothing to save here.
    """
    with _borrowed(network, weights):
        wrapped = GradSampleModule(network, batch_first=True, loss_reduction="sum", strict=False)
        try:
            # Opacus' hooks warn where no input of a layer requires a gradient
            wrapped(images.clone().requires_grad_()).sum().backward()
            return {name: _gram(weight) for name, weight in weights.items() if weight.grad_sample is not None}
        finally:
            wrapped.remove_hooks()


def _gram(weight: nn.Parameter) -> Tensor:
    rows = weight.grad_sample.flatten(1)
    weight.grad_sample = None
    return (rows @ rows.mT).double()


@contextmanager
def _borrowed(network: nn.Module, weights: dict[str, nn.Parameter]) -> Iterator[None]:
    """For the time of one evaluation only `weights` require gradients and their layers are in training mode.

    Opacus sees a layer only while it trains. What Opacus writes on modules and parameters is taken off afterwards.
    """
    chosen = {id(weight) for weight in weights.values()}
    gradients = [(parameter, parameter.requires_grad, parameter.grad) for parameter in network.parameters()]
    modes = [(module, module.training) for module in network.modules()]
    for parameter, _, _ in gradients:
        parameter.requires_grad_(id(parameter) in chosen)
        parameter.grad = None
    for module, _ in modes:
        if any(id(parameter) in chosen for parameter in module.parameters(recurse=False)):
            module.training = True
    try:
        with torch.enable_grad():
            yield
    finally:
        for parameter, required, gradient in gradients:
            parameter.requires_grad_(required)
            parameter.grad = gradient
            _strip(parameter, _PARAMETER_SCRATCH)
        for module, training in modes:
            module.training = training
            _strip(module, _SCRATCH)


def _strip(owner: object, names: tuple[str, ...]) -> None:
    for name in names:
        if name in vars(owner):
            delattr(owner, name)
