"""Drop path: during training, whole branches of single samples are set to zero."""

import torch
from torch import nn

from pipeline.core.errors import ConfigError


class DropPath(nn.Module):
    """One state for a whole network: every branch of the network asks the same object.

    A branch of sample i is multiplied by b_i / (1 - probability), b_i Bernoulli(1 - probability) (Larsson et al. 2017,
    FractalNet); the identity outside training and at probability 0.

    Attributes:
        probability: in [0, 1); the training loop raises it as training goes on.
        generator: where the draws come from; must be set before the probability is raised.
    """

    def __init__(self):
        super().__init__()
        self.probability: float = 0.0
        self.generator: torch.Generator | None = None

    def forward(self, branch: torch.Tensor) -> torch.Tensor:
        if not self.training or self.probability == 0.0:
            return branch
        if self.generator is None:
            raise ConfigError(
                f"drop_path.probability is {self.probability} and drop_path.generator is None; "
                "set drop_path.generator to a torch.Generator first."
            )
        keep = 1.0 - self.probability
        shape = (branch.shape[0],) + (1,) * (branch.dim() - 1)
        uniform = torch.rand(shape, generator=self.generator, device=self.generator.device)
        return branch * ((uniform < keep).to(branch) / keep)
