"""Building a database: what is asked, that answers depend on nothing but the question, and what is counted."""

import dataclasses
import itertools
from collections import Counter

import numpy as np
import pytest
import torch

from pipeline import spaces
from pipeline.core.checkpoint import Checkpoint
from pipeline.core.errors import CapabilityError, ConfigError, DataError, ScoreError, TrainingError
from pipeline.core.rng import numpy_stream
from pipeline.recipes.database import BIASED, Answers, DatabaseConfig, Plan, ask, draw_architectures, statistics
from pipeline.recipes.oracles import Bench
from tests import tiny_set
from tests.synthetic_oracle import SDS, SyntheticOracle

SMALL = DatabaseConfig(
    n_classes=3, n_base_tasks=6, n_validation_tasks=2, n_novel_tasks=2, cells_per_task=4, n_architectures=10
)


@pytest.fixture(scope="module")
def space():
    return spaces.get("nas_bench_201")()


@pytest.fixture(scope="module")
def bench(space, tmp_path_factory):
    prepared = tiny_set.prepared(tmp_path_factory.mktemp("tiny"), n_images=10)
    return Bench(space, prepared, 0, torch.device("cpu"))


def planned(bench, **knobs) -> Plan:
    return Plan.of(dataclasses.replace(SMALL, **knobs), bench.space, bench.prepared, bench.seed)


def brute_force_connected(operations) -> bool:
    """Whether one of the four paths from node 0 to node 3 is free of `none`."""
    first, second, middle, direct, from_one, from_two = (name != "none" for name in operations)
    return direct or (first and from_one) or (second and from_two) or (first and middle and from_two)


def test_connected_cells_are_those_with_a_path_and_there_are_15284(space):
    found = [(space.is_connected(one), brute_force_connected(one.operations)) for one in space.enumerate()]
    assert all(a == b for a, b in found)
    assert sum(a for a, _ in found) == 15_284


@pytest.mark.parametrize("name", spaces.names())
def test_every_space_says_whether_a_sample_is_connected(name):
    space = spaces.get(name)()
    assert space.is_connected(space.sample(torch.Generator().manual_seed(0))) in (True, False)


@pytest.mark.parametrize("sampling", ["uniform", "biased"])
def test_drawn_architectures_are_different_and_connected(space, sampling):
    texts = draw_architectures(space, 500, sampling, numpy_stream(0, "test"))
    assert len(set(texts)) == 500
    assert all(space.is_connected(space.from_text(text)) for text in texts)
    assert texts[:50] == draw_architectures(space, 50, sampling, numpy_stream(0, "test"))


def test_uniform_draws_are_uniform_over_the_connected_cells(space):
    texts = draw_architectures(space, 4000, "uniform", numpy_stream(1, "test"))
    drawn = np.mean([space.mask_of(space.from_text(text)).numpy() for text in texts], axis=0)
    connected = [one for one in space.enumerate() if space.is_connected(one)]
    expected = np.mean([space.mask_of(one).numpy() for one in connected], axis=0)
    assert abs(drawn - expected).max() < 0.03


def test_biased_draws_have_the_published_frequencies(space):
    draws = numpy_stream(2, "test")
    texts = [draw_architectures(space, 1, "biased", draws)[0] for _ in range(3000)]
    drawn = np.mean([space.mask_of(space.from_text(text)).numpy()[0] for text in texts], axis=0)
    assert abs(drawn - np.array(BIASED["nas_bench_201"])).max() < 0.04


def test_what_a_space_cannot_give_is_refused(space):
    with pytest.raises(CapabilityError, match=r"only 1 turned up .* Lower database\.n_architectures"):
        draw_architectures(spaces.get("conv4")(), 2, "uniform", numpy_stream(0, "test"))
    with pytest.raises(CapabilityError, match=r"no frequencies are known for the space darts.*nas_bench_201"):
        draw_architectures(spaces.get("darts")(), 2, "biased", numpy_stream(0, "test"))


def test_every_task_has_its_number_of_different_architectures_from_the_common_ones(bench):
    plan = planned(bench)
    assert len(plan.pairs) == 10 * 4
    by_task = Counter(task.id for task, _ in plan.pairs)
    assert by_task == dict.fromkeys(range(10), 4)
    assert len(set((task.id, text) for task, text in plan.pairs)) == 40
    assert len({text for _, text in plan.pairs}) <= 10


def test_without_a_common_list_architectures_hardly_repeat(bench):
    assert len({text for _, text in planned(bench, n_architectures=0).pairs}) > 35


def test_questions_stay_the_same_when_more_tasks_are_asked_for(bench):
    few, many = planned(bench, n_validation_tasks=0, n_novel_tasks=0), planned(bench, n_base_tasks=9)
    for number in range(len(few.pairs)):
        assert few.question(number, 0) == many.question(number, 0)
    seeds = {many.question(number, 0).seed for number in range(len(many.pairs))}
    assert len(seeds) == len(many.pairs)
    assert few.question(0, 1).seed != few.question(0, 0).seed


def test_more_architectures_per_task_than_there_are_to_draw_from_are_refused(bench):
    with pytest.raises(ConfigError, match=r"cells_per_task is 11.*n_architectures: 10"):
        planned(bench, cells_per_task=11)


def test_answers_do_not_depend_on_the_number_of_workers(bench):
    plan = planned(bench)
    found = [ask(plan, SyntheticOracle(), bench, n_workers=n).values for n in (1, 2, 3)]
    assert found[0] == found[1] == found[2]
    one_by_one = [SyntheticOracle()(plan.question(number, 0), bench) for number in range(len(plan.pairs))]
    assert found[0] == one_by_one


