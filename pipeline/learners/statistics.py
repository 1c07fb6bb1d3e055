"""By which means and variances BatchNorm layers normalise the images of one task.

| policy | support images, while the weights adapt | queries | setting |
|---|---|---|---|
| `task` | those of the support set | those of all queries of the task | transductive |
| `support` | those of the support set | those of the support set, under the adapted weights | inductive |
| `running` | those of the support set | running ones, entries of the state | inductive |

`task` is what the published codes of MAML, T-NAS and Auto-MAML do: their networks are always in training mode.

In `running`, each meta-gradient brings new values: after adaptation the support set goes through the adapted network
once more, and per layer new = (1 - momentum) * old + momentum * seen, `seen` being the mean over the tasks of the
support's mean and unbiased variance and `momentum` the layer's own. They begin as the network's own, 0 and 1 where it
is new. No gradient passes through them.

Layers are rerouted for the time of a pass: their own buffers are neither read nor written, and nothing but the weights
and images that were given decides what comes out. All other layers run in evaluation mode, so that nothing is drawn.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from pipeline.core.errors import ConfigError
from pipeline.kernels import mode_of
from pipeline.learners.meta_learner import State

Normalise = Callable[[str, nn.Module, Tensor], Tensor]
"""(name of the layer, layer, its input) -> its output."""
MEAN, VARIANCE = "running_mean", "running_var"


def batch_norms(network: nn.Module) -> dict[str, nn.Module]:
    """The BatchNorm layers of a network by name."""
    kind = nn.modules.batchnorm._BatchNorm
    return {name: layer for name, layer in network.named_modules() if isinstance(layer, kind)}


def run(network: nn.Module, weights: State, inputs: Tensor, normalise: Normalise | None = None) -> Tensor:
    """What the network makes of `inputs` with `weights` in place of its own, each BatchNorm computed by `normalise`.

    Args:
        normalise: None for the statistics of the batch.
    """
    with mode_of(network, False), contextlib.ExitStack() as layers:
        for name, layer in batch_norms(network).items():
            layers.enter_context(computed_as(layer, partial(normalise or by_batch, name, layer)))
        return functional_call(network, weights, (inputs,))


@contextlib.contextmanager
def computed_as(layer: nn.Module, forward: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """`layer` gives what `forward` makes of its input."""
    layer.forward = forward
    try:
        yield
    finally:
        del layer.forward


def by_batch(name: str, layer: nn.Module, x: Tensor) -> Tensor:
    """By mean and variance of the batch, as in training mode."""
    return functional.batch_norm(x, None, None, layer.weight, layer.bias, training=True, eps=layer.eps)


def by_first(n: int) -> Normalise:
    """By mean and variance of the first `n` images of the batch; gradients pass through them."""

    def normalise(name: str, layer: nn.Module, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x[:n], dim=_all_but_channels(x), correction=0)
        scale = (variance + layer.eps).rsqrt()
        if layer.weight is not None:
            scale = scale * layer.weight
        shift = -mean * scale
        if layer.bias is not None:
            shift = shift + layer.bias
        shape = (-1,) + (1,) * (x.ndim - 2)
        return x * scale.view(shape) + shift.view(shape)

    return normalise


def by_running(statistics: State) -> Normalise:
    """By given means and variances, entries `LAYER.running_mean` and `LAYER.running_var`."""

    def normalise(name: str, layer: nn.Module, x: Tensor) -> Tensor:
        mean, variance = (statistics[f"{name}.{which}"] for which in (MEAN, VARIANCE))
        return functional.batch_norm(x, mean, variance, layer.weight, layer.bias, training=False, eps=layer.eps)

    return normalise


@torch.no_grad()
def collected(network: nn.Module, weights: State, images: Tensor) -> State:
    """Mean and unbiased variance of the input of each BatchNorm, when all normalise by their batch.

    Returns entries `LAYER.running_mean` and `LAYER.running_var`, shape (channels,).
    """
    seen: State = {}

    def normalise(name: str, layer: nn.Module, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, dim=_all_but_channels(x))
        seen[f"{name}.{MEAN}"], seen[f"{name}.{VARIANCE}"] = mean, variance
        return by_batch(name, layer, x)

    run(network, weights, images, normalise)
    return seen


def running_start(network: nn.Module) -> State:
    """The running means and variances that a network has, by name. Raises ConfigError where it keeps none."""
    found: State = {}
    for name, layer in batch_norms(network).items():
        if layer.running_mean is None or layer.momentum is None:
            raise ConfigError(
                f"statistics is running, but the BatchNorm '{name}' of the network keeps no running statistics with a "
                "momentum. Set statistics to task or support."
            )
        for which in (MEAN, VARIANCE):
            found[f"{name}.{which}"] = getattr(layer, which).detach().clone()
    return found


def moved(network: nn.Module, old: State, seen: State) -> State:
    """Running statistics after one more batch: (1 - momentum) * old + momentum * seen."""
    new: State = {}
    for name, layer in batch_norms(network).items():
        for entry in (f"{name}.{MEAN}", f"{name}.{VARIANCE}"):
            new[entry] = torch.lerp(old[entry], seen[entry], layer.momentum)
    return new


@dataclass(frozen=True)
class Policy:
    """How the queries of a task are normalised.

    Attributes:
        setting: of a network with BatchNorm.
        keeps_running: whether the state holds running statistics.
        query_logits: (network, weights, running statistics, support, query) -> logits (n_query, way).
    """

    setting: str
    keeps_running: bool
    query_logits: Callable[[nn.Module, State, State, Tensor, Tensor], Tensor]


def _by_queries(network: nn.Module, weights: State, running: State, support: Tensor, query: Tensor) -> Tensor:
    return run(network, weights, query)


def _by_support(network: nn.Module, weights: State, running: State, support: Tensor, query: Tensor) -> Tensor:
    if not batch_norms(network):
        return run(network, weights, query)
    n = len(support)
    return run(network, weights, torch.cat([support, query]), by_first(n))[n:]


def _by_running(network: nn.Module, weights: State, running: State, support: Tensor, query: Tensor) -> Tensor:
    return run(network, weights, query, by_running(running))


POLICIES = {
    "task": Policy("transductive", False, _by_queries),
    "support": Policy("inductive", False, _by_support),
    "running": Policy("inductive", True, _by_running),
}


def _all_but_channels(x: Tensor) -> list[int]:
    return [axis for axis in range(x.ndim) if axis != 1]
