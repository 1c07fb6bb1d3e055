"""Knobs of the meta-learners.

Each method that meta-learns sets its own defaults over these; see its page.
"""

from dataclasses import dataclass

from pipeline.core.config import knob
from pipeline.core.errors import ConfigError


@dataclass(frozen=True)
class GradientConfig:
    """Adaptation by plain gradient steps on the support set (MAML, first-order MAML, ANIL, T-NAS, Auto-MAML)."""

    inner_lr: float = knob(0.01, "learning rate of the steps on a support set", low=0)
    inner_lr_alphas: float = knob(30.0, "the same for the alphas of a relaxed supernet", low=0)
    inner_steps: int = knob(5, "steps on a support set while the start is learned", low=0)
    test_steps: int = knob(10, "steps on a support set in a validation or a test", low=0)
    first_order: bool = knob(
        False, "take the gradient of the query loss at the adapted weights for that at the start: no second derivatives"
    )
    adapts: str = knob(
        "all",
        "what the steps move: all, the head (the last layer, `classifier`), or the weights (all but the alphas)",
        choices=("all", "head", "weights"),
    )
    statistics: str = knob(
        "task",
        "what BatchNorm normalises the queries by: the statistics of all queries of the task together (transductive), "
        "those of its support images, or running ones of earlier support images",
        choices=("task", "support", "running"),
    )
    tasks_at_once: int = knob(
        1, "tasks whose passes are made together; more take more memory and pay off on a GPU only", low=1
    )
    restore_first: bool = knob(
        False,
        "as the published Auto-MAML does: where only entries that the steps left alone are differentiated, the adapted "
        "weights are set back before the backward pass, which then reads them in place of those of the forward pass",
    )

    def __post_init__(self):
        if self.restore_first and not self.first_order:
            raise ConfigError(
                "restore_first is a variant of the first order; set first_order to true, or leave it out."
            )
