"""Pruning by rank against complete traces of the reference implementation, and against what it must do by design."""

import itertools
import json
import math
import pathlib
import zlib
from types import SimpleNamespace

import pytest
import torch

from pipeline.core.errors import CapabilityError, ScoreError
from pipeline.strategies.indicators import Indicator, Measured, dense_ranks, rank_together, to_significant
from pipeline.strategies.prune_by_rank import PruneByRank, Removal

GOLDEN = pathlib.Path(__file__).parent.parent / "golden"
SIZES = {"darts_fewshot": (2, 9, 8), "darts": (2, 14, 8), "nas-bench-201": (1, 6, 5)}
GROUPS = {"darts_fewshot": [(0, 2), (2, 5), (5, 9)], "darts": [(0, 2), (2, 5), (5, 9), (9, 14)], "nas-bench-201": []}
TRACES = [
    trace
    for file in ("search_traces.json", "search_traces_nb201.json")
    for trace in json.loads((GOLDEN / file).read_text())["traces"]
]


def plain_space(name: str) -> SimpleNamespace:
    """A search space as pruning sees it: sizes and groups, `none` off, nothing else."""
    mask = torch.ones(SIZES[name], dtype=torch.bool)
    mask[..., 0] = False
    return SimpleNamespace(full_mask=lambda: mask, edge_groups=GROUPS[name], genotype_of=lambda mask: digits(mask))


def digits(mask: torch.Tensor) -> str:
    return "".join(str(int(active)) for active in mask.flatten().tolist())


def stand_in(kind: str, repeat: int, mask: torch.Tensor) -> float:
    checksum = zlib.crc32(f"{kind}|{repeat}|{digits(mask)}".encode())
    return 1 + checksum % 997 / 37 if kind == "ntk" else 500 + checksum % 41


def measure(strategy: PruneByRank, names=("ntk", "lr"), repeats: int = 3) -> dict[str, Measured]:
    return {
        name: Measured(
            values=[[stand_in(name, r, strategy.masked(one)) for r in range(repeats)] for one in strategy.ask()],
            origins=[[stand_in(name, r, strategy.origin(name)) for r in range(repeats)]],
        )
        for name in names
    }


INDICATORS = (Indicator("ntk", False, stale_origin_in_groups=True), Indicator("lr", True))


def by_edge(removals) -> list[list[list[int]]]:
    """Removals grouped by edge, edges in the order in which they lose their first operation."""
    grouped: dict = {}
    for removal in removals:
        grouped.setdefault(removal[:2], []).append(list(removal))
    return list(grouped.values())


@pytest.mark.parametrize("trace", TRACES, ids=lambda trace: f"{trace['space']}-p{trace['prune_number']}")
def test_the_trace_is_the_one_of_the_reference_implementation(trace):
    strategy = PruneByRank(plain_space(trace["space"]), INDICATORS, prune_number=trace["prune_number"])
    n_pairs = 0
    announced = strategy.sizes_left()
    for wanted in trace["rounds"]:
        n_candidates = len(strategy.ask())
        verdicts = strategy.tell(measure(strategy))
        assert n_candidates == wanted["evaluations"]
        assert by_edge(v.candidate for v in verdicts if v.event == "pruned") == wanted["pruned"]
        assert digits(strategy.mask) == wanted["mask"]
        n_pairs += n_candidates
    assert announced[: len(trace["rounds"])] == [one["evaluations"] for one in trace["rounds"]]
    n_group_candidates = 0
    while not strategy.finished:
        n_group_candidates += len(strategy.ask())
        strategy.tell(measure(strategy))
    assert n_group_candidates == trace.get("group_evaluations", 0)
    assert digits(strategy.mask) == trace["final_mask"]
    assert (n_pairs + n_group_candidates) * 3 == trace["ntk_pair_calls"]
    assert sum(announced) == n_pairs + n_group_candidates


@pytest.mark.parametrize("trace", TRACES, ids=lambda trace: f"{trace['space']}-p{trace['prune_number']}")
def test_the_final_genotype_is_the_one_of_the_reference_implementation(trace):
    spaces = pytest.importorskip("pipeline.spaces")
    name = trace["space"].replace("-", "_")
    if name not in spaces.names():
        pytest.skip(f"the space {name} is not part of the package")
    space = spaces.get(name)()
    strategy = PruneByRank(space, INDICATORS, prune_number=trace["prune_number"])
    while not strategy.finished:
        strategy.tell(measure(strategy))
    (genotype,) = strategy.found()
    wanted = trace.get("genotype") or trace["arch"]
    assert genotype == space.from_text(wanted)


def test_dropping_an_indicator_equals_telling_zeros_for_it():
    both = PruneByRank(plain_space("darts_fewshot"), INDICATORS, prune_number=3)
    alone = PruneByRank(plain_space("darts_fewshot"), INDICATORS[1:], prune_number=3)
    while not both.finished:
        measured = measure(both)
        n_candidates = len(both.ask())
        constant = Measured(values=[[1.0] * 3] * n_candidates, origins=[[1.0] * 3])
        both.tell({"ntk": constant, "lr": measured["lr"]})
        alone.tell(measure(alone, names=("lr",)))
        assert torch.equal(both.mask, alone.mask)
    assert alone.finished


