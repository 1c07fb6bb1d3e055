"""The meta-learner LSTM in the slow and obvious way: two copies of the network, a loop over its tensors, one graph."""

import copy
import math

import torch
from torch import nn
from torch.nn.functional import cross_entropy


def preprocessed(x, p, log_offset):
    """Number by number."""
    pairs = []
    for value in x.flatten().tolist():
        if abs(value) >= math.exp(-p):
            pairs.append([math.log(abs(value) + log_offset) / p, math.copysign(1.0, value)])
        else:
            pairs.append([-1.0, math.exp(p) * value])
    return torch.tensor(pairs, dtype=x.dtype)


def fill(network, vector):
    """Put the values of a vector into the parameters, tensor by tensor."""
    at = 0
    for weight in network.parameters():
        weight.data.copy_(vector[at : at + weight.numel()].view(weight.shape))
        at += weight.numel()


def replace(network, vector):
    """Exchange the parameters for slices of a vector that carries a graph, layer by layer."""
    at = 0
    for layer in list(network.modules()):
        for name, weight in list(layer.named_parameters(recurse=False)):
            delattr(layer, name)
            setattr(layer, name, vector[at : at + weight.numel()].view(weight.shape))
            at += weight.numel()


def adapt(network, state, support, labels, *, passes, batch_size, momentum, p, log_offset, divide_twice):
    """The last weights (n,) with their graph, and the copy of the network that has seen the support batches."""
    learner = copy.deepcopy(network).train()
    for layer in learner.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = momentum
    theta = torch.cat([state[name].reshape(-1) for name, _ in network.named_parameters()])[:, None]
    n, size = len(theta), state["rule.weight_hh"].shape[1]
    lstm = [state[f"rule.{name}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    hx = cx = torch.zeros(n, size, dtype=theta.dtype)
    f = i = torch.zeros(n, 1, dtype=theta.dtype)
    for _ in range(passes):
        for start in range(0, len(support), batch_size):
            rows = slice(start, start + batch_size)
            fill(learner, theta.detach()[:, 0])
            learner.zero_grad()
            loss = cross_entropy(learner(support[rows]), labels[rows])
            loss.backward()
            g = torch.cat([weight.grad.reshape(-1) for weight in learner.parameters()])[:, None]
            if divide_twice:
                g = g / batch_size
            of_loss, of_gradient = (preprocessed(x, p, log_offset) for x in (loss.detach(), g))
            hx, cx = torch.lstm_cell(torch.cat([of_loss.expand(n, 2), of_gradient], 1), (hx, cx), *lstm)
            f = torch.cat([hx, theta, f], 1) @ state["rule.WF"] + state["rule.bF"]
            i = torch.cat([hx, theta, i], 1) @ state["rule.WI"] + state["rule.bI"]
            theta = torch.sigmoid(f) * theta - torch.sigmoid(i) * g
    return theta[:, 0], learner


def logits(network, state, support, labels, query, *, training, **settings):
    """Of the queries, with a graph to every tensor of the state."""
    theta, learner = adapt(network, state, support, labels, **settings)
    carrier = copy.deepcopy(learner).train(training)
    replace(carrier, theta)
    return carrier(query)
