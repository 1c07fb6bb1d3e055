"""Counting activation patterns: exact, and equal to the published formula."""

import json
import pathlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline import kernels
from pipeline.kernels.errors import KernelError

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
CASES = json.loads((GOLDEN / "linear_region_matrix_cases.json").read_text())
MATRICES = dict(np.load(GOLDEN / "linear_region_matrix_cases.npz"))


def published_formula(patterns):
    """Sum over inputs of 1 / (number of inputs with no differing neuron), through the full matrix of differences."""
    active = np.asarray(patterns, np.float64)
    differing = active @ (1 - active).T
    same = 1 - np.sign(differing + differing.T)
    return (1 / same.sum(axis=1)).sum()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"case{case['case']}")
def test_the_counts_of_the_reference_are_reproduced(case):
    activations = torch.from_numpy(MATRICES[f"a{case['case']}"])
    assert kernels.count_linear_regions(activations > 0) == case["distinct_sign_rows"]
    assert kernels.count_linear_regions(activations) == round(case["count_reference"])


@settings(max_examples=60, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 20))))
def test_the_count_equals_the_published_formula(patterns):
    assert kernels.count_linear_regions(torch.from_numpy(patterns)) == round(published_formula(patterns))


@settings(max_examples=30, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 30), st.integers(1, 20))), st.randoms())
def test_the_order_of_inputs_and_neurons_and_repeated_inputs_do_not_change_the_count(patterns, random):
    rows, columns = list(range(patterns.shape[0])), list(range(patterns.shape[1]))
    random.shuffle(rows)
    random.shuffle(columns)
    count = kernels.count_linear_regions(torch.from_numpy(patterns))
    assert kernels.count_linear_regions(torch.from_numpy(patterns[rows][:, columns])) == count
    assert kernels.count_linear_regions(torch.from_numpy(np.concatenate([patterns, patterns]))) == count
    assert 1 <= count <= min(len(patterns), 2 ** min(patterns.shape[1], 20))


def test_every_bit_of_long_patterns_counts():
    patterns = torch.zeros(1001, 1000, dtype=torch.bool)
    patterns[:1000].fill_diagonal_(True)
    assert kernels.count_linear_regions(patterns) == 1001


def test_no_inputs_have_no_regions_and_inputs_of_no_neurons_share_one():
    assert kernels.count_linear_regions(torch.zeros(0, 7, dtype=torch.bool)) == 0
    assert kernels.count_linear_regions(torch.zeros(5, 0, dtype=torch.bool)) == 1


def test_patterns_that_are_no_matrix_are_refused():
    with pytest.raises(KernelError, match=r"\(2, 3, 4\)"):
        kernels.count_linear_regions(torch.zeros(2, 3, 4))
