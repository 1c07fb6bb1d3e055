"""What every strategy in the registry must do, on a toy space whose optimum is known."""

import io
import json
import subprocess
import sys

import pytest
import torch

from pipeline import strategies
from tests.strategies.toy import BEST, answer, start, trace

every_strategy = pytest.mark.parametrize("name", strategies.names())


@every_strategy
def test_a_separable_score_leads_to_its_optimum(name):
    strategy = start(name)
    while not strategy.finished:
        strategy.tell(answer(strategy))
    assert strategy.found()[0] == BEST


@every_strategy
def test_equal_seeds_give_equal_traces_also_in_another_process(name):
    program = f"import json; from tests.strategies.toy import trace; print(json.dumps(trace({name!r}, 7)))"
    elsewhere = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert trace(name, 7) == trace(name, 7) == json.loads(elsewhere.stdout)


@every_strategy
def test_a_search_goes_on_from_its_saved_state_to_the_same_end(name):
    whole = trace(name, 3)
    for n_told in range(len(whole) - 1):
        first = start(name, 3)
        for _ in range(n_told):
            first.tell(answer(first))
        file = io.BytesIO()
        torch.save(first.state_dict(), file)
        file.seek(0)
        second = start(name, 3)
        second.load_state_dict(torch.load(file, weights_only=True))
        rest = []
        while not second.finished:
            rest.append(str(second.ask()))
            second.tell(answer(second))
        assert [*rest, str(second.found())] == whole[n_told:]


@every_strategy
def test_the_sizes_of_all_questions_are_known_beforehand(name):
    strategy = start(name)
    announced, asked = strategy.sizes_left(), []
    while not strategy.finished:
        asked.append(len(strategy.ask()))
        strategy.tell(answer(strategy))
    assert announced == asked
    assert strategy.sizes_left() == []


@every_strategy
def test_nothing_is_drawn_from_the_global_generator(name):
    before = torch.get_rng_state()
    trace(name)
    assert torch.equal(torch.get_rng_state(), before)
