"""Knobs of meta-learning, and what an iteration of it consists of; without torch, so that methods may name phases.

The `paper` rows are MAML's for mini-ImageNet (Finn, Abbeel and Levine, "Model-Agnostic Meta-Learning for Fast
Adaptation of Deep Networks", ICML 2017): 60,000 iterations of Adam at 1e-3, 4 tasks, 15 queries per class.
"""

from dataclasses import dataclass

from pipeline.core.config import knob


@dataclass(frozen=True)
class EpisodicConfig:
    """The outer loop: a start is learned from episodes of the base classes."""

    n_iterations: int = knob({"laptop": 400, "gpu": 10_000, "paper": 60_000}, "steps of the outer loop", low=1)
    tasks_per_batch: int = knob(4, "episodes of one step", low=1)
    n_query: int = knob(15, "query images per class, in meta-training and validation", low=1)
    learning_rate: float = knob(1e-3, "outer loop: learning rate of Adam", low=0)
    beta1: float = knob(0.9, "outer loop: decay of Adam's mean gradient", low=0, high=0.9999)
    beta2: float = knob(0.999, "outer loop: decay of Adam's mean square", low=0, high=0.999999)
    weight_decay: float = knob(0.0, "outer loop: L2 penalty on what is learned", low=0)
    clip_norm: float = knob(0.0, "outer loop: longest gradient; a longer one is shortened to it; 0 for no limit", low=0)
    validate_every: int = knob(
        {"laptop": 100, "gpu": 500, "paper": 500}, "iterations after which the state is tested, to keep the best", low=1
    )
    n_validation_episodes: int = knob(
        {"laptop": 40, "gpu": 200, "paper": 600}, "episodes of such a test, the same each time", low=2
    )
    validate_on: str = knob(
        "validation",
        "classes of the episodes by which the best state is chosen; base, as in T-NAS's published search, takes those "
        "that it learned from",
        choices=("validation", "base"),
    )
    flip: bool = knob(False, "mirror each image of a training episode with chance 1/2; the published codes do not")


@dataclass(frozen=True)
class AdamGroup:
    """Entries of a state that one Adam moves.

    Attributes:
        entries: which of those that are learned, a key of ENTRIES.
        learning_rate, beta1, beta2, weight_decay, clip_norm: see `EpisodicConfig`; the norm is that of this group.
    """

    entries: str = "all"
    learning_rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    weight_decay: float = 0.0
    clip_norm: float = 0.0

    @classmethod
    def of(cls, config: EpisodicConfig, entries: str = "all") -> "AdamGroup":
        """The group with the settings of the knobs."""
        return cls(entries, config.learning_rate, config.beta1, config.beta2, config.weight_decay, config.clip_norm)


@dataclass(frozen=True)
class Phase:
    """One meta-batch of an iteration, and what moves by its gradient.

    Attributes:
        groups: all gradients are computed before any of them moves.
        pool: images of the base classes that its episodes are drawn from, a key of `episodes.sampler.PARTS`.
    """

    groups: tuple[AdamGroup, ...]
    pool: str = "all"


ENTRIES = {
    "all": lambda name: True,
    "alphas": lambda name: name.startswith("alphas."),
    "weights": lambda name: not name.startswith("alphas."),
}
"""Groups of a state's entries, by their names; `alphas` are the architecture parameters of a relaxed supernet."""


def one_phase(config: EpisodicConfig) -> tuple[Phase, ...]:
    """All that is learned moves by one gradient, as in MAML."""
    return (Phase((AdamGroup.of(config),)),)
