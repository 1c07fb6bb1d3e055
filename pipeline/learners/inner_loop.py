"""The inner loop: plain gradient steps on a support set, from tensors to tensors.

Finn, Abbeel and Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML 2017, equation 1.

Weights that adapt have a leading axis of tasks. The losses of all tasks are added up before they are differentiated:
each depends on the weights of its own task alone, so each task gets its own gradient from one backward pass, which
keeps a graph in the second order only.

Several tasks at once are a pass of vmap, in which convolutions become grouped ones. On a CPU that is slower than one
task after the other: a meta-gradient of 4 tasks, 5-way 1-shot with 15 queries, on a Conv-4 of 32 channels and one
thread took (seconds one by one / at once, and memory in MiB)

| pixels | first order | second order | memory, first order | second order |
|---|---|---|---|---|
| 28 | 0.36 / 0.39 | 0.54 / 0.61 | 80 / 358 | 100 / 522 |
| 84 | 2.9 / 4.3 | 4.4 / 5.5 | 476 / 1871 | 651 / 2941 |

and with channels-last images, for which a grouped convolution has no fast form, 1.8 / 5.1 at 84 pixels, first order.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor
from torch.func import vmap
from torch.nn import functional

from pipeline.learners.meta_learner import State


def adapt(
    loss: Callable[[State], Tensor],
    weights: State,
    rates: Mapping[str, float | Tensor],
    n_steps: int,
    *,
    second_order: bool,
) -> State:
    """The weights after `n_steps` steps of w <- w - rate * d loss / d w, all entries at once.

    Args:
        loss: weights -> a scalar.
        rates: of each entry, a number or a tensor that broadcasts against it.
        second_order: whether the result is a differentiable function of `weights` and of `rates`; without, no graph
            outlives a step and the result has none.

    Entries that the loss does not depend on stay as they are.
    """
    for _ in range(n_steps):
        with torch.enable_grad():
            if not second_order:
                weights = {name: weight.detach() for name, weight in weights.items()}
            weights = {
                name: weight if weight.requires_grad else weight.detach().requires_grad_()
                for name, weight in weights.items()
            }
            gradients = torch.autograd.grad(
                loss(weights), list(weights.values()), create_graph=second_order, materialize_grads=True
            )
        with torch.set_grad_enabled(second_order):
            weights = {
                name: weight - rates[name] * gradient
                for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
            }
    return weights


def each_task(function: Callable[..., Tensor], own: State, shared: State, *inputs: Tensor) -> Tensor:
    """`function(weights, *inputs)` of each task, stacked along a leading axis of tasks.

    Args:
        own: weights with a leading axis of tasks.
        shared: weights that all tasks have in common.
        inputs: with a leading axis of tasks. Several tasks go through as one by vmap; a single one goes through as it
            is, in the memory layout it has.
    """
    if len(inputs[0]) == 1:
        alone = {name: weight.squeeze(0) for name, weight in own.items()}
        return function({**shared, **alone}, *(part.squeeze(0) for part in inputs)).unsqueeze(0)
    return vmap(lambda own, *inputs: function({**shared, **own}, *inputs))(own, *inputs)


def losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of each task, shape (task,), from logits (task, n, way) and labels (task, n)."""
    every = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    return every.unflatten(0, labels.shape).mean(dim=1)


@contextlib.contextmanager
def backward_reads(used: State, instead: State) -> Iterator[None]:
    """What is computed inside is differentiated as if `used` had been overwritten by `instead` before the backward.

    The forward pass, and all activations that the backward pass reads, are those of `used`; weights that it reads are
    those of `instead`. So the gradient is that of no function; it is what code gives that sets weights back too early.

    Args:
        used: tensors that own their memory.
        instead: of the same names and shapes.
    """
    places = {
        weight.untyped_storage().data_ptr(): torch.empty_like(weight).copy_(instead[name])
        for name, weight in used.items()
    }

    def pack(saved: Tensor) -> Tensor:
        place = places.get(saved.untyped_storage().data_ptr())
        if place is None:
            return saved
        return place.as_strided(saved.shape, saved.stride(), saved.storage_offset())

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda packed: packed):
        yield
