"""T-NAS: each task gets the architecture that a meta-trained supernet adapts to on its support set.

Lian, Zheng, Xu, Lu, Lin, Zhao, Huang, Gao: "Towards Fast Adaptation of Neural Architectures with Meta Learning", ICLR
2020. The supernet's meta-training is a stage of its own; each distinct architecture is then meta-learned anew.
"""

from dataclasses import dataclass

from pipeline.core.config import knob
from pipeline.core.errors import ConfigError
from pipeline.methods import METHODS
from pipeline.recipes.adapted_settings import REFERENCES, CellTraining, SupernetTraining, together


@dataclass(frozen=True)
class Config:
    """Knobs of T-NAS's search on test tasks; the steps on a support set are those of the supernet's test."""

    n_tasks: int = knob(
        {"laptop": 200, "gpu": 100, "paper": 600},
        "stored test episodes of each shot, the first ones, whose architectures are decoded and tested",
        low=2,
    )
    tasks_at_once: int = knob(4, "episodes that are adapted to between two lines of progress", low=1)


@dataclass(frozen=True)
class Supernet(SupernetTraining):
    """Knobs of T-NAS's supernet."""

    def __post_init__(self):
        super().__post_init__()
        if self.adapts != "all":
            raise ConfigError(
                f"supernet.tnas.adapts is {self.adapts!r}: the alphas would stay as they are on every task, and all "
                "tasks would get one architecture. T-NAS needs all; automaml finds one architecture for all tasks."
            )


@METHODS.register("tnas")
class TNas:
    """Weights and alphas adapt together; an architecture per task."""

    Config = Config
    Learning = CellTraining
    Supernet = Supernet
    phases = staticmethod(together)
    learner = "gradient"
    control = "randomtnas"
    references = REFERENCES
    needs = ("meta_trained_supernet", "test_episodes")

    @staticmethod
    def space(config: Config) -> str:
        return "tnas"

    @staticmethod
    def search(config: Config, context) -> list:
        """The distinct architectures of each shot, with the episodes that they are for."""
        from pipeline.recipes.decoding import decode_tasks

        return decode_tasks(config, context)
