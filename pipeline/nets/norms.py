"""Exchange of normalisation layers: a per-sample kernel needs a network without BatchNorm."""

from collections.abc import Callable

from torch import Tensor, nn

from pipeline.core.errors import ConfigError, UnknownNameError

NORM_TYPES = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
"""The layers whose weights no kernel counts."""


class ScaledNorm(nn.BatchNorm2d):
    """BatchNorm without weights, whose result may be asked for as a multiple."""

    def __init__(self, channels: int):
        super().__init__(channels, affine=False)

    def scaled(self, x: Tensor, factor: Tensor) -> Tensor:
        """`factor * norm(x)` for a factor of shape (), in one pass: for this call the factor is the norm's weight."""
        # repeated in memory: torch's backward pass over channels-last maps reads a weight as if it were contiguous
        self._parameters["weight"] = factor.repeat(self.num_features)
        try:
            return self(x)
        finally:
            self._parameters["weight"] = None


def _group_norm(most_groups: int) -> Callable[[int], nn.Module]:
    def make(channels: int) -> nn.Module:
        n_groups = min(most_groups, channels)
        if channels % n_groups:
            raise ConfigError(
                f"A GroupNorm of {n_groups} groups cannot hold a layer of {channels} channels. "
                f"Give the network `channels` that are a multiple of {most_groups}, or another norm."
            )
        return nn.GroupNorm(n_groups, channels)

    return make


NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batchnorm": nn.BatchNorm2d,
    "scalednorm": ScaledNorm,
    "groupnorm16": _group_norm(16),
    "groupnorm": _group_norm(32),
    "instancenorm": nn.InstanceNorm2d,
    "nonorm": lambda channels: nn.Identity(),
}


def convert_norms(network: nn.Module, norm: str) -> nn.Module:
    """Replace every BatchNorm of `network`, in place, and return the network.

    Args:
        norm: "groupnorm16" is GroupNorm of min(16, c) groups, "groupnorm" of min(32, c) groups; "instancenorm" has no
            weights; "scalednorm" is BatchNorm without weights; "nonorm" takes the layers out; "batchnorm" leaves them.

    Raises UnknownNameError for other names and ConfigError for channels that the groups do not divide.
    """
    if norm not in NORMS:
        raise UnknownNameError("normalisation", norm, NORMS)
    if norm == "batchnorm":
        return network
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, NORMS[norm](child.num_features))
    return network
