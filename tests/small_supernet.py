"""A supernet that was hardly meta-trained, and test episodes, as searches that decode are given them."""

from typing import Any

import torch

from pipeline import methods, spaces
from pipeline.core.config import build
from pipeline.data.prepared import PreparedSet
from pipeline.episodes.sampler import EpisodeSampler
from pipeline.recipes.decoding import Supernet
from pipeline.stages.meta_learned import supernet_learner
from pipeline.stages.needs.test_episodes import StoredEpisodes

KNOBS = {"channels": 2, "image_size": 16, "test_steps": 1, "inner_lr_alphas": 300.0, "inner_lr": 0.1}
FACTS = {"budget": "laptop", "parameters": 1, "training": {}, "digest": "0" * 64,
         "cost": {"wall_seconds": 3.0, "device_seconds": 2.0}}  # fmt: skip


def supernet(name: str = "tnas", k_shots: tuple[int, ...] = (1,), seed: int = 0) -> Supernet:
    """The supernet of a method at its start; alphas differ, so that more than one architecture is decoded."""
    method = methods.get(name)
    config = build(method.Supernet, KNOBS, f"supernet.{name}")
    learner = supernet_learner(method, config, 5, seed)
    state = learner.start(torch.Generator().manual_seed(seed))
    return Supernet(spaces.get("tnas")(), learner, dict.fromkeys(k_shots, state), config, FACTS)


def stored(prepared: PreparedSet, n: int = 4, k_shots: tuple[int, ...] = (1,)) -> StoredEpisodes:
    samplers = {k: EpisodeSampler(prepared, "novel", n_way=5, k_shot=k, n_query=2, seed=0) for k in k_shots}
    return StoredEpisodes({k: [of.episode(i) for i in range(n)] for k, of in samplers.items()}, "1" * 64)


def given(prepared: PreparedSet, name: str = "tnas", **sizes: Any) -> dict[str, Any]:
    return {"meta_trained_supernet": supernet(name), "test_episodes": stored(prepared, **sizes)}
