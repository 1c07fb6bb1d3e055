"""What holds for every meta-learner, whoever adds it, in each of its policies of normalisation."""

import copy
import dataclasses
import inspect
import math

import pytest
import torch

from pipeline import learners
from pipeline.core.errors import TrainingError
from pipeline.learners.meta_learner import MetaLearner
from pipeline.nets.conv4 import Conv4
from tests.learners.made import META_LEARNERS, READ_OUTS, make_tasks, one_of

WAY = 3


def policies(name):
    """The values of the knob `statistics`, where a learner has it."""
    for field in dataclasses.fields(learners.get(name).Config):
        if field.name == "statistics":
            return list(field.metadata["choices"])
    return [None]


every_learner = pytest.mark.parametrize(
    ("name", "policy"), [(name, policy) for name in META_LEARNERS for policy in policies(name)]
)


def made(name, policy, seed=0):
    """A learner on a small Conv-4, its state at the start, and two tasks."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Conv4(n_classes=WAY, channels=6)
    entry = learners.get(name)
    learner = entry(network, entry.Config(**({} if policy is None else {"statistics": policy})))
    return learner, learner.start(torch.Generator().manual_seed(seed)), make_tasks(way=WAY)


def flat(gradients):
    return torch.cat([gradients[name].flatten() for name in sorted(gradients)])


def close(found, expected, tolerance=2e-4):
    assert (found - expected).norm() <= tolerance * expected.norm()


def test_learners_are_read_outs_or_meta_learners():
    assert {"linear_probe", "prototypes"} <= set(READ_OUTS)
    assert "gradient" in META_LEARNERS
    assert all(not inspect.isabstract(learners.get(name)) for name in META_LEARNERS)


@every_learner
def test_queries_get_finite_logits_and_learned_entries_a_finite_gradient(name, policy):
    learner, state, tasks = made(name, policy)
    logits, found = learner.predict(state, tasks), learner.meta_gradient(state, tasks)
    assert logits.shape == (2, 3 * WAY, WAY)
    assert found.loss.shape == found.accuracy.shape == (2,)
    assert logits.isfinite().all() and found.loss.isfinite().all()
    assert ((found.accuracy >= 0) & (found.accuracy <= 1)).all()
    assert set(found.gradients) == set(learner.learned(state))
    for entry, gradient in found.gradients.items():
        assert gradient.shape == state[entry].shape and gradient.isfinite().all()
    assert flat(found.gradients).norm() > 0


@every_learner
def test_an_entry_of_the_state_is_learned_or_a_statistic(name, policy):
    learner, state, tasks = made(name, policy)
    statistics = learner.meta_gradient(state, tasks).statistics
    assert set(learner.learned(state)).isdisjoint(statistics)
    assert {*learner.learned(state), *statistics} == set(state)
    assert all(value.shape == state[entry].shape for entry, value in statistics.items())


@every_learner
def test_only_wanted_gradients_come_and_they_are_the_same_ones(name, policy):
    learner, state, tasks = made(name, policy)
    every = learner.meta_gradient(state, tasks).gradients
    wanted = learner.learned(state)[-2:]
    some = learner.meta_gradient(state, tasks, wanted=wanted).gradients
    assert set(some) == set(wanted)
    for entry in wanted:
        torch.testing.assert_close(some[entry], every[entry], rtol=1e-3, atol=1e-6)


@every_learner
def test_neither_network_nor_state_nor_tasks_nor_the_global_generator_are_changed(name, policy):
    learner, state, tasks = made(name, policy)
    learner.network.train()
    before = copy.deepcopy((learner.network.state_dict(), state, dataclasses.asdict(tasks)))
    modes, draws = [module.training for module in learner.network.modules()], torch.get_rng_state()
    learner.meta_gradient(state, tasks)
    learner.predict(state, tasks)
    after = (learner.network.state_dict(), state, dataclasses.asdict(tasks))
    for old, new in zip(before, after, strict=True):
        assert old.keys() == new.keys()
        assert all(torch.equal(old[entry], new[entry]) for entry in old)
    assert not any(value.requires_grad for value in state.values())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in learner.network.parameters())
    assert [module.training for module in learner.network.modules()] == modes
    assert torch.equal(torch.get_rng_state(), draws)


@every_learner
def test_the_start_shares_no_memory_with_the_network_and_follows_its_generator(name, policy):
    learner, state, _ = made(name, policy)
    again = learner.start(torch.Generator().manual_seed(0))
    assert state.keys() == again.keys() and all(torch.equal(state[entry], again[entry]) for entry in state)
    own = {tensor.untyped_storage().data_ptr() for tensor in learner.network.state_dict().values()}
    assert own.isdisjoint(tensor.untyped_storage().data_ptr() for tensor in state.values())


@every_learner
def test_the_weights_of_the_network_do_not_matter_once_there_is_a_state(name, policy):
    learner, state, tasks = made(name, policy)
    logits = learner.predict(state, tasks)
    with torch.no_grad():
        for tensor in learner.network.state_dict().values():
            tensor.fill_(3)
    assert torch.equal(learner.predict(state, tasks), logits)


@every_learner
def test_the_answer_is_the_same_twice_and_has_no_graph(name, policy):
    learner, state, tasks = made(name, policy)
    first, second = learner.meta_gradient(state, tasks), learner.meta_gradient(state, tasks)
    assert torch.equal(flat(first.gradients), flat(second.gradients)) and torch.equal(first.loss, second.loss)
    logits = learner.predict(state, tasks)
    assert torch.equal(logits, learner.predict(state, tasks))
    held = [logits, first.loss, first.accuracy, *first.gradients.values(), *first.statistics.values()]
    assert not any(tensor.requires_grad for tensor in held)
    with torch.no_grad():
        assert torch.equal(logits, learner.predict(state, tasks))
        assert torch.equal(flat(learner.meta_gradient(state, tasks).gradients), flat(first.gradients))


@every_learner
def test_predictions_do_not_read_the_labels_of_queries_but_those_of_the_support(name, policy):
    learner, state, tasks = made(name, policy)
    logits = learner.predict(state, tasks)
    hidden = dataclasses.replace(tasks, query_labels=torch.zeros_like(tasks.query_labels))
    assert torch.equal(learner.predict(state, hidden), logits)
    other = dataclasses.replace(tasks, support_labels=(tasks.support_labels + 1) % WAY)
    assert not torch.allclose(learner.predict(state, other), logits)


@every_learner
def test_the_setting_says_whether_queries_see_each_other(name, policy):
    learner, state, tasks = made(name, policy)
    changed = tasks.query.clone()
    changed[:, 1:] = changed[:, 1:].flip(1) * 2 + 1
    here = learner.predict(state, tasks)[:, 0]
    there = learner.predict(state, dataclasses.replace(tasks, query=changed))[:, 0]
    assert learner.setting in ("inductive", "transductive")
    assert torch.allclose(here, there, atol=1e-5) == (learner.setting == "inductive")


@every_learner
def test_reordering_the_queries_reorders_their_logits(name, policy):
    learner, state, tasks = made(name, policy)
    order = torch.randperm(tasks.query.shape[1], generator=torch.Generator().manual_seed(0))
    moved = dataclasses.replace(tasks, query=tasks.query[:, order])
    close(learner.predict(state, moved), learner.predict(state, tasks)[:, order])


@every_learner
def test_a_task_does_not_see_the_other_tasks_of_its_batch(name, policy):
    learner, state, tasks = made(name, policy)
    close(
        learner.predict(state, tasks), torch.cat([learner.predict(state, one_of(tasks, place)) for place in range(2)])
    )
    both = learner.meta_gradient(state, tasks)
    alone = [learner.meta_gradient(state, one_of(tasks, place)) for place in range(2)]
    close(both.loss, torch.cat([one.loss for one in alone]))
    close(flat(both.gradients), sum(flat(one.gradients) for one in alone) / 2, 1e-3)


@every_learner
def test_small_steps_down_the_meta_gradient_lower_the_loss(name, policy):
    learner, state, tasks = made(name, policy)
    found = learner.meta_gradient(state, tasks)
    step = 1e-2 / flat(found.gradients).norm()
    lower = {entry: value - step * found.gradients.get(entry, 0) for entry, value in state.items()}
    assert learner.meta_gradient(lower, tasks).loss.mean() < found.loss.mean()


@every_learner
def test_a_start_that_is_not_finite_is_refused(name, policy):
    learner, state, tasks = made(name, policy)
    for entry in learner.learned(state):
        broken = {**state, entry: torch.full_like(state[entry], math.nan)}
        with pytest.raises(TrainingError, match="[Ll]ower"):
            learner.meta_gradient(broken, tasks)


def test_a_meta_learner_is_abstract_without_its_parts():
    with pytest.raises(TypeError):
        MetaLearner(None, None)