def test_every_edge_ends_with_one_operation_and_every_node_with_two_inputs():
    strategy = PruneByRank(plain_space("darts_fewshot"), INDICATORS, prune_number=2)
    while not strategy.finished:
        strategy.tell(measure(strategy))
    assert (strategy.mask.sum(-1) <= 1).all()
    for cell, (start, stop) in itertools.product(range(2), GROUPS["darts_fewshot"]):
        assert strategy.mask[cell, start:stop].sum() == 2


@pytest.mark.parametrize("prune_number, n_rounds", [(1, 6), (2, 3), (3, 2), (6, 1), (100, 1)])
def test_prune_number_sets_the_number_of_rounds(prune_number, n_rounds):
    space = plain_space("darts_fewshot")
    space.edge_groups = []
    strategy = PruneByRank(space, INDICATORS, prune_number=prune_number)
    while not strategy.finished:
        strategy.tell(measure(strategy))
    assert strategy.round == n_rounds


def test_the_best_removal_goes_first_whichever_way_the_indicator_points():
    for higher_is_better in (True, False):
        space = SimpleNamespace(
            full_mask=lambda: torch.ones(1, 1, 3, dtype=torch.bool), edge_groups=[], genotype_of=lambda mask: mask
        )
        strategy = PruneByRank(space, [Indicator("x", higher_is_better)])
        strategy.tell({"x": Measured(values=[[1.0], [2.0], [3.0]], origins=[[2.0]])})
        best = 2 if higher_is_better else 0
        assert not strategy.mask[0, 0, best]
        assert strategy.mask.sum() == 2


def one_edge(n_operations: int) -> PruneByRank:
    mask = torch.ones(1, 1, n_operations, dtype=torch.bool)
    space = SimpleNamespace(full_mask=lambda: mask, edge_groups=[], genotype_of=lambda mask: mask)
    return PruneByRank(space, [Indicator("x", False)])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_candidate_without_a_finite_value_is_ranked_last_and_never_gets_a_number(bad):
    strategy = one_edge(3)
    verdicts = strategy.tell({"x": Measured(values=[[bad], [9.0], [5.0]], origins=[[2.0]])})
    assert [v.candidate.operation for v in verdicts] == [2, 1, 0]
    assert math.isnan(verdicts[-1].changes["x"][0])
    assert not math.isfinite(verdicts[-1].values["x"])


def test_several_undefined_candidates_share_the_last_rank():
    order, ranks = dense_ranks([math.nan, 3.0, math.inf, 1.0], descending=True)
    assert order == [1, 3, 0, 2]
    assert ranks == [2, 0, 2, 1]


def test_a_repeat_with_an_undefined_origin_is_left_out_for_all_candidates():
    strategy = one_edge(3)
    verdicts = strategy.tell({"x": Measured(values=[[1.0, 7.0], [2.0, 7.0], [3.0, 7.0]], origins=[[2.0, math.nan]])})
    assert [v.candidate.operation for v in verdicts] == [0, 1, 2]
    assert all(math.isnan(v.changes["x"][1]) for v in verdicts)


@pytest.mark.parametrize("values, origin", [([[math.nan]] * 3, 2.0), ([[1.0]] * 3, math.inf), ([[1.0]] * 3, 0.0)])
def test_no_finite_value_at_all_is_an_error_that_names_the_indicator(values, origin):
    with pytest.raises(ScoreError, match="'x'"):
        one_edge(3).tell({"x": Measured(values=values, origins=[[origin]])})


def test_numbers_that_are_none_are_counted():
    measured = Measured(values=[[1.0, math.nan], [math.inf, 2.0]], origins=[[math.nan, 1.0]])
    assert measured.n_not_finite == 3


def test_pruning_without_indicators_is_refused():
    with pytest.raises(CapabilityError, match="indicator"):
        PruneByRank(plain_space("darts_fewshot"), [])


@pytest.mark.parametrize(
    "value, wanted", [(0.0, 0.0), (0.12345, 0.123), (-0.0012345, -0.00123), (12.35, 12.4), (1234.5, 1230.0)]
)
def test_rounding_keeps_three_significant_digits(value, wanted):
    assert to_significant(value) == pytest.approx(wanted, rel=1e-9)


def test_neighbours_share_a_rank_only_if_equal_before_rounding():
    order, ranks = dense_ranks([0.12341, 0.12342, 0.12342, 0.5], descending=False)
    assert order == [0, 1, 2, 3]
    assert ranks == [0, 1, 1, 2]


def test_equal_sums_of_ranks_keep_the_order_of_the_first_indicator():
    order, totals = rank_together([([1.0, 2.0, 3.0], True), ([3.0, 2.0, 1.0], True)])
    assert totals == [2, 2, 2]
    assert order == [2, 1, 0]


def test_only_the_indicator_with_the_parity_quirk_keeps_a_stale_origin_in_the_group_phase():
    strategy = PruneByRank(plain_space("darts_fewshot"), INDICATORS, prune_number=6)
    strategy.tell(measure(strategy))
    start = strategy.mask
    strategy.tell(measure(strategy))
    assert torch.equal(strategy.origin("ntk"), start)
    assert torch.equal(strategy.origin("lr"), strategy.mask)
    assert not torch.equal(strategy.mask, start)


def test_a_candidate_differs_from_its_origin_in_one_operation():
    strategy = PruneByRank(plain_space("nas-bench-201"), INDICATORS)
    for candidate in strategy.ask():
        difference = strategy.masked(candidate) ^ strategy.mask
        assert difference.nonzero().tolist() == [list(candidate)]
    assert strategy.ask()[0] == Removal(0, 0, 1)
