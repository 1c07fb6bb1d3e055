"""Condition number of the meta neural tangent kernel."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from pipeline import kernels
from pipeline.core.config import knob
from pipeline.core.types import TaskBatch
from pipeline.nets.init import initialise
from pipeline.proxies import PROXIES

ENGINES = ("fast", "opacus", "loop")


@PROXIES.register("metantk_condition")
@dataclass(frozen=True)
class MetaNtkCondition:
    """How unevenly meta-learning by MAML or ANIL would train the network (Wang et al., CVPR 2022); low is good."""

    algorithm: str = knob(
        "maml", "what the inner loop adapts: maml all weights, anil the head", choices=("maml", "anil")
    )
    inner_lr_time: float = knob(1000.0, "inner learning rate times inner time; 1000 and more mean infinity", low=0)
    reg_coef: float = knob(1e-3, "ridge on the support's kernel, in the kernel's units", low=0)
    engine: str = knob("fast", "how the kernel is computed", choices=ENGINES)
    low_memory: bool = knob(False, "spend time to save memory in the kernel")

    higher_is_better: ClassVar[bool] = False
    needs: ClassVar[str] = "tasks"
    network: ClassVar[str] = "kernel"

    def __call__(self, network: nn.Module, batch: TaskBatch, generator: torch.Generator) -> float:
        """Condition number of the MetaNTK of a batch of tasks; infinite where it is undefined.

        A fresh head with one output per way is drawn from `generator` (torch's default distribution) and put on the
        network's features.
        """
        head = _draw_head(network.feature_dim, batch, generator)
        result = kernels.ntk(network, batch.images, engine=self.engine, head=head, low_memory=self.low_memory)
        kernel = kernels.meta_ntk(
            result.theta,
            result.theta if self.algorithm == "maml" else result.nngp,
            n_tasks=batch.n_tasks,
            n_query=batch.n_query,
            n_support=batch.n_support,
            inner_lr_time=self.inner_lr_time,
            reg_coef=self.reg_coef,
        )
        return kernels.condition_number(kernel)


def _draw_head(feature_dim: int, batch: TaskBatch, generator: torch.Generator) -> nn.Linear:
    head = nn.Linear(feature_dim, batch.n_way, device="meta").to_empty(device="cpu")
    return initialise(head, "torch_default", generator).to(batch.images.device, batch.images.dtype)
