"""Architectures read off a supernet: each task by itself, shared ones once, and how much they differ."""

import itertools

import pytest
import torch

from pipeline import methods, spaces
from pipeline.core.checkpoint import Checkpoint
from pipeline.core.config import build
from pipeline.core.errors import ConfigError
from pipeline.evaluation.task_images import tasks_of
from pipeline.recipes.decoding import ALPHAS, by_genotype, decode_common, decode_tasks, distance, diversity
from pipeline.recipes.fixed import FixedConfig
from pipeline.strategies.runner import Context
from tests import tiny_set
from tests.small_supernet import given

SPACE = spaces.get("tnas")()
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_set.prepared(tmp_path_factory.mktemp("tiny"), size=16)


def drawn(n: int) -> list:
    generator = torch.Generator().manual_seed(3)
    return [SPACE.sample(generator).in_order() for _ in range(n)]


def context(prepared, things) -> Context:
    return Context(prepared, seed=0, n_cells=None, device=CPU, given=things)


def decode(prepared, things, **knobs):
    here = context(prepared, things)
    return decode_tasks(build(methods.get("tnas").Config, {"n_tasks": 4} | knobs), here), here.journal


@pytest.fixture(scope="module")
def decoded(tiny):
    things = given(tiny)
    return things, *decode(tiny, things)


def test_each_task_gets_the_architecture_that_it_alone_adapts_to(tiny, decoded):
    things, found, _ = decoded
    supernet = things["meta_trained_supernet"]
    of_task = {number: one.genotype for one in found for number in one.episodes}
    assert sorted(of_task) == [0, 1, 2, 3]
    for number, episode in enumerate(things["test_episodes"].episodes[1]):
        tasks = tasks_of(tiny, [episode], CPU)
        alone = supernet.learner.adapted(supernet.states[1], tasks, supernet.config.test_steps, ALPHAS)
        alphas = [alone[name][0] for name in ALPHAS]
        assert spaces.decode_alphas(*alphas).in_order() == of_task[number]


def test_the_number_of_tasks_at_once_and_the_queries_change_no_architecture(tiny, decoded):
    things, found, _ = decoded
    assert decode(tiny, things, tasks_at_once=1)[0] == found
    few = given(tiny)["test_episodes"].episodes[1]
    others = [type(one)(one.classes, one.support, one.query[:, ::-1].copy()) for one in few]
    assert decode(tiny, things | {"test_episodes": type(things["test_episodes"])({1: others}, "2" * 64)})[0] == found


def test_a_decoding_that_was_killed_goes_on_from_the_tasks_that_it_had_decoded(tiny, decoded, tmp_path, monkeypatch):
    things, found, journal = decoded
    config = build(methods.get("tnas").Config, {"n_tasks": 4, "tasks_at_once": 1})
    learner, adapted_to = things["meta_trained_supernet"].learner, []

    def adapt(state, tasks, n_steps, wanted):
        if len(adapted_to) == 3:
            adapted_to.append(None)
            raise InterruptedError
        adapted_to.append(tasks)
        return type(learner).adapted(learner, state, tasks, n_steps, wanted)

    monkeypatch.setattr(learner, "adapted", adapt)
    checkpoint = Checkpoint(tmp_path / "search.pt", "key")
    with pytest.raises(InterruptedError):
        decode_tasks(config, Context(tiny, seed=0, n_cells=None, device=CPU, given=things, checkpoint=checkpoint))
    here = Context(tiny, seed=0, n_cells=None, device=CPU, given=things, checkpoint=checkpoint)
    assert decode_tasks(config, here) == found
    assert len(adapted_to) == 1 + 4
    assert here.journal.rows == journal.rows and here.journal.decoded == journal.decoded


def test_a_finished_decoding_is_not_done_again_whatever_the_number_of_tasks_at_once(tiny, decoded, tmp_path):
    things, found, journal = decoded
    config = build(methods.get("tnas").Config, {"n_tasks": 4, "tasks_at_once": 3})
    checkpoint = Checkpoint(tmp_path / "search.pt", "key")
    for _ in range(2):
        here = Context(tiny, seed=0, n_cells=None, device=CPU, given=things, checkpoint=checkpoint)
        assert decode_tasks(config, here) == found
        assert here.journal.decoded == journal.decoded


def test_decoding_leaves_the_meta_trained_state_as_it_was(tiny):
    things = given(tiny)
    state = things["meta_trained_supernet"].states[1]
    before = {name: value.clone() for name, value in state.items()}
    decode(tiny, things)
    assert all(torch.equal(before[name], value) for name, value in state.items())


def test_only_the_first_tasks_are_decoded(tiny, decoded):
    things, found, _ = decoded
    first, journal = decode(tiny, things, n_tasks=2)
    of_task = {number: one.genotype for one in found for number in one.episodes}
    assert {n: one.genotype for one in first for n in one.episodes} == {n: of_task[n] for n in (0, 1)}
    assert journal.decoded["by_seed"][0]["n_tasks"] == 2


def test_the_journal_tells_each_task_and_what_the_supernet_cost(decoded):
    _, found, journal = decoded
    assert [row["episode"] for row in journal.rows] == [0, 1, 2, 3]
    assert {row["genotype"] for row in journal.rows} == {SPACE.to_text(one.genotype) for one in found}
    assert journal.ledger["amortised"]["supernet"] == {"wall_seconds": 3.0, "device_seconds": 2.0}


def test_one_architecture_for_all_is_that_of_the_alphas_whatever_the_tasks(tiny):
    things = given(tiny, "automaml")
    found = decode_common(FixedConfig(seeds=(0, 3)), context(tiny, things))
    state = things["meta_trained_supernet"].states[1]
    wanted = spaces.decode_alphas(*(state[name] for name in ALPHAS))
    assert [(one.seed, one.k_shot, one.episodes, one.genotype) for one in found] == [
        (0, 1, None, wanted),
        (3, 1, None, wanted),
    ]


def test_shots_that_the_supernet_does_not_know_are_refused(tiny):
    things = given(tiny, k_shots=(2,))
    with pytest.raises(ConfigError, match="meta-trained for 1-shot tasks, but the stored episodes have 2"):
        decode(tiny, things)


def test_equal_architectures_are_one_with_all_their_tasks_the_most_frequent_first():
    a, b, c = drawn(3)
    found = by_genotype([a, b, b, c, b, a], 5)
    assert [(one.genotype, one.episodes) for one in found] == [(b, (1, 2, 4)), (a, (0, 5)), (c, (3,))]
    assert {one.k_shot for one in found} == {5}


def test_diversity_is_the_mean_over_all_pairs_of_tasks():
    a, b, c = drawn(3)
    genotypes = [a, b, b, c, b]
    pairs = [distance(*pair) for pair in itertools.combinations(genotypes, 2)]
    found = diversity(genotypes)
    assert found["mean_distance"] == pytest.approx(sum(pairs) / len(pairs))
    assert (found["n_genotypes"], found["largest_share"]) == (3, 3 / 5)
    assert diversity([a])["mean_distance"] is None and diversity([a, a])["mean_distance"] == 0


def test_one_changed_entry_is_a_sixteenth_in_both_directions():
    generator = torch.Generator().manual_seed(0)
    one = SPACE.sample(generator)
    other = SPACE.mutate(one, generator)
    assert distance(one, one) == 0 and distance(one, one.in_order()) == 0
    assert distance(one, other) == distance(other, one) == 1 / 16
