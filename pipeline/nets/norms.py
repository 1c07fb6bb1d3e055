"""Exchange of normalisation layers: a per-sample kernel needs a network without BatchNorm."""

from collections.abc import Callable

from torch import nn

from pipeline.core.errors import ConfigError, UnknownNameError

NORM_TYPES = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
"""The layers whose weights no kernel counts."""


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
    "groupnorm16": _group_norm(16),
    "groupnorm": _group_norm(32),
    "instancenorm": nn.InstanceNorm2d,
    "nonorm": lambda channels: nn.Identity(),
}


def convert_norms(network: nn.Module, norm: str) -> nn.Module:
    """Replace every BatchNorm of `network`, in place, and return the network.

    Args:
        norm: "groupnorm16" is GroupNorm of min(16, c) groups, "groupnorm" of min(32, c) groups; "instancenorm" has no
            weights; "nonorm" takes the layers out; "batchnorm" leaves them.

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
