"""A generator that was really trained, on 200 of the better cells of made-up tasks: what it draws for new tasks."""

from types import SimpleNamespace

import pytest
import torch

from pipeline import spaces
from pipeline.data.database import Database
from pipeline.data.features import FeatureSet
from pipeline.recipes.database import ask
from pipeline.recipes.held_out import compare_with_uniform, judge_generator, plan_of, proposals_for
from pipeline.recipes.learned import fresh
from pipeline.recipes.meta_settings import GeneratorTraining
from pipeline.recipes.meta_training import Examples, train_generator
from pipeline.recipes.oracles import Bench
from pipeline.recipes.proposing import texts_of
from tests.small_learning import DIM, database_of, features_of, prepared_set
from tests.synthetic_oracle import SyntheticOracle

CPU = torch.device("cpu")
TASKS = {"n_base_tasks": 25, "n_validation_tasks": 8, "n_novel_tasks": 8, "cells_per_task": 40, "n_architectures": 0}
BEST = 0.2
N_OF_TASK = 100


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """Training, its examples, and 100 proposals for each held-out task."""
    folder = tmp_path_factory.mktemp("learned")
    _, prepared = prepared_set(folder)
    paths = features_of(folder / "features", prepared)
    features = FeatureSet.open(paths["features"], paths["features_facts"], prepared)
    paths = database_of(folder / "database", prepared, **TASKS)
    database = Database.open(paths["tasks"], paths["triples"], paths["database_report"])
    space = spaces.get("nas_bench_201")()
    examples = {
        split: Examples.of(database.best(split, BEST), split, database, features, space)
        for split in ("base", "validation", "novel")
    }
    config = GeneratorTraining(
        n_images=3, batch_size=32, learning_rate=2e-3, patience=50, generator_hs=32, generator_nz=32,
        generator_epochs=60, n_resamplings=2, best_fraction=BEST, n_graphs=800, cells_per_held_out_task=8,
    )  # fmt: skip
    network = fresh("generator", {"feature_dim": DIM, "hs": 32, "nz": 32}, space, 0)
    common = {"seed": 0, "device": CPU}
    trained = train_generator(network, examples["base"], examples["validation"], config, what="test", **common)
    proposals = proposals_for(network, examples["novel"], space, config, N_OF_TASK, **common)
    figures = judge_generator(
        network, examples["base"], examples["novel"], proposals, space, database.genotypes, config, **common
    )
    return SimpleNamespace(**locals())


def test_the_best_epoch_is_the_one_that_finds_the_validation_cells_likeliest(learned):
    values = [row["validation_reconstruction"] for row in learned.trained.curve]
    assert len(learned.examples["base"]) == 200 and len(values) == 60
    assert values[learned.trained.best_epoch - 1] == min(values) < values[0] - 5


def test_drawn_graphs_are_valid_and_many_cells_are_found_soon(learned):
    drawn = learned.figures["drawn"]
    assert drawn["n"] == 800 and drawn["validity"] >= 0.99
    assert drawn["draws_for_500"] <= 700


def test_operations_stand_where_they_stood_in_what_was_learned(learned):
    assert learned.figures["operations"]["largest_difference"] < 0.12
    # which uniform cells would not meet
    assert max(abs(share - 0.2) for edge in shares(learned) for share in edge.values()) > 0.12


def shares(learned):
    return [edge for edges in learned.figures["operations"]["trained_on"].values() for edge in edges]


def test_cells_drawn_for_new_tasks_are_better_than_uniform_ones_by_the_same_oracle(learned):
    novel = learned.examples["novel"]
    firsts = [list(dict.fromkeys(texts_of(learned.space, of_task)))[:8] for of_task in learned.proposals]
    plan = plan_of(novel, firsts, {}, "novel")
    bench = Bench(learned.space, learned.prepared, 0, CPU)
    uniform = {}
    for triple in learned.database.triples("novel"):
        uniform.setdefault(triple.task, []).append(triple.accuracy)
    values = ask(plan, SyntheticOracle(), bench, n_workers=1).values
    found = compare_with_uniform(plan, values, uniform, knows_tasks=True)
    assert found["n_tasks"] == 8 and found["beats_uniform"]
