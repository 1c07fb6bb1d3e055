"""Accuracies as a predictor learns them."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.core.errors import ConfigError

PARITY_SCALE = 0.01


@dataclass(frozen=True)
class Normalisation:
    """target = scale * (accuracy - mean) / std, of the accuracies trained on.

    Attributes:
        mean: of the accuracies trained on, in per cent.
        std: their standard deviation (n - 1).
        scale: spread of the targets; `PARITY_SCALE` is that of the published code, which divides by 100 once more.
    """

    mean: float
    std: float
    scale: float = 1.0

    def __post_init__(self):
        if not (self.std > 0 and self.scale > 0):
            raise ConfigError(
                f"Accuracies to learn from must differ, and the scale of targets must be above 0; got a standard "
                f"deviation of {self.std} and a scale of {self.scale}."
            )

    @classmethod
    def of(cls, accuracies: Sequence[float], scale: float = 1.0) -> "Normalisation":
        """That of these accuracies. Raises ConfigError for fewer than two, or all alike."""
        if len(accuracies) < 2:
            raise ConfigError(f"A spread needs at least two accuracies; got {len(accuracies)}.")
        return cls(statistics.fmean(accuracies), statistics.stdev(accuracies), scale)

    def to_target(self, accuracy):
        """The target of an accuracy in per cent: a number, array or tensor."""
        return (accuracy - self.mean) / self.std * self.scale

    def to_accuracy(self, target):
        """The accuracy in per cent of a target or prediction: a number, array or tensor."""
        return target / self.scale * self.std + self.mean
