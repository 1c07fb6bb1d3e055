"""Knobs of searches with meta-trained networks."""

from dataclasses import dataclass

from pipeline.core.config import knob
from pipeline.recipes.measuring import CONTROL_BY_DATASET, TABULAR_SETS


@dataclass(frozen=True)
class LearnedSearchConfig:
    """Knobs of a search with a generator and a predictor; the `paper` rows are those of MetaD2A (ICLR 2021)."""

    space: str = knob("nas_bench_201", "search space; the one of the database")
    source: str = knob(
        {"laptop": "cifarfs", "gpu": "miniimagenet", "paper": "imagenet32"},
        "data set, one of few-shot classification, of whose classes the tasks that were learned from are made",
    )
    seeds: tuple[int, ...] = knob(
        {
            "laptop": (0,),
            "gpu": (0, 1, 2),
            "paper": (0, 1, 2),
            **{f"laptop/{name}": (0, 1) for name in TABULAR_SETS},
            **{f"paper/{name}": tuple(range(10)) for name in TABULAR_SETS},
        },
        "one search, and one architecture, per seed",
        low=0,
    )
    n_candidates: int = knob(
        {"laptop": 50, "gpu": 200, "paper": 50, **{f"paper/{name}": 500 for name in TABULAR_SETS}},
        "different architectures that the generator proposes",
        low=1,
    )
    drawings_at_once: int = knob(
        {"laptop": 20, "gpu": 100, "paper": 100}, "drawings of the data set that are read together", low=1
    )
    n_resamplings: int = knob(
        {"laptop": 4, "gpu": 10, "paper": 10}, "drawings of the data set over which predictions are averaged", low=1
    )
    best_of: int = knob(
        {"laptop": 3, "gpu": 10, "paper": 30},
        "where results are looked up: tell besides the best, by test accuracy, of the first so many, as published",
        low=1,
    )
    control: bool = knob(
        CONTROL_BY_DATASET,
        "where results are looked up: rank as many uniformly drawn architectures too, for comparison",
    )
