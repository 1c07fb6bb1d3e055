"""Knobs of methods whose start is meta-learned; without torch, so that methods may name them.

Where a published code and its paper differ, the page of the method under docs/methods says which one a row is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.core.config import BUDGETS, knob, with_default
from pipeline.evaluation.episodic_settings import AdamGroup, EpisodicConfig, Phase
from pipeline.learners.lstm_settings import LstmConfig
from pipeline.learners.settings import GradientConfig
from pipeline.recipes.fixed import FixedMethod

REFERENCES = ("maml", "conv4")
"""Methods that all of these are compared with, episode by episode: MAML, and a classifier with a linear probe."""

CHARACTERS = ("doublemnist", "omniglot")


def characters(**by_budget: Any) -> Mapping[str, Any]:
    """Rows of a table by budget for the data sets of characters alone."""
    return {f"{budget}/{name}": value for budget, value in by_budget.items() for name in CHARACTERS}


IMAGE_SIZE = {"laptop": 32, "gpu": 84, "paper": 84, **characters(**dict.fromkeys(BUDGETS, 28))}


@dataclass(frozen=True)
class NetworkSize:
    """The network that adapts."""

    channels: int = knob(
        {"laptop": 16, "gpu": 32, "paper": 32, **characters(laptop=32, gpu=64, paper=64)},
        "channels of the network that adapts",
        low=1,
    )
    image_size: int = knob(IMAGE_SIZE, "side to which images are resized for it", low=8)


@dataclass(frozen=True)
class GradientTraining(NetworkSize, EpisodicConfig, GradientConfig):
    """Adaptation of a four-block network by gradient steps, as MAML has it; the `paper` rows are MAML's."""

    n_iterations: int = with_default(
        EpisodicConfig,
        "n_iterations",
        {"laptop": 1500, "gpu": 6000, "paper": 60_000, **characters(laptop=400, gpu=3000)},
    )
    tasks_per_batch: int = with_default(
        EpisodicConfig, "tasks_per_batch", {"laptop": 4, "gpu": 4, "paper": 4, **characters(laptop=8, gpu=32, paper=32)}
    )
    n_query: int = with_default(EpisodicConfig, "n_query", {"laptop": 5, "gpu": 15, "paper": 15})
    learning_rate: float = with_default(EpisodicConfig, "learning_rate", {"laptop": 3e-3, "gpu": 1e-3, "paper": 1e-3})
    inner_lr: float = with_default(
        GradientConfig,
        "inner_lr",
        {"laptop": 0.2, "gpu": 0.01, "paper": 0.01, **characters(laptop=0.4, gpu=0.4, paper=0.4)},
    )
    inner_steps: int = with_default(
        GradientConfig, "inner_steps", {"laptop": 1, "gpu": 5, "paper": 5, **characters(laptop=1, gpu=1, paper=1)}
    )
    test_steps: int = with_default(
        GradientConfig, "test_steps", {"laptop": 3, "gpu": 10, "paper": 10, **characters(laptop=3, gpu=3, paper=3)}
    )


@dataclass(frozen=True)
class LstmTraining(NetworkSize, EpisodicConfig, LstmConfig):
    """The meta-learner LSTM; the `paper` rows are those of the published code."""

    channels: int = with_default(
        NetworkSize, "channels", {"laptop": 8, "gpu": 32, "paper": 32, **characters(laptop=16)}
    )
    n_iterations: int = with_default(EpisodicConfig, "n_iterations", {"laptop": 2000, "gpu": 20_000, "paper": 50_000})
    tasks_per_batch: int = with_default(EpisodicConfig, "tasks_per_batch", 1)
    n_query: int = with_default(EpisodicConfig, "n_query", {"laptop": 5, "gpu": 15, "paper": 15})
    clip_norm: float = with_default(EpisodicConfig, "clip_norm", 0.25)
    validate_every: int = with_default(EpisodicConfig, "validate_every", {"laptop": 250, "gpu": 1000, "paper": 1000})
    n_validation_episodes: int = with_default(
        EpisodicConfig, "n_validation_episodes", {"laptop": 40, "gpu": 100, "paper": 100}
    )


