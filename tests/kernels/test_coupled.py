"""The kernel through train-mode BatchNorm and its regression error, against the reference and against slow oracles."""

import copy
import json
import math
import pathlib
import re
from zlib import crc32

import numpy as np
import pytest
import torch
from torch import nn

from pipeline import kernels, spaces
from pipeline.kernels.errors import KernelError
from pipeline.nets.stage_network import EDGES

GOLDEN = pathlib.Path(__file__).parent.parent / "golden"
FACTS = json.loads((GOLDEN / "tegnas_kernels.json").read_text())
BATCHES = np.load(GOLDEN / "tegnas_batches.npz")
SPACE = spaces.get("nas_bench_201")()
CHILDREN = {"op.1": "conv", "op.2": "norm"}


def rebuilt(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Values of a reference parameter by the rule they were made by, in float64."""
    if len(shape) < 2:
        return np.full(shape, float(name.endswith("weight")))
    draws = np.random.Generator(np.random.PCG64([crc32(name.encode()), FACTS["seed"]])).standard_normal(shape)
    return draws * np.sqrt(2.0 / (shape[0] * np.prod(shape[2:])))


def our_name(reference: str) -> str:
    if match := re.fullmatch(r"(cells\.\d+)\.edges\.(\d)<-(\d)\.(\d)\.(op\.\d)\.(\w+)", reference):
        cell, target, source, operation, child, kind = match.groups()
        edge = EDGES.index((int(source), int(target)))
        return f"{cell}.edges.{edge}.{SPACE.operations[int(operation)]}.{CHILDREN[child]}.{kind}"
    if match := re.fullmatch(r"(cells\.\d+)\.conv_([ab])\.(op\.\d)\.(\w+)", reference):
        cell, which, child, kind = match.groups()
        return f"{cell}.{'first' if which == 'a' else 'second'}.{CHILDREN[child]}.{kind}"
    return reference.replace("downsample.1", "shortcut").replace("lastact.", "final.")


def reference_network(text: str) -> nn.Module:
    network = SPACE.supernet(n_classes=FACTS["num_classes"], channels=3, n_cells=3, norm="batchnorm").double()
    ours = dict(network.named_parameters())
    with torch.no_grad():
        for name, shape in FACTS["parameters"]:
            if name != "arch_parameters":
                ours.pop(our_name(name)).copy_(torch.from_numpy(rebuilt(name, tuple(shape))))
    assert not ours
    network.set_mask(SPACE.mask_of(SPACE.from_text(text)))
    return network


def batch(part: str) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(BATCHES[f"x_{part}"]).double(), torch.from_numpy(BATCHES[f"y_{part}"])


@pytest.mark.parametrize("case", FACTS["cases"], ids=lambda case: case["arch"])
def test_condition_number_and_regression_error_are_those_of_the_reference(case):
    network = reference_network(case["arch"])
    (images, labels), (held_out, held_out_labels) = batch("train"), batch("val")
    found = kernels.condition_number(kernels.coupled_ntk(network, images))
    assert found == pytest.approx(case["float64"]["cond"], rel=1e-6)
    weights = kernels.cell_weights_of(network)
    rows = [kernels.coupled_rows(network, one, weights) for one in (images, held_out)]
    error = kernels.regression_error(rows[0], labels, rows[1], held_out_labels, FACTS["num_classes"])
    assert error == pytest.approx(case["float64"]["mse"], rel=1e-6)


def small(text="|nor_conv_3x3~0|+|skip_connect~0|avg_pool_3x3~1|+|nor_conv_1x1~0|none~1|nor_conv_3x3~2|", n_cells=2):
    network = SPACE.supernet(n_classes=4, channels=2, n_cells=n_cells, norm="batchnorm").double()
    network.set_mask(SPACE.mask_of(SPACE.from_text(text)))
    return network


IMAGES = torch.randn(7, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("rows_per_call", [1, 2, 3, 7, 50])
def test_rows_are_gradients_of_one_output_after_the_other(rows_per_call):
    network = small()
    slow = []
    for i in range(len(IMAGES)):
        twin = copy.deepcopy(network).train()
        twin(IMAGES)[i].sum().backward()
        slow.append(
            torch.cat(
                [p.grad.flatten() for n, p in twin.named_parameters() if n.endswith("weight") and p.grad is not None]
            )
        )
    fast = kernels.coupled_rows(network, IMAGES, rows_per_call=rows_per_call)
    torch.testing.assert_close(fast, torch.stack(slow))
    torch.testing.assert_close(kernels.coupled_ntk(network, IMAGES, rows_per_call=rows_per_call), fast @ fast.mT)


def test_rows_hold_what_an_image_does_to_the_others():
    network = small()
    alone = torch.cat([kernels.coupled_rows(network, one.unsqueeze(0)) for one in IMAGES])
    assert not torch.allclose(alone, kernels.coupled_rows(network, IMAGES), rtol=0.1)


def test_rows_agree_with_finite_differences():
    network = small().train()
    weights = kernels.all_weights_of(network)
    rows, start = kernels.coupled_rows(network, IMAGES), 0
    for weight in weights.values():
        used = torch.autograd.grad(network(IMAGES).sum(), weight, allow_unused=True)[0] is not None
        if not used:
            continue
        with torch.no_grad():
            outputs = []
            for step in (1e-6, -1e-6):
                weight.flatten()[0] += step
                outputs.append(network(IMAGES).sum(1))
                weight.flatten()[0] -= step
        torch.testing.assert_close((outputs[0] - outputs[1]) / 2e-6, rows[:, start], rtol=1e-4, atol=1e-6)
        start += weight.numel()
    assert start == rows.shape[1]


def test_a_permutation_of_the_batch_permutes_the_kernel():
    network, order = small(), torch.tensor([3, 0, 6, 1, 2, 5, 4])
    kernel = kernels.coupled_ntk(network, IMAGES)
    torch.testing.assert_close(kernels.coupled_ntk(network, IMAGES[order]), kernel[order][:, order])


def test_the_network_is_left_as_it_was_found():
    network = small().eval()
    before = copy.deepcopy(network.state_dict())
    kernels.coupled_ntk(network, IMAGES)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module.training for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_the_weights_counted_are_all_weights_and_no_biases():
    network = small()
    names = set(kernels.all_weights_of(network))
    assert names == {name for name, _ in network.named_parameters() if name.endswith(".weight")}
    assert {"stem.1.weight", "classifier.weight"} <= names
    assert set(kernels.cell_weights_of(network)) == {name for name in names if name.startswith("cells.")}


def test_no_images_and_no_weights_are_refused():
    with pytest.raises(KernelError, match="at least one image"):
        kernels.coupled_rows(small(), IMAGES[:0])
    with pytest.raises(KernelError, match="No weight"):
        kernels.coupled_rows(small(), IMAGES, {})


def test_regression_is_least_norm_regression_on_the_rows():
    generator = torch.Generator().manual_seed(1)
    rows, held_out = (torch.randn(n, 30, generator=generator, dtype=torch.float64) for n in (8, 5))
    labels, held_out_labels = torch.arange(8) % 3, torch.arange(5) % 3
    hot, wanted = (nn.functional.one_hot(one, 3).double() for one in (labels, held_out_labels))
    solution = torch.linalg.pinv(rows) @ (hot - hot.mean(0))
    slow = (held_out @ solution - (wanted - wanted.mean(0))).square().sum(1).mean()
    found = kernels.regression_error(rows, labels, held_out, held_out_labels, 3)
    assert found == pytest.approx(float(slow))
    assert kernels.regression_error(rows, labels, rows, labels, 3) == pytest.approx(0, abs=1e-12)


def test_a_singular_kernel_has_no_finite_error():
    rows = torch.randn(4, 10, dtype=torch.float64)
    rows[3] = rows[0]
    labels = torch.tensor([0, 1, 0, 1])
    assert kernels.regression_error(rows, labels, rows, labels, 2) == math.inf
    assert kernels.regression_error(torch.zeros(4, 10), labels, rows, labels, 2) == math.inf


def test_labels_and_rows_that_do_not_fit_are_refused():
    rows, labels = torch.randn(4, 10), torch.tensor([0, 1, 2, 1])
    with pytest.raises(KernelError, match="below n_classes"):
        kernels.regression_error(rows, labels, rows, labels, 2)
    with pytest.raises(KernelError, match="do not go with"):
        kernels.regression_error(rows, labels[:3], rows, labels, 3)
