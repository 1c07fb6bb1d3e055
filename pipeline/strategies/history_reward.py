"""A reward made of changes: how much better the newest architecture is than the one before it (TEG-NAS, 2021).

For every indicator the change between the two is divided by the range of the last few values, so that indicators of any
scale can be added.
"""

import math
from collections.abc import Mapping, Sequence

from pipeline.strategies.indicators import Indicator

SMALLEST_RANGE = 1e-6


class HistoryReward:
    """Rewards from everything measured so far.

    Args:
        indicators: what is measured.
        window: how many of the last values, the newest among them, a range is taken over.

    A value that is not finite counts as the worst finite one of its indicator so far. The published code gives failed
    entries that value in all indicators at once, whichever it belongs to; here each has its own.
    """

    def __init__(self, indicators: Sequence[Indicator], window: int = 10):
        self.indicators, self.window = tuple(indicators), window
        self.values: dict[str, list[float]] = {item.name: [] for item in indicators}

    def add(self, values: Mapping[str, float]) -> float:
        """Take in what was measured on the newest architecture; returns its reward, 0 for the first one."""
        for item in self.indicators:
            self.values[item.name].append(float(values[item.name]))
        return sum(self._change(item) for item in self.indicators)

    def _change(self, item: Indicator) -> float:
        filled = self.filled(item)
        if len(filled) < 2:
            return 0.0
        recent = filled[-self.window :]
        change = (filled[-1] - filled[-2]) / (max(recent) - min(recent) + SMALLEST_RANGE)
        return change if item.higher_is_better else -change

    def filled(self, item: Indicator) -> list[float]:
        """The values of an indicator with the worst finite one in place of those that are not; zeros if none is."""
        finite = [value for value in self.values[item.name] if math.isfinite(value)]
        if not finite:
            return [0.0] * len(self.values[item.name])
        worst = min(finite) if item.higher_is_better else max(finite)
        return [value if math.isfinite(value) else worst for value in self.values[item.name]]
