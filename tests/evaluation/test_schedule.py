"""Plans of jobs on nodes, against all orders of small ones."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.evaluation.schedule import critical_path, end, tails


@st.composite
def plans(draw):
    """Up to five jobs with whole seconds, each waiting for some of the earlier ones."""
    n = draw(st.integers(1, 5))
    seconds = {f"job{i}": float(draw(st.integers(0, 5))) for i in range(n)}
    after = {f"job{i}": {f"job{j}" for j in range(i) if draw(st.booleans())} for i in range(n)}
    return seconds, after


def best_end(seconds, after, n_nodes):
    """The soonest end over all orders in which jobs may be taken, each by the node that is free first."""
    ends = []
    for order in itertools.permutations(seconds):
        if any(order.index(job) < order.index(one) for job, earlier in after.items() for one in earlier):
            continue
        free, done = [0.0] * n_nodes, {}
        for job in order:
            free.sort()
            begin = max([free[0], *(done[one] for one in after[job])])
            free[0] = done[job] = begin + seconds[job]
        ends.append(max(done.values()))
    return min(ends)


@settings(deadline=None, max_examples=40)
@given(plans(), st.integers(1, 3))
def test_a_plan_ends_between_the_best_one_and_grahams_bound(plan, n_nodes):
    seconds, after = plan
    found, best = end(seconds, after, n_nodes), best_end(seconds, after, n_nodes)
    assert best - 1e-9 <= found <= (2 - 1 / n_nodes) * best + 1e-9


@settings(deadline=None, max_examples=40)
@given(plans())
def test_the_critical_path_is_the_end_where_nodes_are_plenty_and_the_sum_where_there_is_one(plan):
    seconds, after = plan
    path = critical_path(seconds, after)
    assert all(one in after[job] for one, job in itertools.pairwise(path))
    longest = sum(seconds[job] for job in path)
    assert longest == pytest.approx(max(tails(seconds, after).values()))
    assert end(seconds, after, len(seconds)) == pytest.approx(longest)
    assert end(seconds, after, 1) == pytest.approx(sum(seconds.values()))


def test_a_free_node_takes_the_job_with_the_longest_tail():
    seconds = {"short": 1.0, "long": 1.0, "after long": 5.0, "other": 1.0}
    assert end(seconds, {"after long": {"long"}}, 2) == 6.0
