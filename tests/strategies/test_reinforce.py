"""REINFORCE and its reward against the reference's buffer, and against what they must do by design."""

import itertools
import json
import math
import pathlib

import pytest
import torch

from pipeline import spaces
from pipeline.core.errors import CapabilityError, ConfigError, ScoreError
from pipeline.strategies.history_reward import HistoryReward
from pipeline.strategies.indicators import Indicator, Measured, best_by_ranks
from pipeline.strategies.reinforce import Reinforce
from tests.strategies.toy import BEST, INDICATOR, ToySpace, answer

GOLDEN = json.loads((pathlib.Path(__file__).parent.parent / "golden" / "tegnas_reward_buffer.json").read_text())
INDICATORS = (Indicator("ntk", False), Indicator("mse", False), Indicator("region", True))
# from step 10 on the reference has overwritten failed entries in all buffers; from 25 on none is left in the window
AGREEING = [*range(1, 10), *range(25, 30)]


def rewards(sequence, window=10):
    reward = HistoryReward(INDICATORS, window)
    return [
        reward.add(
            {"region": one["region"], **{name: math.nan if one["bad"] else one[name] for name in ("ntk", "mse")}}
        )
        for one in sequence
    ]


def test_rewards_are_those_of_the_reference_where_its_buffers_are_sound():
    mine = rewards(GOLDEN["sequence"])
    assert mine[0] == 0
    for step in AGREEING:
        assert mine[step] == pytest.approx(GOLDEN["rewards"][step], rel=1e-12)


def test_the_best_of_the_history_is_the_one_the_reference_chooses():
    buffers = GOLDEN["buffers"]
    columns = [(buffers[item.name], item.higher_is_better) for item in INDICATORS]
    assert best_by_ranks(columns) == GOLDEN["best_index"]


def slow_reward(values, window, higher_is_better):
    """The last reward of one indicator, from its definition."""
    finite = [value for value in values if math.isfinite(value)]
    worst = min(finite) if higher_is_better else max(finite)
    values = [value if math.isfinite(value) else worst for value in values]
    recent = values[max(0, len(values) - window) :]
    change = (values[-1] - values[-2]) / (max(recent) - min(recent) + 1e-6)
    return change if higher_is_better else -change


@pytest.mark.parametrize("window", [2, 5, 10])
def test_a_reward_is_the_sum_of_the_changes_of_all_indicators(window):
    generator = torch.Generator().manual_seed(window)
    values = torch.randn(30, 3, generator=generator).exp().tolist()
    for row, column in ((4, 0), (5, 2), (17, 1)):
        values[row][column] = math.inf
    reward = HistoryReward(INDICATORS, window)
    for step, row in enumerate(values):
        got = reward.add(dict(zip(("ntk", "mse", "region"), row, strict=True)))
        if step:
            past = list(zip(*values[: step + 1], strict=True))
            slow = sum(
                slow_reward(one, window, item.higher_is_better) for one, item in zip(past, INDICATORS, strict=True)
            )
            assert got == pytest.approx(slow)


def test_a_failure_before_any_success_changes_nothing():
    reward = HistoryReward([INDICATOR])
    assert [reward.add({"quality": value}) for value in (math.nan, math.inf)] == [0, 0]


def reinforce(seed=0, **knobs):
    return Reinforce(ToySpace(), [INDICATOR], torch.Generator().manual_seed(seed), **({"n_steps": 400} | knobs))


@pytest.mark.parametrize("seed", range(3))
def test_the_policy_itself_comes_to_prefer_the_best(seed):
    strategy = reinforce(seed, choose_from="policy", learning_rate=0.1)
    while not strategy.finished:
        strategy.tell(answer(strategy))
    assert strategy.found() == [BEST]


def test_the_first_step_leaves_the_policy_as_it_is():
    strategy = reinforce()
    before = [one.detach().clone() for one in strategy.logits]
    strategy.tell(answer(strategy))
    assert all(torch.equal(a, b) for a, b in zip(before, strategy.logits, strict=True))


def test_a_step_is_that_of_adam_on_the_advantage():
    strategy = reinforce(n_steps=3, learning_rate=0.05, baseline_momentum=0.5)
    twin = [one.detach().clone().requires_grad_() for one in strategy.logits]
    optimiser = torch.optim.Adam(twin, 0.05)
    quality, told = [3.0, 7.0, 5.0], []
    for step, value in enumerate(quality):
        (genotype,) = strategy.ask()
        chosen = torch.tensor(genotype).sub(1).unsqueeze(1)
        told.append(value)
        ranges = [max(told[:i]) - min(told[:i]) + 1e-6 for i in range(2, len(told) + 1)]
        changes = [after - before for before, after in itertools.pairwise(told)]
        rewards_so_far = [0.0, *(change / size for change, size in zip(changes, ranges, strict=True))]
        weights = [0.5 ** (step - i) for i in range(step + 1)]
        baseline = sum(w * r for w, r in zip(weights, rewards_so_far, strict=True)) / sum(weights)
        loss = -twin[0].log_softmax(-1).gather(1, chosen).sum() * (rewards_so_far[-1] - baseline)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        strategy.tell({"quality": Measured([[value]])})
        torch.testing.assert_close(strategy.logits[0].detach(), twin[0].detach())


def test_the_log_probability_of_a_cell_is_that_of_its_operations():
    space = spaces.get("nas_bench_201")()
    logits = [torch.randn(6, 5, generator=torch.Generator().manual_seed(0))]
    genotype, log_probability = space.sample_from_policy(logits, torch.Generator().manual_seed(1))
    rows = [space.operations.index(name) for name in genotype.operations]
    assert log_probability == pytest.approx(sum(float(logits[0][e].log_softmax(0)[o]) for e, o in enumerate(rows)))


def test_the_edges_that_a_node_keeps_are_those_with_strong_operations():
    space = spaces.get("darts")()
    logits = [torch.zeros(14, 7), torch.zeros(14, 7)]
    # the last node's edges are 9 to 13; only two of them draw operations with high logits
    for edge in (10, 13):
        logits[0][edge] = torch.full((7,), 30.0)
    for seed in range(10):
        genotype, _ = space.sample_from_policy(logits, torch.Generator().manual_seed(seed))
        assert [source for _, source in genotype.normal[-1]] == [1, 4]


def test_what_it_cannot_work_with_is_refused():
    with pytest.raises(CapabilityError):
        Reinforce(ToySpace(), [INDICATOR])
    with pytest.raises(CapabilityError):
        Reinforce(spaces.get("conv4")(), [INDICATOR], torch.Generator())
    with pytest.raises(ConfigError):
        reinforce(choose_from="luck")


def test_an_indicator_without_any_number_is_an_error_at_the_end():
    strategy = reinforce(n_steps=2)
    strategy.tell({"quality": Measured([[math.nan]])})
    with pytest.raises(ScoreError, match="quality"):
        strategy.tell({"quality": Measured([[math.inf]])})


def test_the_published_sizes_are_the_defaults():
    strategy = Reinforce(ToySpace(), [INDICATOR], torch.Generator().manual_seed(0))
    assert len(strategy.sizes_left()) == 500 and strategy.baseline_momentum == 0.9 and strategy.reward.window == 10
