import json
import pathlib

import numpy as np
import pytest
import torch

from pipeline.core.errors import GenotypeError
from pipeline.core.rng import torch_stream
from pipeline.nets.cells import edge_list
from pipeline.nets.init import initialise
from pipeline.spaces.darts import Darts
from pipeline.spaces.darts_fewshot import DartsFewShot
from tests.golden_names import load_rebuilt, load_reference, mask_of

GOLDEN = pathlib.Path(__file__).parent.parent / "golden"
MASKS = ("full", "keep3", "keep1", "final", "full_minus_normal0_op2")
SPACES = pytest.mark.parametrize("space", [DartsFewShot(), Darts()], ids=["darts_fewshot", "darts"])


def images(n=4, size=11, channels=3):
    return torch.randn(n, channels, size, size, generator=torch_stream(0, "images"))


def supernet(space, n_cells=3, **changes):
    network = space.supernet(**{"n_classes": 5, "channels": 4, "n_cells": n_cells} | changes)
    return initialise(network, "kaiming_fanout", torch_stream(1, "weights"))


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "network_darts_fewshot_C4_L5.npz") as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def reference_network(golden):
    network = DartsFewShot().supernet(n_classes=64, channels=4, n_cells=5)
    weights = {key.removeprefix("w/"): value for key, value in golden.items() if key.startswith("w/")}
    load_reference(network, DartsFewShot(), weights)
    return network


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(("precision", "tolerance"), [("float64", 1e-6), ("float32", 1e-5)])
def test_features_and_logits_are_those_of_the_reference(golden, reference_network, mask, precision, tolerance):
    dtype = getattr(torch, precision)
    network = reference_network.to(dtype)
    network.set_mask(mask_of(golden[f"mask_{mask}"]))
    rows = np.concatenate([golden["query"].reshape(-1, 3, 16, 16), golden["support"].reshape(-1, 3, 16, 16)])
    with torch.no_grad():
        features = network.features(torch.from_numpy(rows).to(dtype))
        logits = network.classifier(features)
    for ours, kind in ((features, "features"), (logits, "logits")):
        theirs = golden[f"{mask}_{precision}_{kind}"]
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=tolerance, atol=tolerance * np.abs(theirs).max())


@SPACES
def test_every_reference_parameter_of_the_thin_net_has_its_place(space):
    stored = json.loads((GOLDEN / "linear_region_network_cases.json").read_text())
    load_rebuilt(space.thin_supernet(), space, stored["parameters"][space.name], skip=("stem.", "classifier."))


@SPACES
@pytest.mark.parametrize("seed", range(3))
def test_a_supernet_under_a_one_hot_mask_is_the_discrete_network_with_its_weights(space, seed):
    sample = space.sample(torch_stream(seed, "sample"))
    whole = supernet(space, norm="batchnorm", n_cells=5)
    whole.set_mask(space.mask_of(sample))
    alone = space.build(sample, n_classes=5, channels=4, n_cells=5)
    copy_weights(whole, alone, sample, space)
    # the supernet's closing norm and ReLU have no counterpart
    whole.final = torch.nn.Identity()
    torch.testing.assert_close(whole(images(size=13)), alone(images(size=13)), rtol=1e-4, atol=1e-5)


def copy_weights(whole, alone, sample, space):
    edges = edge_list(space.n_nodes)
    for source, target in zip(whole.cells, alone.cells, strict=True):
        target.preprocess0.load_state_dict(source.preprocess0.state_dict())
        target.preprocess1.load_state_dict(source.preprocess1.state_dict())
        chosen = sample.reduce if source.reduction else sample.normal
        pairs = [(name, edges.index((start, i + 2))) for i, node in enumerate(chosen) for name, start in node]
        for (name, edge), operation in zip(pairs, target.edges, strict=True):
            operation.load_state_dict(source.edges[edge][name].state_dict())
    alone.stem.load_state_dict(whole.stem.state_dict())
    alone.classifier.load_state_dict(whole.classifier.state_dict())


