"""Ranks that methods share when the test episodes cannot tell them apart."""

from collections.abc import Callable, Mapping, Sequence

ALPHA = 0.05


def holm(p_values: Sequence[float], alpha: float = ALPHA) -> list[bool]:
    """Which hypotheses Holm's step-down procedure (1979) rejects, with family-wise error at most `alpha`.

    The i-th smallest of m p-values is compared with alpha / (m - i), i from 0; the first that is not below it ends the
    rejections.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    rejected = [False] * len(p_values)
    for step, index in enumerate(order):
        if p_values[index] > alpha / (len(p_values) - step):
            break
        rejected[index] = True
    return rejected


def shared_ranks(
    means: Mapping[str, float], p_value: Callable[[str, str], float], alpha: float = ALPHA
) -> dict[str, int]:
    """Rank of every method, 1 for the best; those that do not differ significantly from the leader share its rank.

    The leader is compared with all others, with Holm's correction. The methods that stay within its reach share the
    rank; the best of the rest leads the next group, whose rank counts the methods before it (1, 1, 3). A method between
    the leader and one that shares its rank shares it too, so that ranks never contradict means.

    Args:
        means: accuracy by method.
        p_value: of the paired comparison of two methods on the same episodes.
    """
    left = sorted(means, key=lambda name: (-means[name], name))
    ranks: dict[str, int] = {}
    while left:
        leader, others = left[0], left[1:]
        worse = holm([p_value(leader, other) for other in others], alpha)
        tied = [place for place, rejected in enumerate(worse, start=1) if not rejected]
        size = tied[-1] + 1 if tied else 1
        rank = len(ranks) + 1
        ranks |= dict.fromkeys(left[:size], rank)
        left = left[size:]
    return ranks
