"""The MetaNTK against the reference's numbers, a slow oracle and what theory says of it."""

import json
import math
import pathlib

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import kernels
from pipeline.kernels.errors import KernelError

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
CASES = json.loads((GOLDEN / "metantk_matrix_cases.json").read_text())
MATRICES = dict(np.load(GOLDEN / "metantk_matrix_cases.npz"))


def psd(n, generator, rank=None, scale=1.0):
    """A random positive semidefinite matrix (n n), definite unless `rank` < n."""
    factor = torch.randn(n, rank or 2 * n, generator=generator, dtype=torch.float64)
    return scale * factor @ factor.mT


def oracle(ntk, inner, n_tasks, n_query, n_support, time, reg):
    """The definition with general matrix functions, block by block."""
    ntk, inner = np.asarray(ntk, np.float64), np.asarray(inner, np.float64)
    q = [range(i * n_query, (i + 1) * n_query) for i in range(n_tasks)]
    first = n_tasks * n_query
    s = [range(first + i * n_support, first + (i + 1) * n_support) for i in range(n_tasks)]
    a = []
    for i in range(n_tasks):
        k = inner[np.ix_(s[i], s[i])]
        t = scipy.linalg.pinvh(k + reg * np.eye(n_support))
        if time != math.inf:
            t = t @ (np.eye(n_support) - scipy.linalg.expm(-time * k))
        a.append(inner[np.ix_(q[i], s[i])] @ t)
    blocks = [
        [
            ntk[np.ix_(q[i], q[j])]
            - a[i] @ ntk[np.ix_(s[i], q[j])]
            - ntk[np.ix_(q[i], s[j])] @ a[j].T
            + a[i] @ ntk[np.ix_(s[i], s[j])] @ a[j].T
            for j in range(n_tasks)
        ]
        for i in range(n_tasks)
    ]
    return np.block(blocks)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"case{case['case']}")
def test_the_metantk_of_the_reference_is_reproduced(case):
    ntk, nngp = (MATRICES[f"k{case['kernels']}_{kind}"] for kind in ("ntk", "nngp"))
    kernel = kernels.meta_ntk(
        torch.from_numpy(ntk),
        torch.from_numpy(ntk if case["algorithm"] == "MAML" else nngp),
        n_tasks=case["n_tasks"],
        n_query=case["n_query"],
        n_support=case["n_support"],
        inner_lr_time=float(case["inner_lr_time"]),
        reg_coef=case["reg_coef"],
    )
    rtol = 1e-6 if case["dtype"] == "float64" else 1e-5
    expected = MATRICES[f"c{case['case']}_metantk"]
    np.testing.assert_allclose(kernel, expected, rtol=rtol, atol=rtol * np.abs(expected).max())
    np.testing.assert_allclose(torch.linalg.eigvalsh(kernel), MATRICES[f"c{case['case']}_eig"], rtol=10 * rtol)
    assert kernels.condition_number(kernel) == pytest.approx(case["cond"], rel=10 * rtol)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    n_tasks=st.integers(1, 4),
    n_query=st.integers(1, 6),
    n_support=st.integers(1, 6),
    time=st.sampled_from([0.0, 1e-3, 0.1, 1.0, math.inf]),
    reg=st.sampled_from([1e-3, 1e-1, 10.0]),
)
def test_the_metantk_equals_the_definition_with_general_matrix_functions(seed, n_tasks, n_query, n_support, time, reg):
    generator = torch.Generator().manual_seed(seed)
    n = n_tasks * (n_query + n_support)
    ntk, inner = psd(n, generator), psd(n, generator)
    sizes = {"n_tasks": n_tasks, "n_query": n_query, "n_support": n_support}
    ours = kernels.meta_ntk(ntk, inner, **sizes, inner_lr_time=time, reg_coef=reg)
    expected = oracle(ntk, inner, n_tasks, n_query, n_support, time, reg)
    np.testing.assert_allclose(ours, expected, atol=1e-7 * np.abs(expected).max())
    assert ours.dtype == torch.float64


def kernel_pair(seed=0, n_tasks=3, n_query=4, n_support=5):
    generator = torch.Generator().manual_seed(seed)
    n = n_tasks * (n_query + n_support)
    return psd(n, generator), psd(n, generator), {"n_tasks": n_tasks, "n_query": n_query, "n_support": n_support}


def test_no_inner_time_leaves_the_query_block_of_the_ntk():
    ntk, inner, sizes = kernel_pair()
    kernel = kernels.meta_ntk(ntk, inner, **sizes, inner_lr_time=0.0, reg_coef=1e-3)
    torch.testing.assert_close(kernel, ntk[:12, :12])


def test_one_task_learnt_to_convergence_by_maml_is_the_schur_complement_of_its_support():
    ntk, _, sizes = kernel_pair(n_tasks=1)
    kernel = kernels.meta_ntk(ntk, ntk, **sizes, inner_lr_time=math.inf, reg_coef=0.0)
    schur = ntk[:4, :4] - ntk[:4, 4:] @ torch.linalg.solve(ntk[4:, 4:], ntk[4:, :4])
    torch.testing.assert_close(kernel, schur)


def test_a_thousand_and_more_means_an_infinite_inner_time():
    ntk, inner, sizes = kernel_pair()
    endless = kernels.meta_ntk(ntk * 1e-6, inner * 1e-6, **sizes, inner_lr_time=math.inf, reg_coef=0.0)
    thousand = kernels.meta_ntk(ntk * 1e-6, inner * 1e-6, **sizes, inner_lr_time=1000, reg_coef=0.0)
    shorter = kernels.meta_ntk(ntk * 1e-6, inner * 1e-6, **sizes, inner_lr_time=999.0, reg_coef=0.0)
    assert torch.equal(endless, thousand)
    assert not torch.allclose(endless, shorter, rtol=1e-3, atol=0)


