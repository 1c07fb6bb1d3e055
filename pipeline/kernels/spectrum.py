"""Spectra of kernel matrices."""

import math

import torch
from torch import Tensor

from pipeline.kernels.errors import KernelError


def square_kernel(kernel: Tensor, what: str, tolerance: float = 1e-3) -> Tensor:
    """`kernel` (n n) as an exactly symmetric float64 tensor.

    Kernels of float32 networks are symmetric up to rounding; more than `tolerance` of the largest entry is refused.
    Entries that are not finite pass through. Raises KernelError when the matrix is not square or not symmetric.
    """
    kernel = torch.as_tensor(kernel).detach().to(torch.float64)
    if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1] or kernel.shape[0] == 0:
        raise KernelError(f"{what} has the shape {tuple(kernel.shape)}; a square matrix (samples x samples) is needed.")
    mirrored = kernel.mT
    if bool(torch.isfinite(kernel).all()):
        gap = float((kernel - mirrored).abs().max())
        if gap > tolerance * float(kernel.abs().max()):
            raise KernelError(f"{what} is not symmetric: entries differ from their mirror images by up to {gap:g}.")
    return (kernel + mirrored) / 2


def condition_number(kernel: Tensor) -> float:
    """Largest over smallest eigenvalue of a symmetric positive definite matrix (n n), in float64.

    Where it is undefined (an entry is not finite, or the smallest eigenvalue is not positive) the answer is `inf`:
    it sorts behind every defined value, so a failure is never mistaken for a score.
    Raises KernelError when the matrix is not square or not symmetric.
    """
    kernel = square_kernel(kernel, "The kernel")
    if not bool(torch.isfinite(kernel).all()):
        return math.inf
    eigenvalues = torch.linalg.eigvalsh(kernel)
    smallest, largest = float(eigenvalues[0]), float(eigenvalues[-1])
    return largest / smallest if smallest > 0 else math.inf


def log_determinant(kernel: Tensor) -> float:
    """Natural logarithm of the determinant of a symmetric positive definite matrix (n n), in float64.

    Where it is undefined (an entry is not finite, or the matrix is singular to working precision) the answer is `-inf`,
    which sorts behind every defined value. Raises KernelError when the matrix is not square or not symmetric.
    """
    kernel = square_kernel(kernel, "The kernel")
    if not bool(torch.isfinite(kernel).all()):
        return -math.inf
    eigenvalues = torch.linalg.eigvalsh(kernel)
    if eigenvalues[0] <= len(kernel) * torch.finfo(kernel.dtype).eps * eigenvalues[-1]:
        return -math.inf
    return float(eigenvalues.log().sum())
