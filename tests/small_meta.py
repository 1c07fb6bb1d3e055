"""Meta-learning made small: an easy set, a network with architecture parameters, and first-order MAML written out."""

import dataclasses
import pathlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from pipeline.data.prepared import PreparedSet
from pipeline.learners.meta_learner import MetaGradient, MetaLearner, Tasks
from tests import tiny_set

SIZE = 4


def coloured(folder: pathlib.Path, n_images: int = 16) -> PreparedSet:
    """Noise around a colour of the class: a class is told by few of the directions that images differ in."""
    prepared = tiny_set.prepared(folder, n_images=n_images, size=SIZE)
    rng = np.random.default_rng(5)
    colours = rng.uniform(70, 185, (len(prepared.class_names), 3))[prepared.labels]
    images = colours[:, None, None] + rng.normal(0, 40, prepared.images.shape)
    return dataclasses.replace(prepared, images=images.clip(0, 255).astype(np.uint8))


def numbered(prepared: PreparedSet) -> PreparedSet:
    """The set with images that tell their row; see `rows_seen`."""
    images = np.zeros(prepared.images.shape, np.uint8)
    rows = np.arange(len(images))
    images[..., 0], images[..., 1] = (rows // 256)[:, None, None], (rows % 256)[:, None, None]
    return dataclasses.replace(prepared, images=images, mean=(0.0,) * 3, std=(1 / 255,) * 3)


def rows_seen(images: torch.Tensor) -> np.ndarray:
    """Rows of the images (..., 3, h, w) of a numbered set, shape (...)."""
    return (256 * images[..., 0, 0, 0] + images[..., 1, 0, 0]).round().long().numpy()


class Gated(nn.Module):
    """Features whose weights are architecture parameters, under a linear head."""

    def __init__(self, n_way: int = 5, width: int = 8, seed: int = 0):
        super().__init__()
        self.features = nn.Linear(3 * SIZE**2, width)
        self.head = nn.Linear(width, n_way)
        self.alphas = nn.ParameterDict({"normal": nn.Parameter(torch.zeros(width))})
        generator = torch.Generator().manual_seed(seed)
        for weight in self.parameters():
            nn.init.normal_(weight, 0, 0.1, generator=generator)

    def forward(self, images):
        return self.head(self.features(images.flatten(1)) * self.alphas["normal"].exp())


@dataclass(frozen=True)
class Knobs:
    inner_lr: float = 0.1
    n_steps: int = 2


class FirstOrder(MetaLearner):
    """All but the architecture parameters adapt, task by task; `n_tasks` counts the tasks seen."""

    Config = Knobs
    setting = "inductive"

    def start(self, generator):
        state = {name: weight.detach().clone() for name, weight in self.network.named_parameters()}
        state["head.bias"] = 0.01 * torch.randn(state["head.bias"].shape, generator=generator)
        return state | {"n_tasks": torch.zeros(1)}

    def learned(self, state):
        return tuple(name for name in state if name != "n_tasks")

    def meta_gradient(self, state, tasks, wanted=None):
        wanted = tuple(wanted or self.learned(state))
        found = []
        for task in range(len(tasks)):
            adapted = self.adapted(state, tasks, task)
            for name in wanted:
                adapted[name] = adapted[name].detach().requires_grad_()
            logits = self.logits(adapted, tasks.query[task])
            loss = functional.cross_entropy(logits, tasks.query_labels[task])
            gradients = torch.autograd.grad(loss, [adapted[name] for name in wanted])
            right = (logits.argmax(1) == tasks.query_labels[task]).float().mean()
            found.append((gradients, loss.detach(), right))
        means = [torch.stack(of_tasks).mean(0) for of_tasks in zip(*(one[0] for one in found), strict=True)]
        return MetaGradient(
            gradients=dict(zip(wanted, means, strict=True)),
            statistics={"n_tasks": state["n_tasks"] + len(tasks)},
            loss=torch.stack([one[1] for one in found]),
            accuracy=torch.stack([one[2] for one in found]),
        )

    def predict(self, state, tasks: Tasks):
        with torch.no_grad():
            adapted = [self.adapted(state, tasks, task) for task in range(len(tasks))]
            return torch.stack([self.logits(one, query) for one, query in zip(adapted, tasks.query, strict=True)])

    def adapted(self, state, tasks, task):
        weights = {name: state[name].detach() for name in self.learned(state)}
        moving = [name for name in weights if not name.startswith("alphas.")]
        with torch.enable_grad():
            for _ in range(self.config.n_steps):
                for name in moving:
                    weights[name] = weights[name].detach().requires_grad_()
                loss = functional.cross_entropy(self.logits(weights, tasks.support[task]), tasks.support_labels[task])
                gradients = torch.autograd.grad(loss, [weights[name] for name in moving])
                for name, gradient in zip(moving, gradients, strict=True):
                    weights[name] = (weights[name] - self.config.inner_lr * gradient).detach()
        return weights

    def logits(self, weights, images):
        return torch.func.functional_call(self.network, weights, images)


def learner(**knobs) -> FirstOrder:
    return FirstOrder(Gated(), Knobs(**knobs))
