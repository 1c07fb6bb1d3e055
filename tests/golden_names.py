"""Reference weights under our names: how a stored or rebuilt reference parameter finds its place in our supernets."""

import re
from zlib import crc32

import numpy as np
import torch

from pipeline.nets.cells import edge_list

OP_CHILDREN = {
    "op.1": "depthwise",
    "op.2": "pointwise",
    "op.3": "norm",
    "net.1": "row",
    "net.2": "column",
    "net.3": "norm",
    "bn": "norm",
    "convs.0": "conv",
    "convs.1": "shifted_conv",
}
PREPROCESS_CHILDREN = {"op.1": "conv", "op.2": "norm", "convs.0": "conv", "convs.1": "shifted_conv", "bn": "norm"}
EDGE = re.compile(r"cells\.(\d+)\.edges\.(\d+)<-(\d+)\._ops\.(\d+)\.(?:op_([ab])\.)?(.+)\.(weight|bias)")
PREPROCESS = re.compile(r"cells\.(\d+)\.preprocess([01])\.(.+)\.(weight|bias)")


def our_name(reference: str, operations: tuple[str, ...], n_nodes: int) -> str:
    """Our parameter name for a reference one, in a supernet of a space with these operations and nodes."""
    if match := EDGE.fullmatch(reference):
        cell, node, source, operation, unit, child, kind = match.groups()
        edge = edge_list(n_nodes).index((int(source), int(node) + 2))
        half = {"a": "first.", "b": "second.", None: ""}[unit]
        return f"cells.{cell}.edges.{edge}.{operations[int(operation)]}.{half}{OP_CHILDREN[child]}.{kind}"
    if match := PREPROCESS.fullmatch(reference):
        cell, which, child, kind = match.groups()
        return f"cells.{cell}.preprocess{which}.{PREPROCESS_CHILDREN[child]}.{kind}"
    return reference.replace("lastact.", "final.")


def rebuild(reference: str, shape: tuple[int, ...], seed: int = 1) -> np.ndarray:
    """The float32 values of a reference parameter by the rebuild rule (normal draws keyed by the name's crc32)."""
    if len(shape) < 2:
        return np.full(shape, float(reference.endswith("weight")), dtype=np.float32)
    draws = np.random.Generator(np.random.PCG64([crc32(reference.encode()), seed])).standard_normal(shape)
    return (draws * np.sqrt(2.0 / (shape[0] * np.prod(shape[2:])))).astype(np.float32)


def mask_of(alphas: np.ndarray) -> torch.Tensor:
    """The boolean mask of stored reference alphas, where -1000 marks what is pruned."""
    return torch.from_numpy(alphas > -500)


@torch.no_grad()
def load_reference(network, space, values: dict[str, np.ndarray], skip: tuple[str, ...] = ()) -> None:
    """Fill our supernet of `space` with reference `values` (reference name -> array).

    Every parameter finds its value, but for those whose names begin with one of `skip`: thin nets have no stem, and
    their classifier is never run.
    """
    ours = dict(network.named_parameters())
    for reference, value in values.items():
        if skip and reference.startswith(skip):
            continue
        name = our_name(reference, space.operations, space.n_nodes)
        if name in ours:
            parameter = ours.pop(name)
            assert tuple(parameter.shape) == tuple(value.shape), (reference, name)
            parameter.copy_(torch.from_numpy(np.asarray(value)))
        else:
            raise AssertionError(f"{reference} has no place ({name})")
    left = [name for name in ours if not (skip and name.startswith(skip))]
    assert not left, f"left without a value: {left[:5]}"


def load_rebuilt(network, space, parameters: list, seed: int = 1, skip: tuple[str, ...] = ()) -> None:
    """Fill our supernet by the rebuild rule; `parameters` are the stored [name, shape, checksum] rows."""
    values = {}
    for name, shape, checksum in parameters:
        values[name] = rebuild(name, tuple(shape), seed)
        np.testing.assert_allclose(values[name].sum(dtype=np.float64), checksum, atol=1e-4)
    load_reference(network, space, values, skip)