@dataclass(frozen=True)
class CellSize:
    """A network of one normal and one reduction cell."""

    channels: int = knob({"laptop": 4, "gpu": 16, "paper": 16}, "channels of the first cell", low=1)
    image_size: int = knob(IMAGE_SIZE, "side to which images are resized", low=8)
    # T-NAS's paper; its code steps by 0.01
    inner_lr: float = with_default(GradientConfig, "inner_lr", {"laptop": 0.4, "gpu": 0.1, "paper": 0.1})
    inner_steps: int = with_default(GradientConfig, "inner_steps", {"laptop": 2, "gpu": 5, "paper": 5})
    test_steps: int = with_default(GradientConfig, "test_steps", {"laptop": 4, "gpu": 10, "paper": 10})
    first_order: bool = with_default(GradientConfig, "first_order", True)
    n_query: int = with_default(EpisodicConfig, "n_query", {"laptop": 5, "gpu": 15, "paper": 15})


@dataclass(frozen=True)
class CellTraining(CellSize, EpisodicConfig, GradientConfig):
    """First-order MAML of a decoded or a drawn architecture; the same for all whose architectures are compared."""

    # with 0.4 architectures whose reduction cell only pools diverge on characters
    inner_lr: float = with_default(
        CellSize, "inner_lr", {"laptop": 0.4, "gpu": 0.1, "paper": 0.1, **characters(laptop=0.1)}
    )
    n_iterations: int = with_default(
        EpisodicConfig, "n_iterations", {"laptop": 300, "gpu": 2000, "paper": 75_000, **characters(laptop=100)}
    )
    tasks_per_batch: int = with_default(EpisodicConfig, "tasks_per_batch", 4)
    learning_rate: float = with_default(EpisodicConfig, "learning_rate", {"laptop": 0.01, "gpu": 1e-3, "paper": 1e-3})
    validate_every: int = with_default(
        EpisodicConfig, "validate_every", {"laptop": 100, "gpu": 500, "paper": 500, **characters(laptop=50)}
    )
    n_validation_episodes: int = with_default(
        EpisodicConfig, "n_validation_episodes", {"laptop": 40, "gpu": 100, "paper": 600}
    )


@dataclass(frozen=True)
class SupernetTraining(CellSize, EpisodicConfig, GradientConfig):
    """Meta-training of a relaxed supernet, weights and alphas; the `paper` rows are T-NAS's."""

    # The laptop's alphas learn fast in the outer loop and hardly move on a task, so that tasks share architectures;
    # with the other rows' steps almost every task has its own, each of which has to be meta-learned.
    inner_lr_alphas: float = with_default(GradientConfig, "inner_lr_alphas", {"laptop": 0.2, "gpu": 30, "paper": 30})
    n_iterations: int = with_default(EpisodicConfig, "n_iterations", {"laptop": 100, "gpu": 1500, "paper": 12_500})
    tasks_per_batch: int = with_default(EpisodicConfig, "tasks_per_batch", {"laptop": 2, "gpu": 4, "paper": 4})
    learning_rate: float = with_default(EpisodicConfig, "learning_rate", {"laptop": 3e-3, "gpu": 1e-3, "paper": 1e-3})
    validate_every: int = with_default(EpisodicConfig, "validate_every", {"laptop": 50, "gpu": 500, "paper": 1250})
    n_validation_episodes: int = with_default(
        EpisodicConfig, "n_validation_episodes", {"laptop": 20, "gpu": 100, "paper": 100}
    )
    learning_rate_alphas: float = knob(
        {"laptop": 0.03, "gpu": 1e-3, "paper": 1e-3}, "outer loop: learning rate of Adam for the alphas", low=0
    )
    beta1_alphas: float = knob(0.5, "outer loop: the alphas' decay of Adam's mean gradient", low=0, high=0.9999)
    weight_decay_alphas: float = knob(1e-3, "outer loop: L2 penalty on the alphas", low=0)

    @property
    def groups(self) -> tuple[AdamGroup, AdamGroup]:
        """Of the weights and of the alphas."""
        alphas = AdamGroup(
            "alphas",
            self.learning_rate_alphas,
            self.beta1_alphas,
            self.beta2,
            self.weight_decay_alphas,
            self.clip_norm,
        )
        return AdamGroup.of(self, "weights"), alphas


def together(config: SupernetTraining) -> tuple[Phase, ...]:
    """Weights and alphas move by one gradient (T-NAS)."""
    return (Phase(config.groups),)


def in_turn(config: SupernetTraining) -> tuple[Phase, ...]:
    """First the alphas, on one half of the images of each class, then the weights on the other half (Auto-MAML)."""
    weights, alphas = config.groups
    return Phase((alphas,), "second_half"), Phase((weights,), "first_half")


class AdaptingConv4(FixedMethod):
    """A learner on the network of the papers, which is not searched; a subclass says what is other than in MAML."""

    architecture = "conv4_flat"
    Learning = GradientTraining
    learner = "gradient"
    control = "maml"
    references = REFERENCES
