"""Several proxies on one network: what they have in common is computed once."""

from typing import Any

import torch
from torch import nn


def value_of(proxy: Any, network: nn.Module, batch: Any, generator: torch.Generator, shared: dict[type, Any]) -> float:
    """What `proxy(network, batch, generator)` gives, sharing work with the proxies that were asked before.

    A proxy that shares names in `shares` the class of what it starts from, made of network and batch, and computes its
    value `of` such an object. These objects are kept in `shared`; give all proxies of one network in one state and
    with one batch the same dictionary, and an empty one as soon as weights, mask or batch change.
    """
    start = getattr(proxy, "shares", None)
    if start is None:
        return proxy(network, batch, generator)
    if start not in shared:
        shared[start] = start(network, batch)
    return proxy.of(shared[start])