def test_without_ridge_the_condition_number_does_not_depend_on_the_scale_and_with_ridge_it_does():
    ntk, _, sizes = kernel_pair()

    def cond(scale, reg):
        kernel = kernels.meta_ntk(scale * ntk, scale * ntk, **sizes, inner_lr_time=math.inf, reg_coef=reg)
        return kernels.condition_number(kernel)

    assert cond(1e-4, 0.0) == pytest.approx(cond(1.0, 0.0), rel=1e-8)
    assert cond(1e-4, 1e-2) != pytest.approx(cond(1.0, 1e-2), rel=1e-3)


def test_the_order_of_images_within_tasks_and_of_tasks_does_not_change_the_spectrum():
    ntk, inner, sizes = kernel_pair()
    tasks = [2, 0, 1]
    query = [4 * task + i for task in tasks for i in (3, 1, 0, 2)]
    support = [12 + 5 * task + i for task in tasks for i in (2, 4, 0, 1, 3)]
    order = torch.tensor(query + support)
    constants = {**sizes, "inner_lr_time": 1.0, "reg_coef": 1e-3}
    kernel = kernels.meta_ntk(ntk, inner, **constants)
    moved = kernels.meta_ntk(ntk[order][:, order], inner[order][:, order], **constants)
    torch.testing.assert_close(moved, kernel[query][:, query])
    assert kernels.condition_number(moved) == pytest.approx(kernels.condition_number(kernel), rel=1e-8)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    rank=st.integers(1, 30),
    time=st.sampled_from([0.1, 1.0, 999.0, math.inf]),
    maml=st.booleans(),
)
def test_the_metantk_of_positive_semidefinite_kernels_is_positive_semidefinite(seed, rank, time, maml):
    generator = torch.Generator().manual_seed(seed)
    ntk = psd(27, generator, rank=rank)
    inner = ntk if maml else psd(27, generator, rank=rank)
    kernel = kernels.meta_ntk(ntk, inner, n_tasks=3, n_query=4, n_support=5, inner_lr_time=time, reg_coef=1e-3)
    eigenvalues = torch.linalg.eigvalsh(kernel)
    scale = float(ntk.abs().max()) * (1 + float(inner.abs().max()) / 1e-3 * 1e-12)
    assert float(eigenvalues[0]) > -1e-7 * max(scale, float(eigenvalues[-1]))
    assert torch.equal(kernel, kernel.mT)


def test_kernels_of_the_wrong_size_shape_or_symmetry_are_refused_with_the_reason():
    ntk, inner, sizes = kernel_pair()
    constants = {**sizes, "inner_lr_time": 1.0, "reg_coef": 1e-3}
    with pytest.raises(KernelError, match="26 rows; 3 tasks of 4 query and 5 support images need 27"):
        kernels.meta_ntk(ntk[:26, :26], inner, **constants)
    with pytest.raises(KernelError, match="square"):
        kernels.meta_ntk(ntk, inner[:, :5], **constants)
    crooked = inner.clone()
    crooked[0, 1] += 0.1 * inner.abs().max()
    with pytest.raises(KernelError, match="not symmetric"):
        kernels.meta_ntk(ntk, crooked, **constants)
    with pytest.raises(KernelError, match="reg_coef is -1"):
        kernels.meta_ntk(ntk, inner, **{**constants, "reg_coef": -1})
    with pytest.raises(KernelError, match="inner_lr_time is nan"):
        kernels.meta_ntk(ntk, inner, **{**constants, "inner_lr_time": math.nan})
    with pytest.raises(KernelError, match="n_tasks is 0"):
        kernels.meta_ntk(ntk, inner, **{**constants, "n_tasks": 0})


def test_a_kernel_that_overflowed_has_an_infinite_condition_number():
    ntk, inner, sizes = kernel_pair()
    ntk[0, 0] = math.inf
    kernel = kernels.meta_ntk(ntk, inner, **sizes, inner_lr_time=1.0, reg_coef=1e-3)
    assert kernels.condition_number(kernel) == math.inf


def test_a_condition_number_is_the_ratio_of_the_extreme_eigenvalues():
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64))[0]
    eigenvalues = torch.tensor([0.5, 1.0, 2.0, 3.0, 5.0, 40.0], dtype=torch.float64)
    kernel = rotation @ torch.diag(eigenvalues) @ rotation.mT
    assert kernels.condition_number(kernel) == pytest.approx(80)
    assert kernels.condition_number(kernel.float()) == pytest.approx(80, rel=1e-5)
    assert kernels.condition_number(torch.eye(1)) == 1


@pytest.mark.parametrize("eigenvalues", [[0.0, 1.0], [-1e-9, 1.0], [-2.0, -1.0], [0.0, 0.0]])
def test_a_condition_number_without_a_positive_smallest_eigenvalue_is_infinite(eigenvalues):
    assert kernels.condition_number(torch.diag(torch.tensor(eigenvalues))) == math.inf


@pytest.mark.parametrize("shape", [(0, 0), (3,), (2, 3)])
def test_a_condition_number_of_no_square_matrix_is_refused(shape):
    with pytest.raises(KernelError, match="square"):
        kernels.condition_number(torch.zeros(shape))
