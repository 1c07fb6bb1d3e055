"""The empirical neural tangent kernel of a network, of the sum of its outputs."""

import contextlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.kernels.engines import ENGINES
from pipeline.kernels.errors import KernelError, UnsupportedLayerError

_BATCH_NORMS = (nn.modules.batchnorm._BatchNorm,)
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


@dataclass(frozen=True)
class NtkResult:
    """Kernels of n images, float64.

    Attributes:
        theta: (n n), the NTK: inner products of the gradients of each image's sum of outputs.
        nngp: (n n), the part of the head's weight, n_way times the inner products of features; None without a head.
    """

    theta: Tensor
    nngp: Tensor | None


def ntk(
    network: nn.Module,
    images: Tensor,
    *,
    engine: str = "fast",
    head: nn.Linear | None = None,
    low_memory: bool = False,
) -> NtkResult:
    """NTK Theta[i, j] = sum over weights w of <d y(x_i) / d w, d y(x_j) / d w>, y the sum of all outputs of an image.

    The weights are the `weight` parameters of all modules that are no normalisation layers and that took part in the
    outputs; biases and the weights of normalisation layers are left out (MetaNTK-NAS, CVPR 2022, and its code).
    Every image goes through the network as if alone, so a BatchNorm in training mode is refused.

    Args:
        network: gives outputs (n outputs), or `features` (n d) where a head is given. Left as found: weights, buffers,
            gradients, hooks, modes.
        images: (n c h w).
        engine: `fast`, `opacus` or `loop`; equal up to rounding (see pipeline/kernels/engines).
        head: a linear layer put on the features in place of the network's own classifier.
        low_memory: compute some activations twice rather than keep them.

    Raises:
        UnsupportedLayerError: a layer that couples images or that the engine has no rule for.
        KernelError: no images, or no weight took part.
    """
    if len(images) == 0:
        raise KernelError(f"The images have the shape {tuple(images.shape)}; at least one image is needed.")
    _refuse_coupling(network)
    whole = network if head is None else _Headed(network, head)
    with torch.enable_grad(), full_precision(images):
        grams = ENGINES.get(engine)(whole, weights_of(whole), images.detach(), low_memory=low_memory)
    if not grams:
        raise KernelError(f"No weight of {type(network).__name__} took part in its outputs, it has no tangent kernel.")
    theta = torch.stack(list(grams.values())).sum(0)
    return NtkResult(theta, None if head is None else grams["head.weight"])


def weights_of(network: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters an NTK counts, by name: `weight` of every module that is no normalisation layer."""
    return {
        f"{name}.weight" if name else "weight": module._parameters["weight"]
        for name, module in network.named_modules()
        if module._parameters.get("weight") is not None and not isinstance(module, _NORMS)
    }


class _Headed(nn.Module):
    """A network's features under another head."""

    def __init__(self, network: nn.Module, head: nn.Linear):
        super().__init__()
        self.network, self.head = network, head

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.network.features(images))


def _refuse_coupling(network: nn.Module) -> None:
    coupling = [module for module in network.modules() if isinstance(module, _BATCH_NORMS)]
    if not any(module.training or module.running_mean is None for module in coupling):
        return
    for name, module in network.named_modules():
        if module in coupling and (module.training or module.running_mean is None):
            raise UnsupportedLayerError(
                f"Layer '{name}' is a {type(module).__name__} in training mode, which mixes the images of a batch, so "
                "one image has no gradient of its own. Replace it first, e.g. by "
                "pipeline.nets.norms.convert_norms(network, 'groupnorm16'), or call network.eval()."
            )


@contextlib.contextmanager
def full_precision(images: Tensor):
    """On CUDA: no TensorFloat-32, whose 1e-3 would drown small eigenvalues, and repeatable convolutions."""
    if not images.is_cuda:
        yield
        return
    matmul = torch.backends.cuda.matmul
    allowed = matmul.allow_tf32
    matmul.allow_tf32 = False
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        matmul.allow_tf32 = allowed
