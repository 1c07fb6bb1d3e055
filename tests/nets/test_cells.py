import pytest
import torch
from torch import nn

from pipeline.core.errors import ConfigError
from pipeline.nets.cell_network import reduction_cells
from pipeline.nets.cells import DiscreteCell, MaskedCell, edge_list
from pipeline.nets.drop_path import DropPath
from pipeline.nets.init import initialise

OPERATIONS = ("none", "skip_connect", "sep_conv_3x3", "max_pool_3x3BN", "conv_1x5_5x1", "avg_pool_3x3")


def masked_cell(reduction, after_reduction):
    cell = MaskedCell(OPERATIONS, 3, 6, 8, 4, reduction, after_reduction)
    return initialise(cell, "torch_default", torch.Generator().manual_seed(0)).eval()


def inputs(after_reduction, size=7):
    generator = torch.Generator().manual_seed(1)
    before = torch.randn(
        2, 6, 2 * size - 1 if after_reduction else size, size * (1 + after_reduction), generator=generator
    )
    return before, torch.randn(2, 8, size, size, generator=generator)


def random_rows(seed):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(9, len(OPERATIONS), generator=generator) < 0.4).tolist()


def slow_cell(cell, rows, before, previous):
    """Each operation run by itself on the raw node, each edge the plain mean."""
    nodes = [cell.preprocess0(before), cell.preprocess1(previous)]
    for target in (2, 3, 4):
        total = 0
        for (source, end), row, candidates in zip(edge_list(3), rows, cell.edges, strict=True):
            if end == target:
                active = [name for name, on in zip(OPERATIONS, row, strict=True) if on]
                for name in active:
                    if name != "none":
                        total = total + candidates[name](nodes[source]) / len(active)
        nodes.append(total)
    return torch.cat(nodes[2:], dim=1)


@pytest.mark.parametrize("reduction", [False, True])
@pytest.mark.parametrize("after_reduction", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_cell_that_shares_node_relus_equals_one_that_runs_each_operation_alone(reduction, after_reduction, seed):
    cell, (before, previous) = masked_cell(reduction, after_reduction), inputs(after_reduction)
    rows = random_rows(seed)
    cell.set_mask(rows)
    torch.testing.assert_close(cell(before, previous), slow_cell(cell, rows, before, previous), rtol=1e-5, atol=1e-6)


def test_a_node_is_rectified_and_pooled_once_however_many_operations_read_it():
    cell = masked_cell(True, False)
    cell.set_mask([[name != "none" for name in OPERATIONS]] * 9)
    seen = {"relu": 0, "maximum": 0, "average": 0}
    kinds = {nn.ReLU: "relu", nn.MaxPool2d: "maximum", nn.AvgPool2d: "average"}

    def count(module, *_):
        for kind, word in kinds.items():
            seen[word] += isinstance(module, kind)

    for module in cell.modules():
        module.register_forward_hook(count)
    cell(*inputs(False))
    # nodes 0 to 3 feed later nodes; besides: 2 preprocessing ReLUs and the inner ReLU of 9 separable convolutions
    assert seen == {"relu": 4 + 2 + 9, "maximum": 4, "average": 4}


def test_a_node_without_active_edges_is_zero_of_the_right_size():
    cell, (before, previous) = masked_cell(True, False), inputs(False)
    rows = [[False] * len(OPERATIONS)] * 9
    cell.set_mask(rows)
    out = cell(before, previous)
    assert out.shape == (2, 12, 4, 4) and not out.any()


def test_edges_are_numbered_node_by_node():
    assert edge_list(3) == [(0, 2), (1, 2), (0, 3), (1, 3), (2, 3), (0, 4), (1, 4), (2, 4), (3, 4)]
    assert len(edge_list(4)) == 14


@pytest.mark.parametrize(
    ("n_cells", "expected"), [(1, set()), (2, {1}), (3, {1, 2}), (5, {1, 3}), (8, {2, 5}), (20, {6, 13})]
)
def test_reductions_stand_at_a_third_and_two_thirds_of_the_depth(n_cells, expected):
    assert reduction_cells(n_cells) == expected


def test_a_network_of_no_cells_is_refused():
    with pytest.raises(ConfigError, match="at least 1 cell"):
        reduction_cells(0)


def test_drop_path_spares_the_identity_and_drops_everything_else():
    drop_path = DropPath()
    drop_path.probability, drop_path.generator = 1 - 1e-12, torch.Generator().manual_seed(0)
    kept = DiscreteCell([[("skip_connect", 0), ("conv_3x3", 1)]], drop_path, 4, 4, 4, False, False)
    before, previous = torch.randn(2, 2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(kept(before, previous), kept.preprocess0(before))
    reduced = DiscreteCell([[("skip_connect", 0), ("conv_3x3", 1)]], drop_path, 4, 4, 4, True, False)
    assert not reduced(before, previous).any()
