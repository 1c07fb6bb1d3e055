"""Knobs of the meta-learner LSTM."""

from dataclasses import dataclass

from pipeline.core.config import knob


@dataclass(frozen=True)
class Schedule:
    """How a support set is gone through.

    Attributes:
        passes: times that the whole set is seen.
        batch_size: images of one update, taken in the order of the set; the last batch of a pass may be smaller.
        bn_momentum: weight of the newest batch in the running statistics of BatchNorm.
    """

    passes: int
    batch_size: int
    bn_momentum: float


@dataclass(frozen=True)
class LstmConfig:
    """The learner of Ravi and Larochelle: an LSTM writes the updates of a network's weights.

    Defaults are the published ones, by number of shots where they differ.
    """

    passes: int = knob(8, "passes over the support set, from two shots on", low=1)
    batch_size: int = knob(25, "support images of one update, from two shots on", low=1)
    bn_momentum: float = knob(
        0.95,
        "weight of the newest batch in the running statistics that normalise the queries of a test, from two shots on",
        low=1e-6,
        high=1,
    )
    passes_one_shot: int = knob(12, "the same for one shot: passes over the support set", low=1)
    batch_size_one_shot: int = knob(5, "the same for one shot: support images of one update", low=1)
    bn_momentum_one_shot: float = knob(0.9, "the same for one shot: weight of the newest batch", low=1e-6, high=1)
    hidden_size: int = knob(20, "numbers that the first layer remembers of each weight", low=1)
    p: float = knob(10.0, "gradients and losses below exp(-p) are not taken to logarithms", low=1, high=60)
    log_offset: float = knob(
        1e-8,
        "added to the size of gradients and losses before the logarithm, as in the published PyTorch code; 0 for the "
        "paper's formula",
        low=0,
        high=1e-3,
    )
    divide_twice: bool = knob(
        True, "divide the gradient of a batch's mean loss by batch_size once more, as both published codes do"
    )
    recompute_steps: bool = knob(
        False, "keep only the memory between updates and compute gates anew in the backward pass: slower, less memory"
    )

    def schedule(self, k_shot: int) -> Schedule:
        """How a support set with `k_shot` images per class is gone through."""
        if k_shot == 1:
            return Schedule(self.passes_one_shot, self.batch_size_one_shot, self.bn_momentum_one_shot)
        return Schedule(self.passes, self.batch_size, self.bn_momentum)
