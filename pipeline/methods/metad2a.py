"""MetaD2A: a data set goes in, architectures come out of a generator that learned from other data sets.

Lee, Hyung, Hwang: "Rapid Neural Architecture Search by Learning to Generate Graphs from Datasets", ICLR 2021. A
predictor, which learned from the same database, ranks them, and the one predicted best is trained from scratch or
looked up. Database, features and meta-training are stages of their own, made once for all data sets.
"""

from dataclasses import dataclass

from pipeline.methods import METHODS
from pipeline.recipes.learned_settings import LearnedSearchConfig


@dataclass(frozen=True)
class Config(LearnedSearchConfig):
    """Knobs of MetaD2A's search; those of its meta-training are the section meta_train."""


@METHODS.register("metad2a")
class MetaD2A:
    """Generate, rank, keep the first."""

    Config = Config
    control = "random201"
    needs = ("data_features", "cell_generator", "cell_predictor", "accuracy_database")

    @staticmethod
    def space(config: Config) -> str:
        return config.space

    @staticmethod
    def source(config: Config) -> str:
        return config.source

    @staticmethod
    def search(config: Config, context) -> list:
        """The architectures found, one per seed of the configuration."""
        from pipeline.recipes.learned_search import search_learned

        return search_learned(config, context)
