"""TEG-NAS under REINFORCE: a policy climbs the changes of three indicators from one architecture to the next.

Chen, Gong, Wang: "Understanding and Accelerating Neural Architecture Search with Training-Free and Theory-Grounded
Metrics", 2021.
"""

from dataclasses import dataclass

from pipeline.core.config import knob
from pipeline.methods import METHODS
from pipeline.recipes.genotype_search import GenotypeSearchConfig, search_genotypes
from pipeline.recipes.measuring import by_dataset


@dataclass(frozen=True)
class Config(GenotypeSearchConfig):
    """Knobs of the policy; the `paper` rows are those of the published launch files."""

    n_steps: int = knob({"laptop": 128, "gpu": 500, "paper": 500}, "architectures drawn", low=1)
    learning_rate: float = knob(
        by_dataset(0.04, {"imagenet": 0.07}), "of the policy; published: 0.04 on nas_bench_201, 0.07 on darts", low=0
    )
    window: int = knob(10, "last values over whose range a change is scaled", low=2)
    choose_from: str = knob(
        "history",
        "the final architecture: the best of all that was evaluated, or what the policy prefers",
        choices=("history", "policy"),
    )


@METHODS.register("tegnas_rl")
class TegNasReinforce:
    """Search by a policy that is rewarded for improvements."""

    Config = Config

    @staticmethod
    def space(config: Config) -> str:
        return config.space

    @staticmethod
    def search(config: Config, context) -> list:
        """The architectures found, one per seed of the configuration."""
        from pipeline import strategies

        def policy(space, indicators, generator):
            return strategies.get("reinforce")(
                space,
                indicators,
                generator,
                n_steps=config.n_steps,
                learning_rate=config.learning_rate,
                window=config.window,
                choose_from=config.choose_from,
            )

        return search_genotypes(config, context, "policy", policy)
