"""REINFORCE: a policy over architectures climbs the reward of what it draws (Williams 1992; TEG-NAS, 2021)."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from pipeline.core.errors import CapabilityError, ConfigError
from pipeline.strategies import STRATEGIES
from pipeline.strategies.history_reward import HistoryReward
from pipeline.strategies.indicators import Indicator, Measured, best_by_ranks, mean, require_finite

CHOICES = ("history", "policy")
INITIAL_SPREAD = 1e-3


@STRATEGIES.register("reinforce")
class Reinforce:
    """Ask for one genotype a step, drawn from the policy; tell moves the policy.

    The policy is one categorical distribution per edge, as the space arranges them. Its loss is
    -(reward - baseline) log probability, the baseline a mean of all rewards, the newest included, whose weights fall by
    `baseline_momentum` a step and add up to one.

    Args:
        space: anything with `policy_shapes`, `sample_from_policy`, `decode_policy`, `to_text` and `from_text`.
        indicators: what the reward is made of, see `HistoryReward`.
        generator: where all draws come from.
        n_steps: genotypes in all.
        learning_rate: of Adam on the logits.
        window: of the reward.
        choose_from: what is found is the best of the "history" by the sum of ranks, or what the "policy" prefers.

    Raises CapabilityError without a generator, an indicator or a policy; ConfigError for another `choose_from`.
    """

    needs: ClassVar[str] = "policy"

    def __init__(
        self,
        space,
        indicators: Sequence[Indicator],
        generator: torch.Generator | None = None,
        *,
        n_steps: int = 500,
        learning_rate: float = 0.04,
        baseline_momentum: float = 0.9,
        window: int = 10,
        choose_from: str = "history",
    ):
        if generator is None or not indicators:
            raise CapabilityError("REINFORCE needs a generator to draw from and at least one indicator for its reward.")
        if choose_from not in CHOICES:
            raise ConfigError(f"choose_from is '{choose_from}'; allowed are {', '.join(CHOICES)}.")
        self.space, self.indicators, self.generator = space, tuple(indicators), generator
        self.n_steps, self.baseline_momentum, self.choose_from = n_steps, baseline_momentum, choose_from
        self.round = 0
        self.logits = [
            (INITIAL_SPREAD * torch.randn(shape, generator=generator)).requires_grad_() for shape in space.policy_shapes
        ]
        self.reward = HistoryReward(indicators, window)
        self._optimiser = torch.optim.Adam(self.logits, learning_rate)
        self._baseline = 0.0
        self._texts: list[str] = []
        self._draw()

    def _draw(self) -> None:
        self._before_draw = self.generator.get_state()
        genotype, self._log_probability = self.space.sample_from_policy(self.logits, self.generator)
        self._asked = self.space.to_text(genotype)

    @property
    def finished(self) -> bool:
        return self.round >= self.n_steps

    def ask(self) -> list:
        """The genotype of this step; it may have been asked for before."""
        return [] if self.finished else [self.space.from_text(self._asked)]

    def sizes_left(self) -> list[int]:
        """Number of candidates of every question still to come, this one included."""
        return [1] * (self.n_steps - self.round)

    def tell(self, measured: Mapping[str, Measured]) -> list:
        """Move the policy by the reward of the genotype asked for, and draw the next one.

        Raises ScoreError when an indicator has had no finite value in the whole search.
        """
        reward = self.reward.add({item.name: mean(measured[item.name].values[0]) for item in self.indicators})
        self._texts.append(self._asked)
        self.round += 1
        momentum = self.baseline_momentum
        self._baseline = momentum * self._baseline + (1 - momentum) * reward
        loss = -self._log_probability * (reward - self._baseline / (1 - momentum**self.round))
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()
        if self.finished:
            for name, values in self.reward.values.items():
                require_finite(name, values)
        else:
            self._draw()
        return []

    def found(self) -> list:
        """The genotype chosen."""
        if self.choose_from == "policy":
            return [self.space.decode_policy(self.logits)]
        columns = [(self.reward.values[item.name], item.higher_is_better) for item in self.indicators]
        return [self.space.from_text(self._texts[best_by_ranks(columns)])]

    # ------------------------------------------------------------------ leaving and coming back
    def state_dict(self) -> dict[str, Any]:
        return {
            "logits": [one.detach().clone() for one in self.logits],
            "optimiser": self._optimiser.state_dict(),
            "values": {name: list(values) for name, values in self.reward.values.items()},
            "baseline": self._baseline,
            "texts": list(self._texts),
            "round": self.round,
            "generator_before_draw": self._before_draw.clone(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        with torch.no_grad():
            for mine, saved in zip(self.logits, state["logits"], strict=True):
                mine.copy_(saved)
        self._optimiser.load_state_dict(state["optimiser"])
        self.reward.values = {name: list(values) for name, values in state["values"].items()}
        self._baseline, self._texts, self.round = state["baseline"], list(state["texts"]), state["round"]
        self.generator.set_state(state["generator_before_draw"])
        if not self.finished:
            self._draw()
