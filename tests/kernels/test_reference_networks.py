"""Kernels and linear regions of the reference's own networks, from its weights."""

import json
import pathlib

import numpy as np
import pytest
import torch
from torch import nn

from pipeline import kernels, spaces
from pipeline.kernels.engines import ENGINES
from pipeline.kernels.errors import KernelError
from tests.golden_names import load_rebuilt, load_reference, mask_of

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
NETWORK = json.loads((GOLDEN / "network_darts_fewshot_C4_L5.json").read_text())
ARRAYS = dict(np.load(GOLDEN / "network_darts_fewshot_C4_L5.npz"))
REGIONS = json.loads((GOLDEN / "linear_region_network_cases.json").read_text())
REGION_ARRAYS = dict(np.load(GOLDEN / "linear_region_network_cases.npz"))
META_CASES = [case for case in NETWORK["cases"] if "algorithm" in case]
PLAIN_COND = {case["key"]: case["cond"] for case in NETWORK["cases"] if "algorithm" not in case}
MASKS = ("full", "keep3", "keep1", "final", "full_minus_normal0_op2")
# the kernel is discontinuous where a ReLU or a maximum is decided by rounding, so float32 is held to less
TOLERANCE = {"float32": 1e-3, "float64": 1e-6}


@pytest.fixture(scope="module")
def network():
    space = spaces.get("darts_fewshot")()
    network = space.supernet(n_classes=64, channels=4, n_cells=5)
    load_reference(network, space, {k.removeprefix("w/"): v for k, v in ARRAYS.items() if k.startswith("w/")})
    return network


def images_and_head(dtype):
    images = np.concatenate([ARRAYS[kind].reshape(-1, 3, 16, 16) for kind in ("query", "support")])
    head = nn.Linear(48, 5)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(ARRAYS["head_weight"]))
        head.bias.zero_()
    return torch.from_numpy(images).to(dtype), head.to(dtype)


def off_by(ours, expected):
    return float(np.abs(np.asarray(ours, np.float64) - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("engine", [*ENGINES.names(), "fast low_memory"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("mask", MASKS)
def test_ntk_nngp_and_metantk_of_the_reference_supernet_are_reproduced(network, mask, dtype, engine):
    name, _, low = engine.partition(" ")
    images, head = images_and_head(getattr(torch, dtype))
    network.to(images.dtype).set_mask(mask_of(ARRAYS[f"mask_{mask}"]))
    result = kernels.ntk(network, images, engine=name, head=head, low_memory=bool(low))
    errors = {
        "ntk": off_by(result.theta, ARRAYS[f"{mask}_{dtype}_ntk"]),
        "nngp": off_by(result.nngp, ARRAYS[f"{mask}_{dtype}_nngp"]),
    }
    errors["ntk cond"] = abs(kernels.condition_number(result.theta) / PLAIN_COND[f"{mask}_{dtype}_ntk_plain"] - 1)
    for case in META_CASES:
        if case["key"].startswith(f"{mask}_{dtype}_"):
            kernel = kernels.meta_ntk(
                result.theta,
                result.theta if case["algorithm"] == "MAML" else result.nngp,
                n_tasks=3,
                n_query=5,
                n_support=5,
                inner_lr_time=float(case["inner_lr_time"]),
                reg_coef=case["reg_coef"],
            )
            errors[case["key"]] = off_by(kernel, ARRAYS[f"{case['key']}_metantk"])
            errors[f"{case['key']} cond"] = abs(kernels.condition_number(kernel) / case["cond"] - 1)
    assert len(errors) == 3 + 2 * 8
    assert {key: error for key, error in errors.items() if error > TOLERANCE[dtype]} == {}


def test_a_masked_operation_does_not_run(network):
    images, _ = images_and_head(torch.float32)
    network.to(torch.float32).set_mask(mask_of(ARRAYS["mask_final"]))
    grams = ENGINES.get("fast")(network, kernels.weights_of(network), images[:2])
    run = {name.split(".")[3:5][0] + "." + name.split(".")[4] for name in grams if ".edges." in name}
    assert len([name for name in grams if ".edges." in name]) < len(kernels.weights_of(network)) / 4
    mask = mask_of(ARRAYS["mask_final"]).any(0)
    operations = spaces.get("darts_fewshot")().operations
    assert run <= {f"{edge}.{operations[op]}" for edge, op in mask.nonzero().tolist()}


@pytest.mark.parametrize("case", REGIONS["cases"], ids=lambda c: f"{c['mask']}-{c['batch']}-{c['quantised']}")
def test_linear_regions_of_the_reference_thin_supernet_are_counted_exactly(case):
    space = spaces.get("darts_fewshot")()
    thin = space.thin_supernet()
    load_rebuilt(thin, space, REGIONS["parameters"]["darts_fewshot"], skip=("stem", "classifier"))
    thin.set_mask(mask_of(REGION_ARRAYS[f"mask_darts_fewshot_{case['mask']}"]))
    batches = torch.from_numpy(REGION_ARRAYS[f"x_{case['batch']}_{case['batches']}_{case['quantised']}"])
    before = {name: buffer.clone() for name, buffer in thin.named_buffers()}
    thin.eval()
    patterns = torch.cat([kernels.activation_patterns(thin, batch) for batch in batches])
    assert kernels.count_linear_regions(patterns) == case["distinct"] == round(case["count_reference"])
    assert all(torch.equal(buffer, before[name]) for name, buffer in thin.named_buffers())
    assert not any(module.training for module in thin.modules())


class Rectified(nn.Module):
    """A ReLU module, a functional one and a method, and one on vectors, which is no map."""

    def forward(self, x):
        x = nn.ReLU()(x)
        x = nn.functional.relu(x - 0.5)
        return torch.relu((x - 0.2).relu().mean((2, 3)))


def test_activation_patterns_are_the_signs_of_all_relus_on_maps_in_order():
    x = torch.tensor([[[[-1.0, 0.3, 0.6, 2.0]]], [[[-1.0, -1.0, -1.0, 0.1]]]])
    patterns = kernels.activation_patterns(Rectified(), x)
    first = [False, True, True, True, False, False, True, True, False, False, False, True]
    assert patterns.tolist() == [first, [False] * 3 + [True] + [False] * 8]


def test_a_network_without_relus_has_no_activation_patterns():
    with pytest.raises(KernelError, match="executes no ReLU"):
        kernels.activation_patterns(nn.Conv2d(1, 1, 3), torch.zeros(2, 1, 3, 3))
