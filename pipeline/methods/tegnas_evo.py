"""TEG-NAS under regularised evolution: a population judged by the sum of its ranks over three indicators.

Chen, Gong, Wang: "Understanding and Accelerating Neural Architecture Search with Training-Free and Theory-Grounded
Metrics", 2021.
"""

from dataclasses import dataclass

from pipeline.core.config import knob
from pipeline.methods import METHODS
from pipeline.recipes.genotype_search import GenotypeSearchConfig, search_genotypes


@dataclass(frozen=True)
class Config(GenotypeSearchConfig):
    """Knobs of the evolution; the `paper` rows are those of the published launch files."""

    population_size: int = knob({"laptop": 32, "gpu": 256, "paper": 256}, "members of the population", low=2)
    tournament_size: int = knob({"laptop": 8, "gpu": 64, "paper": 64}, "members of which the best has a child", low=1)
    n_cycles: int = knob({"laptop": 96, "gpu": 1000, "paper": 1000}, "children in all", low=0)
    choose_from: str = knob(
        "population",
        "where the final architecture is taken from: the last population, as published, or all that was evaluated",
        choices=("population", "history"),
    )


@METHODS.register("tegnas_evo")
class TegNasEvolution:
    """Search by mutation and selection."""

    Config = Config

    @staticmethod
    def space(config: Config) -> str:
        return config.space

    @staticmethod
    def search(config: Config, context) -> list:
        """The architectures found, one per seed of the configuration."""
        from pipeline import strategies

        def evolution(space, indicators, generator):
            return strategies.get("regularised_evolution")(
                space,
                indicators,
                generator,
                population_size=config.population_size,
                tournament_size=config.tournament_size,
                n_cycles=config.n_cycles,
                choose_from=config.choose_from,
            )

        return search_genotypes(config, context, "mutates", evolution)
