"""Auto-MAML: one architecture for all tasks, decoded from a supernet whose weights alone adapt.

Lian et al.: "Towards Fast Adaptation of Neural Architectures with Meta Learning" (T-NAS), ICLR 2020, the baseline of
that paper. The supernet's meta-training is a stage of its own; the architecture is then meta-learned anew.
"""

from dataclasses import dataclass

from pipeline.core.config import with_default
from pipeline.methods import METHODS
from pipeline.recipes.adapted_settings import REFERENCES, CellTraining, SupernetTraining, characters, in_turn
from pipeline.recipes.fixed import FixedConfig


@dataclass(frozen=True)
class Supernet(SupernetTraining):
    """Knobs of the supernet, where weights adapt to tasks and alphas do not."""

    learning_rate_alphas: float = with_default(
        SupernetTraining, "learning_rate_alphas", {"laptop": 0.03, "gpu": 3e-4, "paper": 3e-4}
    )
    # each phase has half of the images of a class, and an alphabet's character has twenty
    n_query: int = with_default(
        SupernetTraining, "n_query", {"laptop": 5, "gpu": 15, "paper": 15, **characters(gpu=5, paper=5)}
    )
    adapts: str = with_default(SupernetTraining, "adapts", "weights")


@METHODS.register("automaml")
class AutoMaml:
    """Alphas and weights are learned in turn; an architecture per shot."""

    Config = FixedConfig
    Learning = CellTraining
    Supernet = Supernet
    phases = staticmethod(in_turn)
    learner = "gradient"
    control = "randomtnas"
    references = REFERENCES
    needs = ("meta_trained_supernet", "test_episodes")

    @staticmethod
    def space(config: FixedConfig) -> str:
        return "tnas"

    @staticmethod
    def search(config: FixedConfig, context) -> list:
        """The architecture of each shot, once per seed."""
        from pipeline.recipes.decoding import decode_common

        return decode_common(config, context)
