"""3x3 convolution, BatchNorm, 2x2 max pooling and ReLU in one operation, whose gradient can be taken once.

A normalisation with positive weights keeps the order of numbers, so the maximum is found before it, and only a quarter
of the map is normalised. In the backward pass the gradient of the normalised map is zero but at the maxima, so its
sums, too, run over a quarter of the map. The convolution's bias vanishes in the normalisation: it moves the running
mean and has the gradient zero.
"""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, max_pool2d

_once = contextvars.ContextVar("gradients are taken once", default=False)


@contextlib.contextmanager
def gradients_taken_once() -> Iterator[None]:
    """Within it, networks may use operations whose gradients have no gradients and that no vmap can pass."""
    token = _once.set(True)
    try:
        yield
    finally:
        _once.reset(token)


def fits(norm: nn.BatchNorm2d, images: Tensor) -> bool:
    """Whether `conv_norm_pool_relu` is allowed here, gives what the layers give one by one, and is faster."""
    return (
        _once.get()
        and norm.training
        and norm.momentum is not None
        and images.device.type == "cpu"
        and images.is_contiguous(memory_format=torch.channels_last)
        and min(images.shape[-2:]) > 1
        and bool((norm.weight > 0).all())
    )


def conv_norm_pool_relu(convolution: nn.Conv2d, norm: nn.BatchNorm2d, images: Tensor) -> Tensor:
    """ReLU of the 2x2 maxima of `norm(convolution(images))` in training mode; running statistics take the batch in.

    Args:
        images: shape (n, c_in, h, w), h and w at least 2.

    Returns:
        shape (n, c, h // 2, w // 2).
    """
    x = conv2d(images, convolution.weight, padding=convolution.padding)
    found = _NormPoolRelu.apply(x, norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.momentum, norm.eps)
    norm.num_batches_tracked.add_(1)
    norm.running_mean.add_(convolution.bias.detach(), alpha=norm.momentum)
    return found


class _NormPoolRelu(torch.autograd.Function):
    """With y = a x + b at the maxima, where a = weight / std and b = bias - a mean."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        momentum: float,
        eps: float,
    ) -> Tensor:
        mean, variance = torch.batch_norm_update_stats(x, running_mean, running_var, momentum)
        maxima, places = max_pool2d(x, 2, return_indices=True)
        inverse_std = (variance + eps).rsqrt()
        scale = weight * inverse_std
        found = torch.addcmul(_over_maps(bias - scale * mean), maxima, _over_maps(scale)).relu_()
        ctx.save_for_backward(x, maxima, places, found, mean, inverse_std, scale)
        return found

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        # torch's own once_differentiable stays silent where the tensors asked for are reached by other ways
        if torch.is_grad_enabled():
            raise RuntimeError(
                "A gradient was asked for with create_graph=True inside gradients_taken_once(), where operations have "
                "no second derivatives. Leave it out for second-order passes."
            )
        x, maxima, places, found, mean, inverse_std, scale = ctx.saved_tensors
        n = x.numel() // x.shape[1]
        gradient = torch.ops.aten.threshold_backward(gradient, found, 0)
        of_bias = gradient.sum((0, 2, 3))
        of_weight = ((gradient * maxima).sum((0, 2, 3)) - mean * of_bias) * inverse_std
        # through the maxima, through the standard deviation (slope) and through the mean (level)
        slope = -scale * inverse_std * of_weight / n
        level = -scale * of_bias / n - slope * mean
        of_x = torch.ops.aten.max_pool2d_with_indices_backward(
            gradient * _over_maps(scale), x, [2, 2], [2, 2], [0, 0], [1, 1], False, places
        )
        of_x.addcmul_(x, _over_maps(slope)).add_(_over_maps(level))
        return of_x, of_weight, of_bias, None, None, None, None


def _over_maps(of_channels: Tensor) -> Tensor:
    """Shape (c, 1, 1) from (c,)."""
    return of_channels[:, None, None]
