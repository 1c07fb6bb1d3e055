"""Condition number of the tangent kernel through train-mode BatchNorm."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from pipeline import kernels
from pipeline.core.types import LabelledBatch
from pipeline.proxies import PROXIES
from pipeline.proxies.coupled_rows import CoupledRows


@PROXIES.register("coupled_ntk_condition")
@dataclass(frozen=True)
class CoupledNtkCondition:
    """How unevenly gradient descent would train the network, images of a batch in one another's BatchNorm; low is good.

    The trainability of TE-NAS (Chen, Gong, Wang, ICLR 2021, section 3.1.1) as its code computes it: gradients of each
    image's sum of outputs in a training-mode pass of the whole batch, in all weights, those of BatchNorm included. It
    is another quantity than `ntk_condition`, which sees every image alone; the two are never compared or mixed.
    """

    higher_is_better: ClassVar[bool] = False
    needs: ClassVar[str] = "labelled"
    network: ClassVar[str] = "coupled"
    shares: ClassVar[type] = CoupledRows

    def __call__(self, network: nn.Module, batch: LabelledBatch, generator: torch.Generator) -> float:
        """Condition number for the batch's images; infinite where it is undefined. Draws nothing."""
        return self.of(CoupledRows(network, batch))

    def of(self, rows: CoupledRows) -> float:
        """The same, of rows that other proxies may use too."""
        found = rows.all_weights.double()
        return kernels.condition_number(found @ found.mT)
