"""grad_norm, snip, zico, synflow and naswot against slow oracles, and what theory says about them."""

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from pipeline import kernels, proxies, spaces
from pipeline.core.errors import ConfigError
from pipeline.core.types import LabelledBatch
from pipeline.kernels.errors import KernelError
from pipeline.nets.norms import convert_norms
from pipeline.proxies.synflow import synaptic_flows

SPACES = ("darts", "darts_fewshot", "nas_bench_201")
NONE = torch.Generator()


def trainable(space_name, seed=0):
    space = spaces.get(space_name)()
    genotype = space.sample(torch.Generator().manual_seed(seed))
    return space.build(genotype, n_classes=5, channels=4, n_cells=3)


def labelled(n=8, size=10):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(n, 3, size, size, generator=generator)
    return LabelledBatch(images, torch.arange(n) % 5, images[:0], torch.arange(0), 5)


def value(name, network, batch, **knobs):
    return proxies.get(name)(**knobs)(network, batch, NONE)


def modules_with_gradients(network, images, labels):
    """(weight, gradient) of every convolution and linear layer, by the plainest use of autograd."""
    network = copy.deepcopy(network).train()
    nn.CrossEntropyLoss()(network(images), labels).backward()
    layers = [module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    return [(layer.weight.detach(), layer.weight.grad) for layer in layers if layer.weight.grad is not None]


@pytest.mark.parametrize("space_name", SPACES)
def test_grad_norm_and_snip_are_sums_over_layers(space_name):
    network, batch = trainable(space_name), labelled()
    pairs = modules_with_gradients(network, batch.images, batch.labels)
    norms = sum(math.sqrt(sum(float(g) ** 2 for g in gradient.flatten())) for _, gradient in pairs)
    assert value("grad_norm", network, batch) == pytest.approx(norms, rel=1e-5)
    saliencies = sum(float((weight * gradient).abs().sum()) for weight, gradient in pairs)
    assert value("snip", network, batch) == pytest.approx(saliencies, rel=1e-5)


def test_snip_is_what_masks_on_the_weights_would_be_worth():
    network, batch = trainable("nas_bench_201").double().train(), labelled()
    images, total = batch.images.double(), 0.0
    for layer in (network.stem[0], network.classifier):
        for i in range(layer.weight.numel()):
            losses = []
            for factor in (1 + 1e-5, 1 - 1e-5):
                twin = copy.deepcopy(network)
                with torch.no_grad():
                    twin.get_submodule("stem.0" if layer is network.stem[0] else "classifier").weight.flatten()[i] *= (
                        factor
                    )
                    losses.append(float(nn.functional.cross_entropy(twin(images), batch.labels)))
            total += abs(losses[0] - losses[1]) / 2e-5
    kept = [network.stem[0].weight, network.classifier.weight]
    found = proxies.get("snip").shares(network, dataclasses.replace(batch, images=images)).by_weight
    ours = sum(float((w * g).abs().sum()) for w, g in found if any(w.data_ptr() == one.data_ptr() for one in kept))
    assert ours == pytest.approx(total, rel=1e-4)


def test_the_scale_of_a_convolution_before_a_batchnorm_moves_the_gradient_and_not_the_saliency():
    # away from eps, BatchNorm makes the loss blind to the scale: w dL/dw is the same, dL/dw shrinks
    network, batch = trainable("nas_bench_201"), labelled()
    scaled = copy.deepcopy(network)
    for module in (*network.modules(), *scaled.modules()):
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-12
    with torch.no_grad():
        scaled.stem[0].weight.mul_(4)
    assert value("snip", scaled, batch) == pytest.approx(value("snip", network, batch), rel=1e-4)
    assert value("grad_norm", scaled, batch) < value("grad_norm", network, batch)


def test_snip_does_not_change_when_relus_are_rescaled():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 5))
    scaled, batch = copy.deepcopy(network), labelled()
    factors = torch.rand(6) + 0.5
    with torch.no_grad():
        scaled[0].weight.mul_(factors.view(-1, 1, 1, 1))
        scaled[0].bias.mul_(factors)
        scaled[2].weight.div_(factors.view(1, -1, 1, 1))
    assert value("snip", scaled, batch) == pytest.approx(value("snip", network, batch), rel=1e-5)
    assert value("grad_norm", scaled, batch) != pytest.approx(value("grad_norm", network, batch), rel=1e-3)


@pytest.mark.parametrize("n_batches", [2, 3])
@pytest.mark.parametrize("space_name", SPACES)
def test_zico_is_the_inverse_variation_of_gradients(space_name, n_batches):
    network, batch = trainable(space_name), labelled(9)
    parts = [range(start, 9, n_batches) for start in range(n_batches)]
    found = [modules_with_gradients(network, batch.images[list(p)], batch.labels[list(p)]) for p in parts]
    total = 0.0
    for layer in zip(*found, strict=True):
        gradients = np.stack([gradient.flatten().double().numpy() for _, gradient in layer])
        ratios = [np.abs(column).mean() / column.std() for column in gradients.T if column.std() > 0]
        if ratios:
            total += math.log(sum(ratios))
    assert value("zico", network, batch, n_batches=n_batches) == pytest.approx(total, rel=1e-4)


def test_zico_does_not_change_when_all_gradients_of_a_layer_are_scaled():
    network, batch = trainable("nas_bench_201"), labelled()
    scaled = copy.deepcopy(network)
    for module in (*network.modules(), *scaled.modules()):
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-12
    with torch.no_grad():
        scaled.stem[0].weight.mul_(3)
    assert value("zico", scaled, batch) == pytest.approx(value("zico", network, batch), rel=1e-3)


