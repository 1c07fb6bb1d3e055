"""Engines: ways to the same Gram matrices of per-sample gradients; one file each.

| engine | how | use it |
|---|---|---|
| fast | one forward and backward for all samples, each layer's Gram as soon as its output gradient exists | always |
| opacus | per-sample gradients of all layers by Opacus' hooks, then the Grams | to cross-check |
| loop | one sample at a time, plain autograd | where a layer has no rule in the other two; in tests, as the truth |

An engine is a function `(network, weights, images, *, low_memory) -> {name: Gram (n n) float64}`: `weights` names the
parameters that count, those that took no part are missing from the answer, and the network is left as it was found.
"""

from pipeline.core.registry import Registry

ENGINES = Registry("kernels", "kernel engine")