class MachineDownError(Exception):
    """The machine went down."""


class Counting(SyntheticOracle):
    """Notes what it was asked, and goes down with the machine after `most` answers."""

    def __init__(self, most: int | None = None):
        object.__setattr__(self, "asked", [])
        object.__setattr__(self, "most", most)

    def __call__(self, question, bench):
        if self.most is not None and len(self.asked) == self.most:
            raise MachineDownError
        self.asked.append(question.seed)
        return super().__call__(question, bench)


@pytest.mark.parametrize("most", [1, 17, 39])
def test_an_interrupted_run_goes_on_where_it_stopped_and_ends_alike(bench, tmp_path, most):
    plan, checkpoint = planned(bench), Checkpoint(tmp_path / "state.pt", "key")
    whole = ask(plan, SyntheticOracle(), bench, n_workers=1)
    with pytest.raises(MachineDownError):
        ask(plan, Counting(most), bench, n_workers=1, checkpoint=checkpoint, save_every=0)
    rest = Counting()
    resumed = ask(plan, rest, bench, n_workers=1, checkpoint=checkpoint, save_every=0)
    assert resumed.values == whole.values and len(rest.asked) == 40 - most
    assert ask(plan, Counting(0), bench, n_workers=1, checkpoint=checkpoint).values == whole.values


def test_the_time_of_interrupted_runs_adds_up(bench, tmp_path):
    plan, checkpoint = planned(bench), Checkpoint(tmp_path / "state.pt", "key")

    def clock():
        return float(next(ticks))

    ticks = itertools.count()
    with pytest.raises(MachineDownError):
        ask(plan, Counting(10), bench, n_workers=1, checkpoint=checkpoint, save_every=0, clock=clock)
    first = checkpoint.load()["wall_seconds"]
    ticks = itertools.count()
    assert ask(plan, SyntheticOracle(), bench, n_workers=1, checkpoint=checkpoint, clock=clock).wall_seconds > first > 9


class Failing(SyntheticOracle):
    """Has no number for the questions with an even seed."""

    def __call__(self, question, bench):
        if question.seed % 2 == 0:
            raise TrainingError("diverged") if question.seed % 4 else ScoreError("inf")
        return super().__call__(question, bench)


def test_a_failure_is_a_reason_and_never_a_number(bench):
    plan = planned(bench)
    answers = ask(plan, Failing(), bench, n_workers=2)
    even = {number for number in range(40) if plan.question(number, 0).seed % 2 == 0}
    assert 0 < len(even) < 40 and set(answers.reasons) == even
    assert {number for number, value in enumerate(answers.values) if value is None} == even
    assert set(answers.reasons.values()) <= {"diverged", "inf"}


def test_a_run_without_any_number_is_an_error_that_says_why(bench):
    class Never(SyntheticOracle):
        def __call__(self, question, bench):
            raise TrainingError("The training loss is nan.")

    with pytest.raises(DataError, match=r"No architecture got a number.*loss is nan.*knobs of the oracle"):
        ask(planned(bench), Never(), bench, n_workers=1)


def test_other_errors_end_the_run(bench):
    with pytest.raises(MachineDownError):
        ask(planned(bench), Counting(0), bench, n_workers=2)


def columns(plan: Plan, answers: Answers) -> list[list]:
    tasks = [task for task, _ in plan.pairs]
    return [[t.id for t in tasks], [t.split for t in tasks], [text for _, text in plan.pairs], answers.values]


def test_the_synthetic_oracle_has_the_published_spread(bench):
    config = DatabaseConfig(
        n_classes=3, n_base_tasks=20, n_validation_tasks=0, n_novel_tasks=0, cells_per_task=150, n_architectures=400
    )
    # effects of the few tasks that six classes give differ from those of many, so only what is inside them is compared
    plan = Plan.of(config, bench.space, bench.prepared, 0)
    found = statistics(*columns(plan, ask(plan, SyntheticOracle(), bench, n_workers=1)), bench.space)
    variance = found["variance"]["pooled"]
    assert variance["sd"]["architecture"] == pytest.approx(SDS["architecture"], rel=0.1)
    assert variance["sd"]["rest"] == pytest.approx(SDS["rest"], rel=0.1)


def test_counts_are_those_of_a_slow_count(bench):
    plan = planned(bench)
    tasks, splits, genotypes, values = columns(plan, ask(plan, SyntheticOracle(), bench, n_workers=1))
    found = statistics(tasks, splits, genotypes, values, bench.space)
    counts, seen = found["counts"], set(genotypes[:24])
    assert counts["triples"] == 40 and counts["triples_by_split"] == {"base": 24, "validation": 8, "novel": 8}
    assert counts["architectures"] == len(set(genotypes))
    assert counts["architectures_on_several_tasks"] == sum(genotypes.count(one) > 1 for one in set(genotypes))
    assert counts["held_out_triples_of_base_architectures"] == sum(one in seen for one in genotypes[24:])
    by_split = found["accuracy"]["by_split"]
    assert by_split["base"]["mean"] == pytest.approx(np.mean(values[:24]))
    assert by_split["base"]["std"] == pytest.approx(np.std(values[:24], ddof=1))
    of_edge = Counter(bench.space.from_text(text).operations[3] for text in genotypes)
    assert found["operations"]["cell"][3] == {name: of_edge[name] / 40 for name in bench.space.operations}


def test_a_single_accuracy_has_no_variance(space):
    text = draw_architectures(space, 1, "uniform", numpy_stream(0, "test"))
    found = statistics([0], ["base"], text, [50.0], space)
    assert found["variance"] is None and found["accuracy"]["by_split"]["base"] == {"mean": 50.0, "std": None}
