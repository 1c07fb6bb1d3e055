"""The meta neural tangent kernel (MetaNTK) in closed form."""

import math

import torch
from torch import Tensor

from pipeline.kernels.errors import KernelError
from pipeline.kernels.spectrum import square_kernel

INFINITE_TIME = 1000.0
"""Inner times from here on mean an inner loop run to convergence, as in the MetaNTK-NAS code."""


def meta_ntk(
    ntk: Tensor,
    inner_kernel: Tensor,
    *,
    n_tasks: int,
    n_query: int,
    n_support: int,
    inner_lr_time: float,
    reg_coef: float,
) -> Tensor:
    """MetaNTK of `n_tasks` tasks (Wang et al., "Global convergence of MAML and theory-inspired NAS for few-shot
    learning", CVPR 2022).

    With q_i and s_i the query and support rows of task i, t the inner learning rate times the inner time, and k the
    inner kernel on the support of task i,

        T_i  = (k + reg I)^+ (I - exp(-t k))
        A_i  = K[q_i, s_i] T_i
        M_ij = ntk[q_i, q_j] - A_i ntk[s_i, q_j] - ntk[q_i, s_j] A_j' + A_i ntk[s_i, s_j] A_j'

    Args:
        ntk: (n n) with n = n_tasks * (n_query + n_support); rows are the queries of all tasks, then the supports of
            all tasks, task by task.
        inner_kernel: (n n) in the same order: K. The NTK itself for MAML (the inner loop moves all weights), the NNGP
            for ANIL (it moves the head alone).
        n_query, n_support: images of one task (ways times queries or shots per class).
        inner_lr_time: t >= 0; 1000 and more mean infinity.
        reg_coef: ridge added to the spectrum of k, in the units of the kernel (absolute, not relative to its trace).

    Returns:
        (n_tasks * n_query square), float64, symmetric; positive semidefinite when both kernels are. Entries that are
        not finite make the result not finite.

    Raises:
        KernelError: shapes, counts or constants that do not fit.
    """
    _check_counts(n_tasks, n_query, n_support, inner_lr_time, reg_coef)
    theta, inner = square_kernel(ntk, "The NTK"), square_kernel(inner_kernel, "The inner kernel")
    n_rows = n_tasks * (n_query + n_support)
    for what, kernel in (("The NTK", theta), ("The inner kernel", inner)):
        if len(kernel) != n_rows:
            raise KernelError(
                f"{what} has {len(kernel)} rows; {n_tasks} tasks of {n_query} query and {n_support} support images "
                f"need {n_rows}."
            )
    n_queries = n_tasks * n_query
    if not bool(torch.isfinite(theta).all() and torch.isfinite(inner).all()):
        return theta.new_full((n_queries, n_queries), math.nan)
    # A: block diagonal, the inner loop's answer at the queries as a linear map of its errors at the supports
    adapted = theta.new_zeros(n_queries, n_tasks * n_support)
    for task in range(n_tasks):
        query = slice(task * n_query, (task + 1) * n_query)
        support = slice(task * n_support, (task + 1) * n_support)
        k_qs = inner[:n_queries, n_queries:][query, support]
        k_ss = inner[n_queries:, n_queries:][support, support]
        adapted[query, support] = k_qs @ inner_operator(k_ss, inner_lr_time, reg_coef)
    cross = adapted @ theta[n_queries:, :n_queries]
    kernel = theta[:n_queries, :n_queries] - cross - cross.mT + adapted @ theta[n_queries:, n_queries:] @ adapted.mT
    return (kernel + kernel.mT) / 2


def inner_operator(kernel: Tensor, inner_lr_time: float, reg_coef: float) -> Tensor:
    """T = (k + reg I)^+ (I - exp(-t k)) of a symmetric k (s s), through its eigenvectors.

    Directions in which k + reg I vanishes up to rounding (s * eps of its largest eigenvalue) are left out, as a
    pseudo-inverse does.
    """
    eigenvalues, vectors = torch.linalg.eigh(kernel)
    learnt = torch.ones_like(eigenvalues)
    if inner_lr_time < INFINITE_TIME:
        learnt = -torch.expm1(-inner_lr_time * eigenvalues)
    ridged = eigenvalues + reg_coef
    cutoff = len(kernel) * torch.finfo(kernel.dtype).eps * ridged.abs().max()
    gains = torch.where(ridged.abs() > cutoff, learnt / ridged, torch.zeros_like(ridged))
    return (vectors * gains) @ vectors.mT


def _check_counts(n_tasks: int, n_query: int, n_support: int, inner_lr_time: float, reg_coef: float) -> None:
    for name, count in (("n_tasks", n_tasks), ("n_query", n_query), ("n_support", n_support)):
        if count < 1:
            raise KernelError(f"{name} is {count}; at least 1 is needed.")
    for name, value in (("inner_lr_time", inner_lr_time), ("reg_coef", reg_coef)):
        if not value >= 0 or (name == "reg_coef" and math.isinf(value)):
            raise KernelError(f"{name} is {value}; a number from 0 on is needed.")
