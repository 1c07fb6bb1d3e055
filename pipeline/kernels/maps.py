"""Passes over activation maps: GroupNorm forward and back, sums of maps.

Maps are rows (n T c): n images, T positions, c channels last. A pass reads and writes a few images at a time, so that
what it computes on the way stays in the cache of the processor.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

BYTES_AT_A_TIME = 640 << 10
"""Size of the part of a map that is worked on together; measured on processors with 1 and 2 MiB of cache per core."""


def as_rows(x: Tensor) -> Tensor:
    """(n h*w c) from (n c h w); a view where the channels are last in memory."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def as_map(rows: Tensor, shape: Sequence[int]) -> Tensor:
    """(n c h w) of `shape`, a view with the channels last in memory, from (n h*w c)."""
    return rows.unflatten(1, tuple(shape[2:])).permute(0, 3, 1, 2)


def moments(rows: Tensor, n_groups: int, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and 1 / sqrt(variance + eps) of each image's groups of channels (Wu and He, 2018), each (n 1 c).

    Squares are taken of values centred channel by channel: those of uncentred ones lose digits, which moves activations
    near zero to the other side of the next ReLU.
    """
    n, n_positions, c = rows.shape
    means, squares = rows.new_empty(n, 1, c), rows.new_empty(n, 1, c)
    for part, scratch in _parts(rows):
        torch.mean(rows[part], 1, keepdim=True, out=means[part])
        torch.sub(rows[part], means[part], out=scratch).square_()
        torch.sum(scratch, 1, keepdim=True, out=squares[part])
    mean = _group_mean(means, n_groups)
    variance = _group_mean(squares.div_(n_positions).addcmul_(means.sub_(mean), means), n_groups)
    return mean, variance.add_(eps).rsqrt_()


def moments_back(
    gradient: Tensor, total: Tensor, rows: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor, n_groups: int
) -> Tensor:
    """Gradient at the input of a GroupNorm from `gradient` at its output.

    Args:
        total: sums (n 1 c) of `gradient` over positions.
        rows: the norm's input.
        mean, rstd: its `moments`.
        weight: (c), its scale.
    """
    n_positions = rows.shape[1]
    along = torch.empty_like(total)
    for part, scratch in _parts(rows):
        torch.sum(torch.mul(gradient[part], rows[part], out=scratch), 1, keepdim=True, out=along[part])
    # with z = rstd (x - mean) and s = weight gradient: rstd (s - mean(s) - z mean(z s)), the means over a group
    along.addcmul_(mean, total, value=-1)
    slope = _group_mean(along.mul_(weight), n_groups).mul_(rstd.pow(3)).div_(n_positions)
    shift = torch.mul(slope, mean).addcmul_(_group_mean(total * weight, n_groups), rstd, value=-1 / n_positions)
    gain = rstd * weight
    back = torch.empty_like(rows)
    for part, _ in _parts(rows, scratch=False):
        torch.addcmul(shift[part], gradient[part], gain[part], out=back[part])
        back[part].addcmul_(rows[part], slope[part], value=-1)
    return back


def combination(
    scaled: Sequence[tuple[Tensor, Tensor]], shift: Tensor | None, plain: Sequence[tuple[Tensor, float]], rectify: bool
) -> Tensor:
    """Sum (n T c) of maps times scales (n 1 c), of a shift (n 1 c), and of maps times numbers; its ReLU if asked for."""
    like = scaled[0][0] if scaled else plain[0][0]
    total = torch.empty_like(like)
    for part, _ in _parts(like, scratch=False):
        result, first = total[part], True
        for rows, scale in scaled:
            if first:
                torch.addcmul(shift[part], rows[part], scale[part], out=result)
            else:
                result.addcmul_(rows[part], scale[part])
            first = False
        for rows, factor in plain:
            if first:
                torch.mul(rows[part], factor, out=result)
            else:
                result.add_(rows[part], alpha=factor)
            first = False
        if rectify:
            result.clamp_min_(0)
    return total


def _parts(rows: Tensor, scratch: bool = True) -> Iterator[tuple[slice, Tensor | None]]:
    """Slices of images, with memory for an intermediate result of each slice's shape."""
    n, n_positions, c = rows.shape
    step = min(n, max(1, BYTES_AT_A_TIME // (n_positions * c * rows.element_size())))
    memory = rows.new_empty(step, n_positions, c) if scratch else None
    for start in range(0, n, step):
        stop = min(start + step, n)
        yield slice(start, stop), memory[: stop - start] if scratch else None


def _group_mean(by_channel: Tensor, n_groups: int) -> Tensor:
    """Means (n 1 c) over each group's channels, from (n 1 c)."""
    n, _, c = by_channel.shape
    means = by_channel.view(n, n_groups, -1).mean(2, keepdim=True)
    return means.expand(n, n_groups, c // n_groups).reshape(n, 1, c)
