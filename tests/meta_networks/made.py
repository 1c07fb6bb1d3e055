"""Small networks, data sets and architectures."""

import torch

from pipeline import spaces
from pipeline.core.rng import torch_stream
from pipeline.nets.init import construct, initialise
from pipeline.spaces.graph_form import GraphForm

SPACE = spaces.get("nas_bench_201")()
FORM = SPACE.graph_form
SMALL_FORM = GraphForm(n_vertices=4, n_types=4, edges=((0, 1), (0, 2), (1, 2), (1, 3), (2, 3)))


def small(kind, *, hs=12, nz=8, form=FORM, dtype=torch.float64, seed=0):
    """A network of 6 features with weights of its own stream, those of graphs doubled, so that decisions differ."""
    network = construct(lambda: kind(feature_dim=6, hs=hs, nz=nz, form=form))
    initialise(network, "torch_default", torch_stream(seed, "weights", kind.__name__))
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.startswith(("decoder", "graphs")):
                weight.mul_(2)
    return network.to(dtype)


def data_sets(b, n_classes=3, n_images=4, *, dtype=torch.float64):
    return torch.randn(b, n_classes, n_images, 6, generator=torch_stream(b, "features"), dtype=dtype)


def cells(n, seed=0):
    draws = torch_stream(seed, "cells")
    return [SPACE.sample(draws) for _ in range(n)]


def types_of(genotypes):
    return torch.stack([SPACE.to_types(one) for one in genotypes])