@SPACES
def test_masking_an_operation_changes_only_that_edge(space):
    whole = supernet(space, n_cells=1)
    before, after = (run_cell(whole, space, mask) for mask in (space.full_mask(), without(space, 0, 5, 2)))
    # edge 5 leads to node 4: nodes 2 and 3 stay, node 4 changes by the change of this edge
    channels = whole.cells[0].channels
    assert torch.equal(before[0][:, : 2 * channels], after[0][:, : 2 * channels])
    edge, source = whole.cells[0].edges[5], before[1]
    results = {name: operation(source) for name, operation in edge.items()}
    removed = results.pop(space.operations[2])
    old, rest = (removed + sum(results.values())) / 7, sum(results.values()) / 6
    node = slice(2 * channels, 3 * channels)
    torch.testing.assert_close(after[0][:, node] - before[0][:, node], rest - old, rtol=1e-3, atol=1e-5)


def without(space, cell_type, edge, operation):
    mask = space.full_mask()
    mask[cell_type, edge, operation] = False
    return mask


def run_cell(whole, space, mask):
    """(output of the first cell, its node 0)."""
    whole.set_mask(mask)
    with torch.no_grad():
        stem = whole.stem(images())
        return whole.cells[0](stem, stem), whole.cells[0].preprocess0(stem)


@SPACES
def test_only_active_operations_are_executed(space):
    whole = supernet(space)
    mask = space.mask_of(space.sample(torch_stream(3, "sample")))
    whole.set_mask(mask)
    used = {name for name, weight in gradients(whole).items() if weight is not None}
    for k, cell in enumerate(whole.cells):
        rows = mask[int(cell.reduction)]
        for e, edge in enumerate(cell.edges):
            for name, operation in edge.items():
                active = bool(rows[e, space.operations.index(name)])
                for parameter, _ in operation.named_parameters():
                    assert (f"cells.{k}.edges.{e}.{name}.{parameter}" in used) == active


def gradients(network):
    network.zero_grad(set_to_none=True)
    network(images()).sum().backward()
    return {name: weight.grad for name, weight in network.named_parameters()}


@SPACES
def test_an_active_none_counts_among_the_operations_and_adds_nothing(space):
    whole = supernet(space, n_cells=1)
    mask = space.mask_of(space.sample(torch_stream(3, "sample")))
    plain = run_cell(whole, space, mask)[0]
    mask[:, :, 0] = mask.any(dim=2)
    channels = whole.cells[0].channels
    halved = run_cell(whole, space, mask)[0]
    torch.testing.assert_close(halved[:, :channels], plain[:, :channels] / 2)


@SPACES
def test_a_mask_without_any_operation_gives_finite_features(space):
    whole = supernet(space)
    whole.set_mask(torch.zeros_like(space.full_mask()))
    assert not whole.features(images()).any()


@SPACES
def test_changing_the_mask_and_back_gives_the_same_numbers_and_touches_no_weight(space):
    whole = supernet(space)
    before = {key: value.clone() for key, value in whole.state_dict().items()}
    first = whole(images())
    whole.set_mask(without(space, 1, 0, 3))
    assert not torch.equal(whole(images()), first)
    whole.set_mask(space.full_mask())
    assert torch.equal(whole(images()), first)
    assert all(torch.equal(before[key], value) for key, value in whole.state_dict().items())


@SPACES
def test_the_mask_is_kept_by_value(space):
    whole, mask = supernet(space), space.full_mask()
    whole.set_mask(mask)
    mask[:] = False
    assert torch.equal(whole.mask, space.full_mask())


def test_a_mask_of_the_wrong_type_or_shape_is_refused():
    space = DartsFewShot()
    for mask in (space.full_mask().float(), space.full_mask()[:1], Darts().full_mask()):
        with pytest.raises(GenotypeError, match=r"needs torch\.bool and \(2, 9, 8\)"):
            supernet(space).set_mask(mask)


@SPACES
def test_the_thin_net_takes_single_channels_without_a_stem(space):
    thin = space.thin_supernet()
    assert [cell.channels for cell in thin.cells] == [1, 2] and [cell.reduction for cell in thin.cells] == [False, True]
    assert thin.features(images(20, 3, 1)).shape == (20, thin.feature_dim)
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in thin.modules())


@SPACES
@pytest.mark.parametrize("size", [5, 7, 21])
def test_the_supernet_takes_odd_maps(space, size):
    assert supernet(space, n_cells=5)(images(2, size)).shape == (2, 5)