def test_zico_of_equal_batches_is_undefined_and_of_too_few_images_refused():
    network, batch = trainable("nas_bench_201"), labelled()
    twice = batch.images[:4].repeat_interleave(2, 0)
    same = dataclasses.replace(batch, images=twice, labels=batch.labels[:4].repeat_interleave(2))
    assert value("zico", network, same) == -math.inf
    with pytest.raises(ConfigError, match="n_batches is 5"):
        value("zico", network, batch, n_batches=5)


def test_labels_without_an_output_are_refused():
    batch = labelled()
    with pytest.raises(ConfigError, match="an image of class 7, and the network has 5 outputs"):
        value("snip", trainable("darts"), dataclasses.replace(batch, labels=batch.labels + 3))


@pytest.mark.parametrize("space_name", SPACES)
def test_synflow_is_the_flow_through_a_network_of_sizes(space_name):
    network = trainable(space_name)
    plain = convert_norms(copy.deepcopy(network), "nonorm").double()
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.abs_()
    plain(torch.ones(1, 3, 10, 10, dtype=torch.float64)).sum().backward()
    layers = [module for module in plain.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    total = sum(float((layer.weight.detach() * layer.weight.grad).abs().sum()) for layer in layers)
    assert value("synflow", network, labelled().images) == pytest.approx(total, rel=1e-12)


def test_every_layer_of_a_chain_carries_the_same_flow():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, stride=2),
        nn.GroupNorm(2, 6),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 5),
    )
    flows = [float(flow.sum()) for flow in synaptic_flows(network, (3, 9, 9)).values()]
    assert len(flows) == 3
    with torch.no_grad():
        plain = nn.Sequential(*(module for module in network if not isinstance(module, (nn.BatchNorm2d, nn.GroupNorm))))
        for name, parameter in plain.named_parameters():
            parameter.abs_() if name.endswith("weight") else parameter.zero_()
        flow = float(plain(torch.ones(1, 3, 9, 9)).sum())
    assert flows == pytest.approx([flow] * 3, rel=1e-5)


def test_into_and_out_of_every_channel_flows_the_same():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.Flatten(), nn.LazyLinear(2))
    network(torch.ones(1, 3, 6, 6))
    first, second, third = synaptic_flows(network, (3, 6, 6)).values()
    torch.testing.assert_close(first.sum((1, 2, 3)), second.sum((0, 2, 3)))
    torch.testing.assert_close(second.sum((1, 2, 3)), third.view(2, 5, -1).sum((0, 2)))


def test_the_flow_of_a_deep_network_leaves_float32_and_not_float64():
    layers = [layer for _ in range(30) for layer in (nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.ReLU())]
    network = nn.Sequential(nn.Conv2d(3, 8, 1), *layers)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(1.0)
    found = value("synflow", network, torch.zeros(1, 3, 16, 16))
    assert torch.finfo(torch.float32).max < found < math.inf
    with torch.no_grad():
        network[1].weight.fill_(1e38)
        network[3].weight.fill_(1e38)
    for _ in range(8):
        network.append(copy.deepcopy(network[1]))
    assert value("synflow", network, torch.zeros(1, 3, 16, 16)) == math.inf


@pytest.mark.parametrize("space_name", SPACES)
def test_naswot_is_the_log_determinant_of_agreements(space_name):
    network, images = trainable(space_name), labelled().images
    codes = []
    twin = copy.deepcopy(network).train()
    for module in twin.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(lambda module, inputs, output: codes.append((output > 0).flatten(1)))
    twin(images)
    codes = torch.cat(codes, 1).tolist()
    agreements = [[sum(a == b for a, b in zip(one, other, strict=True)) for other in codes] for one in codes]
    sign, logarithm = np.linalg.slogdet(np.array(agreements, float))
    assert sign == 1
    assert value("naswot", network, images) == pytest.approx(logarithm, rel=1e-10)


def test_naswot_of_two_equal_images_is_undefined():
    network, images = trainable("nas_bench_201"), labelled().images
    assert value("naswot", network, torch.cat([images, images[:1]])) == -math.inf


def test_agreements_do_not_depend_on_the_order_or_the_meaning_of_neurons_and_follow_that_of_images():
    patterns = torch.rand(9, 200, generator=torch.Generator().manual_seed(0)) > 0.4
    kernel = kernels.hamming_kernel(patterns)
    assert torch.equal(kernels.hamming_kernel(patterns[:, torch.randperm(200)]), kernel)
    assert torch.equal(kernels.hamming_kernel(patterns ^ (torch.rand(200) > 0.5)), kernel)
    order = torch.randperm(9)
    moved = kernels.hamming_kernel(patterns[order])
    assert torch.equal(moved, kernel[order][:, order])
    assert kernels.log_determinant(moved) == pytest.approx(kernels.log_determinant(kernel))
    assert torch.equal(kernel.diagonal(), torch.full((9,), 200.0, dtype=torch.float64))


def test_agreements_of_many_neurons_are_exact():
    patterns = torch.rand(3, 150_001, generator=torch.Generator().manual_seed(0)) > 0.5
    slow = (patterns.unsqueeze(0) == patterns.unsqueeze(1)).sum(2)
    assert torch.equal(kernels.hamming_kernel(patterns), slow.double())


def test_patterns_that_are_no_booleans_are_refused():
    with pytest.raises(KernelError, match="booleans"):
        kernels.hamming_kernel(torch.ones(3, 4))


def test_a_kernel_that_overflowed_or_is_singular_has_no_log_determinant():
    assert kernels.log_determinant(torch.full((2, 2), math.nan)) == -math.inf
    assert kernels.log_determinant(torch.ones(3, 3)) == -math.inf
    assert kernels.log_determinant(torch.diag(torch.tensor([2.0, 3.0]))) == pytest.approx(math.log(6))
