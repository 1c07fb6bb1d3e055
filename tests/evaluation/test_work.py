"""The cost model: how work grows, and its counts against plain loops and the strategy itself."""

import dataclasses
import math

import pytest

from pipeline import spaces, strategies
from pipeline.evaluation.work import Costs, Images, n_candidates, seconds, task_images, work
from pipeline.strategies.indicators import Indicator, Measured

IMAGES = Images(n_train=6400, n_rest=3600, side=32)
SPACES = {"darts_fewshot": {"operations": [3, 2], "in_groups": 0}}
COSTS = Costs(
    start=2.0, channels_exponent=1.5, coefficients={"train:darts_fewshot": 1e-6, "prepare": 0.001}, spaces=SPACES
)
TRAIN = {"network": {"channels": 16, "n_cells": 5}, "train": {"epochs": 7}}
PRUNE = {
    "space": "darts_fewshot", "seeds": [0], "repeat": 2, "prune_number": 1, "image_size": 24, "channels": 8,
    "n_images": 30,
}  # fmt: skip
LEARN = {
    "n_iterations": 100, "validate_every": 30, "n_validation_episodes": 10, "tasks_per_batch": 4, "n_query": 5,
    "inner_steps": 2, "test_steps": 3, "channels": 16, "image_size": 28,
}  # fmt: skip
SHAPE = {"n_way": 5, "k_shots": [1, 5]}


def amount(stage, params, method=None, beside=None, images=IMAGES):
    return work(stage, method, "darts_fewshot", params, beside or {}, images, COSTS)[1]


@pytest.mark.parametrize("prune_number", [1, 2, 3, 6])
@pytest.mark.parametrize("name", ["darts_fewshot", "nas_bench_201"])
def test_the_count_of_candidates_is_what_the_strategy_asks_for(name, prune_number):
    space = spaces.get(name)()
    strategy = strategies.get("prune_by_rank")(space, [Indicator("any", True)], prune_number=prune_number)
    asked = 0
    while candidates := strategy.ask():
        asked += len(candidates)
        strategy.tell({"any": Measured([[1.0 + i] for i in range(len(candidates))], [[1.0]])})
    mask = space.full_mask()
    wide = [stop - start for start, stop in space.edge_groups if stop - start > 2]
    counted = n_candidates(mask.sum(-1).flatten().tolist(), len(mask) * sum(wide), prune_number)
    assert counted == asked


@pytest.mark.parametrize(
    ("changes", "factor"),
    [
        ({"train": {"epochs": 14}}, 2),
        ({"network": {"channels": 32, "n_cells": 5}}, 2**1.5),
        ({"network": {"channels": 16, "n_cells": 10}}, 2),
    ],
)
def test_training_grows_with_epochs_cells_and_a_power_of_the_channels(changes, factor):
    assert amount("train", TRAIN | changes) == pytest.approx(factor * amount("train", TRAIN))


def test_training_grows_with_images_their_area_and_architectures():
    larger = dataclasses.replace(IMAGES, n_train=3 * IMAGES.n_train, side=2 * IMAGES.side)
    beside = {"search": {"search": {"n_architectures": 4}}}
    assert amount("train", TRAIN, beside=beside, images=larger) == pytest.approx(48 * amount("train", TRAIN))


def test_a_pruning_grows_with_repeats_images_and_seeds():
    changed = PRUNE | {"repeat": 4, "n_images": 60, "seeds": [0, 1, 2]}
    assert amount("search", {"search": changed}, "ntk") == pytest.approx(
        12 * amount("search", {"search": PRUNE}, "ntk")
    )


def test_meta_learning_counts_the_images_of_every_task():
    images = 0
    for k_shot in (1, 5):
        for _iteration in range(100):
            images += 4 * 5 * (2 * k_shot + 5)
        for _test in (30, 60, 90, 100):
            images += 10 * 5 * (3 * k_shot + 5)
    expected = images * 28**2 * 16**1.5
    assert amount("meta_learn", {"episodes": SHAPE, "meta_learn": LEARN}, "maml") == pytest.approx(expected)


def test_a_tasks_images_are_its_supports_once_per_step_and_its_queries():
    assert task_images(n_way=5, k_shot=1, n_query=15, n_steps=10) == 5 * 10 + 75


def test_seconds_are_a_start_and_a_coefficient_times_work():
    assert seconds("prepare", 10_000.0, COSTS) == pytest.approx(12.0)
    assert seconds("compare", 0.0, COSTS) == 2.0


def test_kinds_that_were_not_measured_are_unknown_and_not_free():
    assert seconds("score", math.nan, COSTS) is None
    assert seconds("meta_learn:maml", 5.0, COSTS) is None
    database = {"database": {"oracle": "proxy"}, "oracle": {}}
    assert seconds(*work("database", None, None, database, {}, IMAGES, COSTS), COSTS) is None


def test_a_search_with_knobs_that_nobody_counts_is_unknown_and_one_that_only_draws_is_free():
    assert math.isnan(amount("search", {"search": {"seeds": [0], "n_rounds": 9}}, "mine"))
    assert amount("search", {"search": {"n_architectures": 2, "space": "darts"}}, "random") == 0


def test_a_kind_that_was_not_measured_is_counted_as_its_like():
    costs = dataclasses.replace(COSTS, coefficients={"meta_learn:maml": 3.0, "adapt:automaml": 5.0})
    assert seconds("meta_learn:anil", 2.0, costs) == seconds("meta_learn:maml", 2.0, costs) == 8.0
    assert seconds("adapt:randomtnas", 1.0, costs) == 7.0
    costs = dataclasses.replace(COSTS, coefficients={"meta_learn:maml": 3.0, "meta_learn:anil": 1.0})
    assert seconds("meta_learn:anil", 2.0, costs) == 4.0
