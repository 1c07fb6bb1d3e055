"""The update rule of the meta-learner LSTM: two recurrent layers, shared by all coordinates of a network's weights.

Ravi and Larochelle, "Optimization as a Model for Few-Shot Learning", ICLR 2017. The n coordinates lie along the last
axis, so that each gate of each unit is one contiguous row.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor


def preprocess_gradient(x: Tensor, p: float = 10.0, log_offset: float = 1e-8) -> Tensor:
    """Sizes and signs of gradients or losses, as numbers of about one (Andrychowicz et al. 2016, appendix A).

    (log(|x| + log_offset) / p, sign x) where |x| >= exp(-p), and (-1, exp(p) x) elsewhere.

    Args:
        x: any shape.
        log_offset: 1e-8 as in the published PyTorch code; 0 gives the paper's formula, whose components are continuous.

    Returns:
        shape (..., 2).
    """
    size = x.abs()
    large = size >= math.exp(-p)
    logarithm = torch.where(large, (size + log_offset).log() / p, -1.0)
    return torch.stack([logarithm, torch.where(large, x.sign(), math.exp(p) * x)], dim=-1)


ENTRIES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "WF", "WI", "bF", "bI")
"""Names of the rule's tensors; gates lie in torch's order: input, forget, cell, output."""


def draw_rule(hidden_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Initial tensors of the rule: close to gradient descent, with kept part 0.99 and step size 0.011.

    As the published PyTorch code draws: first layer uniform in +-1 / sqrt(hidden_size), WF and WI in +-0.01, bF in
    [4, 6], bI in [-5, -4]. (The Lua code draws the first layer in +-0.01, has one bias vector in it, and bF in [4, 5].)

    Returns:
        weight_ih (4 hidden_size, 4) for the inputs [loss 1, loss 2, gradient 1, gradient 2], weight_hh (4 hidden_size,
        hidden_size), bias_ih and bias_hh (4 hidden_size,), WF and WI (hidden_size + 2, 1), bF and bI (1,).
    """

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=generator.device) * (high - low) + low

    bound = 1 / math.sqrt(hidden_size)
    return {
        "weight_ih": uniform(-bound, bound, 4 * hidden_size, 4),
        "weight_hh": uniform(-bound, bound, 4 * hidden_size, hidden_size),
        "bias_ih": uniform(-bound, bound, 4 * hidden_size),
        "bias_hh": uniform(-bound, bound, 4 * hidden_size),
        "WF": uniform(-0.01, 0.01, hidden_size + 2, 1),
        "WI": uniform(-0.01, 0.01, hidden_size + 2, 1),
        "bF": uniform(4.0, 6.0, 1),
        "bI": uniform(-5.0, -4.0, 1),
    }


class Rule(NamedTuple):
    """The rule's tensors, ordered for `advance`.

    Attributes:
        of_loss: first layer, weights of the preprocessed loss, shape (4 hidden, 2).
        of_rest: first layer, of the preprocessed gradient and the hidden values, shape (4 hidden, 2 + hidden).
        bias: first layer, shape (4 hidden,).
        of_hidden: second layer, forget and input gate: weights of the hidden values, shape (2, hidden).
        of_weight: of the coordinate's weight, shape (2, 1).
        of_before: of the same gate one step before, shape (2, 1).
        second_bias: shape (2, 1).
    """

    of_loss: Tensor
    of_rest: Tensor
    bias: Tensor
    of_hidden: Tensor
    of_weight: Tensor
    of_before: Tensor
    second_bias: Tensor

    @classmethod
    def of(cls, entries: Mapping[str, Tensor]) -> "Rule":
        """From tensors named as `draw_rule` names them."""
        second = torch.cat([entries["WF"], entries["WI"]], dim=1).T
        return cls(
            of_loss=entries["weight_ih"][:, :2],
            of_rest=torch.cat([entries["weight_ih"][:, 2:], entries["weight_hh"]], dim=1),
            bias=entries["bias_ih"] + entries["bias_hh"],
            of_hidden=second[:, :-2],
            of_weight=second[:, -2:-1],
            of_before=second[:, -1:],
            second_bias=torch.stack([entries["bF"], entries["bI"]]),
        )


class Memory(NamedTuple):
    """What the rule remembers between two updates.

    Attributes:
        hidden: output of the first layer, shape (hidden, n).
        cell: its cell state, shape (hidden, n).
        gates: forget and input gate of the second layer before the sigmoid, shape (2, n).
        weights: cell state of the second layer, which is the network's weights, shape (n,).
    """

    hidden: Tensor
    cell: Tensor
    gates: Tensor
    weights: Tensor

    @classmethod
    def before(cls, rule: Rule, weights: Tensor) -> "Memory":
        """Nothing remembered yet, at the initial weights (n,)."""
        hidden = weights.new_zeros(rule.of_hidden.shape[1], len(weights))
        return cls(hidden, hidden, weights.new_zeros(2, len(weights)), weights)


def advance(rule: Rule, memory: Memory, loss_pair: Tensor, gradient_pairs: Tensor, gradient: Tensor) -> Memory:
    """One update of all weights (Ravi and Larochelle, section 3.1, equation 2 and the two gates after it).

    The recurrent input of a gate of the second layer is its former value before the sigmoid, as in the published codes.

    Args:
        loss_pair: the preprocessed loss, shape (2,).
        gradient_pairs: the preprocessed gradient, shape (n, 2).
        gradient: what the input gate scales, shape (n,).
    """
    size = len(memory.hidden)
    bias = torch.addmv(rule.bias, rule.of_loss, loss_pair)
    inputs = torch.cat([gradient_pairs.T, memory.hidden])
    first = torch.addmm(bias[:, None], rule.of_rest, inputs)
    take_keep, proposed, output = first.split([2 * size, size, size])
    take, keep = take_keep.sigmoid().chunk(2)
    cell = torch.addcmul(keep * memory.cell, take, proposed.tanh())
    hidden = output.sigmoid() * cell.tanh()
    gates = (
        torch.addmm(rule.second_bias, rule.of_hidden, hidden)
        + rule.of_weight * memory.weights
        + rule.of_before * memory.gates
    )
    kept, step = gates.sigmoid()
    return Memory(hidden, cell, gates, kept * memory.weights - step * gradient)
