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
    scratch = _scratch(rows)
    for x, mean, square in _parts(rows, means, squares):
        torch.mean(x, 1, keepdim=True, out=mean)
        centred = torch.sub(x, mean, out=scratch[: len(x)])
        torch.sum(centred.square_(), 1, keepdim=True, out=square)
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
    back, scratch = torch.empty_like(rows), _scratch(rows)
    # with z = rstd (x - mean) and s = weight gradient: rstd (s - mean(s) - z mean(z s)), the means over a group
    gain, steepness = rstd * weight, rstd.pow(3).div_(-n_positions)
    level = _group_mean(total * weight, n_groups).mul_(rstd).div_(-n_positions)
    of_means = (mean * total).neg_()
    for x, g, result, *facts in _parts(rows, gradient, back, mean, gain, steepness, level, of_means):
        mean_, gain_, steepness_, level_, of_means_ = facts
        along = torch.mul(g, x, out=scratch[: len(x)]).sum(1, keepdim=True).add_(of_means_)
        slope = _group_mean(along.mul_(weight), n_groups).mul_(steepness_)
        torch.addcmul(torch.addcmul(level_, slope, mean_, value=-1), g, gain_, out=result).addcmul_(x, slope)
    return back


def combination(
    scaled: Sequence[tuple[Tensor, Tensor]], shift: Tensor | None, plain: Sequence[tuple[Tensor, float]], rectify: bool
) -> Tensor:
    """Sum (n T c) of maps times scales (n 1 c), of a shift (n 1 c), and of maps times numbers; its ReLU if asked for.

    There are maps of either kind, or of both; a shift where there are scales.
    """
    total = torch.empty_like(scaled[0][0] if scaled else plain[0][0])
    constants = [] if shift is None else [shift]
    tensors = [*constants, *(tensor for pair in scaled for tensor in pair), *(x for x, _ in plain)]
    for result, *parts in _parts(total, *tensors):
        rest = iter(parts)
        if constants:
            torch.addcmul(next(rest), next(rest), next(rest), out=result)
        else:
            torch.mul(next(rest), plain[0][1], out=result)
        for _ in scaled[1:]:
            result.addcmul_(next(rest), next(rest))
        for _, factor in plain[not constants :]:
            result.add_(next(rest), alpha=factor)
        if rectify:
            result.clamp_min_(0)
    return total


def _parts(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same few images of all `tensors` (n ...); the first is the map (n T c) that says how many."""
    return zip(*(tensor.split(_step(tensors[0])) for tensor in tensors), strict=True)


def _scratch(rows: Tensor) -> Tensor:
    """Memory for an intermediate result of one part."""
    return torch.empty_like(rows[: _step(rows)])


def _step(rows: Tensor) -> int:
    return max(1, BYTES_AT_A_TIME // (rows[0].numel() * rows.element_size()))


def _group_mean(by_channel: Tensor, n_groups: int) -> Tensor:
    """Means (n 1 c) over each group's channels, from (n 1 c)."""
    n, _, c = by_channel.shape
    means = by_channel.view(n, n_groups, -1).mean(2, keepdim=True)
    return means.expand(n, n_groups, c // n_groups).reshape(n, 1, c)
