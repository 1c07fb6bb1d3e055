"""Knobs of the stored test episodes."""

from dataclasses import dataclass

from pipeline.core.config import knob


@dataclass(frozen=True)
class EpisodesConfig:
    """The few-shot tasks that every method is tested on."""

    n_way: int = knob(5, "Classes of an episode.", low=2)
    k_shots: tuple[int, ...] = knob((1, 5), "Support images per class, one set of episodes for each.", low=1)
    n_query: int = knob(
        {"laptop": 15, "gpu": 15, "paper": 50, "paper/omniglot": 15},
        "Query images per class (the published protocol uses 50; Omniglot has only 20 images per class).",
        low=1,
    )
    n_episodes: int = knob({"laptop": 600, "gpu": 1000, "paper": 1000}, "Episodes for each of k_shots.", low=2)
