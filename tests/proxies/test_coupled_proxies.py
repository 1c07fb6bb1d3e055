"""The two proxies of the coupled kernel: the reference's numbers, and the same by rows as by products."""

import math

import pytest
import torch

from pipeline import kernels, proxies, spaces
from pipeline.core.types import LabelledBatch
from pipeline.proxies.coupled_rows import CoupledRows
from pipeline.proxies.sharing import value_of
from tests.kernels.test_coupled import FACTS, batch, reference_network

NONE = torch.Generator()


@pytest.mark.parametrize("case", FACTS["cases"], ids=lambda case: case["arch"])
def test_both_proxies_give_the_numbers_of_the_reference(case):
    labelled = LabelledBatch(*batch("train"), *batch("val"), FACTS["num_classes"])
    network, shared = reference_network(case["arch"]), {}
    for name, key in (("coupled_ntk_condition", "cond"), ("ntk_regression_error", "mse")):
        found = value_of(proxies.get(name)(), network, labelled, NONE, shared)
        assert found == pytest.approx(case["float64"][key], rel=1e-6)


@pytest.mark.parametrize("n_present", [1, 2, 3, 8])
def test_the_error_by_products_is_that_by_rows(n_present):
    space = spaces.get("nas_bench_201")()
    network = space.supernet(n_classes=9, channels=3, n_cells=3, norm="batchnorm").double()
    images, held_out = torch.randn(2, 16, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels, held_out_labels = 1 + torch.arange(16) % n_present, torch.arange(16) % 9
    labelled = LabelledBatch(images, labels, held_out, held_out_labels, 9)
    cells = kernels.cell_weights_of(network)
    rows = [kernels.coupled_rows(network, part, cells) for part in (images, held_out)]
    expected = kernels.regression_error(rows[0], labels, rows[1], held_out_labels, 9)
    found = proxies.get("ntk_regression_error")()(network, labelled, NONE)
    assert found == pytest.approx(expected, rel=1e-9)


def test_gradients_are_taken_once_for_both(monkeypatch):
    space = spaces.get("nas_bench_201")()
    network = space.supernet(n_classes=4, channels=3, n_cells=3, norm="batchnorm")
    images = torch.randn(2, 16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    labelled = LabelledBatch(images[0], torch.arange(16) % 4, images[1], torch.arange(16) % 4, 4)
    calls, plain = [], kernels.coupled_gradients
    monkeypatch.setattr(kernels, "coupled_gradients", lambda *given: calls.append(given) or plain(*given))
    shared = {}
    for name in ("coupled_ntk_condition", "ntk_regression_error"):
        assert math.isfinite(value_of(proxies.get(name)(), network, labelled, NONE, shared))
    assert len(calls) == 1
    assert set(shared) == {CoupledRows}


def test_an_image_that_comes_twice_has_no_finite_value():
    space = spaces.get("nas_bench_201")()
    network = space.supernet(n_classes=4, channels=3, n_cells=3, norm="batchnorm").double()
    images = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labelled = LabelledBatch(images[[0, 1, 2, 0]], torch.arange(4), images[2:], torch.arange(4), 4)
    assert proxies.get("ntk_regression_error")()(network, labelled, NONE) == math.inf
    assert proxies.get("coupled_ntk_condition")()(network, labelled, NONE) > 1e12
