"""Time of the training-free indicators: TEG-NAS's three beside plain loops, and the cheap ones over a whole space.

    python benchmarks/indicators.py --out benchmarks/figures/indicators_cpu.json

The first part measures the condition number, the regression error and the linear regions of cells of NAS-Bench-201 as
TEG-NAS does: three kernel networks (3 channels, 3 cells, BatchNorm) with 64 images and 64 held out, three thin networks
with 3 batches of 1000 patches, all noise. It is done by our kernels and by the published loops, which are written out
below and run nowhere else: for each image a backward pass through the whole batch, once for the condition number and
again for the images and for the held-out images of the regression; hooks on ReLUs and the matrix of all pairs of
patches for the regions. "loops" runs them on cells that weigh every operation by a softmax, as the published networks
do; "loops on our network" leaves that out. All take turns on the same weights and images; times are the processor's.

The second part scores cells by the cheap proxies and forecasts the time of all 15,625 on one core.
"""

import argparse
import copy
import pathlib
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from pipeline import proxies, spaces
from pipeline.core import provenance
from pipeline.core.artifacts import write_json
from pipeline.core.device import choose_device, use_threads
from pipeline.core.progress import say
from pipeline.core.rng import torch_stream
from pipeline.core.types import LabelledBatch
from pipeline.nets.init import initialise
from pipeline.nets.stage_network import EDGES, MaskedDenseCell
from pipeline.proxies.sharing import value_of

SPACE = spaces.get("nas_bench_201")()
N_CLASSES, N_IMAGES, IMAGE_SIZE, N_PATCHES, PATCHES_PER_BATCH, N_REPEATS = 10, 64, 32, 3000, 1000, 3
INDICATORS = ("coupled_ntk_condition", "ntk_regression_error", "linear_regions")
N_CELLS = 15_625
CONVOLUTIONS = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
CHEAP = ("linear_regions", "n_params", "flops", "naswot", "synflow")


class PublishedCell(nn.Module):
    """A cell as the published code runs it: each edge the sum of its operations, weighed by a softmax of `alphas`."""

    def __init__(self, cell: MaskedDenseCell, alphas: nn.Parameter):
        super().__init__()
        self.edges, self.alphas = cell.edges, alphas

    def forward(self, x: Tensor) -> Tensor:
        weights, nodes = self.alphas.softmax(-1), [x]
        for target in range(1, 4):
            terms = []
            for edge, (source, to) in enumerate(EDGES):
                if to == target:
                    terms += [self._term(edge, o, weights[edge, o], nodes[source]) for o in range(weights.shape[1])]
            nodes.append(sum(terms))
        return nodes[-1]

    def _term(self, edge: int, operation: int, weight: Tensor, x: Tensor) -> Tensor | int:
        if weight <= 0.01:
            return 0
        name = SPACE.operations[operation]
        return weight * (x.mul(0.0) if name == "none" else self.edges[edge][name](x))


def published(network: nn.Module, mask: Tensor) -> nn.Module:
    """A copy of a masked network that runs its cells as the published code does."""
    network = copy.deepcopy(network).train()
    alphas = nn.Parameter(torch.where(mask[0], 0.0, -1000.0))
    for place, cell in enumerate(network.cells):
        if isinstance(cell, MaskedDenseCell):
            network.cells[place] = PublishedCell(cell, alphas)
    return network


def published_rows(network: nn.Module, images: Tensor, words: tuple[str, ...]) -> Tensor:
    """Gradients (n p) in the parameters whose name holds all `words`, image by image."""
    network.zero_grad()
    logits, rows = network(images), []
    for i in range(len(images)):
        logits[i : i + 1].backward(torch.ones_like(logits[i : i + 1]), retain_graph=True)
        row = [
            parameter.grad.view(-1).detach()
            for name, parameter in network.named_parameters()
            if all(word in name for word in words) and parameter.grad is not None
        ]
        rows.append(torch.cat(row, -1))
        network.zero_grad()
    return torch.stack(rows)


def published_condition(network: nn.Module, batch: LabelledBatch) -> float:
    rows = published_rows(network, batch.images, ("weight",))
    eigenvalues = torch.linalg.eigvalsh(torch.einsum("nc,mc->nm", rows, rows))
    return float(eigenvalues[-1] / eigenvalues[0])


def published_error(network: nn.Module, batch: LabelledBatch) -> float:
    rows = published_rows(network, batch.images, ("cells", "weight"))
    held_out = published_rows(network, batch.held_out_images, ("cells", "weight"))
    targets, wanted = (
        nn.functional.one_hot(labels, batch.n_classes).float() for labels in (batch.labels, batch.held_out_labels)
    )
    targets, wanted = targets - targets.mean(0), wanted - wanted.mean(0)
    predicted = torch.einsum("nc,mc->nm", held_out, rows) @ torch.inverse(torch.einsum("nc,mc->nm", rows, rows))
    return float((predicted @ targets - wanted).square().sum(1).mean())


@torch.no_grad()
def published_regions(network: nn.Module, patches: Tensor) -> float:
    found: list[Tensor] = []

    def note(module, inputs, output):
        found.append(output.detach().flatten(1))

    hooks = [module.register_forward_hook(note) for module in network.modules() if isinstance(module, nn.ReLU)]
    batches = []
    for part in patches.split(PATCHES_PER_BATCH):
        found.clear()
        network(part)
        batches.append(torch.cat(found, 1))
    for hook in hooks:
        hook.remove()
    active = torch.sign(torch.cat(batches))
    differing = active @ (1 - active).T
    same = 1 - torch.sign(differing + differing.T)
    return float((1 / same.sum(1)).sum())


class Setting:
    """The networks, images and patches of one measurement."""

    def __init__(self):
        images = [self._noise(name, N_IMAGES, 3, IMAGE_SIZE, IMAGE_SIZE) for name in ("images", "held out")]
        labels = [torch.arange(N_IMAGES) % N_CLASSES, torch.arange(N_IMAGES).flip(0) % N_CLASSES]
        self.batch = LabelledBatch(images[0], labels[0], images[1], labels[1], N_CLASSES)
        self.patches = self._noise("patches", N_PATCHES, 1, 3, 3)
        self.coupled = SPACE.supernet(n_classes=N_CLASSES, channels=3, n_cells=3, norm="batchnorm")
        self.thin = SPACE.thin_supernet()

    @staticmethod
    def _noise(name: str, *shape: int) -> Tensor:
        return torch.randn(shape, generator=torch_stream(0, "benchmark", name))

    def networks(self, mask: Tensor, repeat: int) -> tuple[nn.Module, nn.Module]:
        """The coupled and the thin network of a cell, with the weights of a repeat."""
        for network, name in ((self.coupled, "coupled"), (self.thin, "thin")):
            initialise(network, "torch_default", torch_stream(0, "benchmark", name, repeat))
            network.set_mask(mask)
        return self.coupled, self.thin


def ours(setting: Setting, mask: Tensor) -> list[list[float]]:
    """The indicators of a cell, in the order of INDICATORS, per repeat."""
    values = []
    for repeat in range(N_REPEATS):
        coupled, thin = setting.networks(mask, repeat)
        shared: dict = {}
        values.append([])
        for name in INDICATORS:
            proxy, draws = proxies.get(name)(), torch.Generator()
            given = (thin, setting.patches) if proxy.network == "thin" else (coupled, setting.batch)
            values[-1].append(value_of(proxy, *given, draws, shared))
    return values


def loops(setting: Setting, mask: Tensor, own_network: bool) -> list[list[float]]:
    """The published loops, on networks that run as the published ones do, or on ours."""
    values = []
    for repeat in range(N_REPEATS):
        coupled, thin = (copy.deepcopy(one).train() for one in setting.networks(mask, repeat))
        if not own_network:
            coupled, thin = published(coupled, mask), published(thin, mask)
        values.append(
            [
                published_condition(coupled, setting.batch),
                published_error(coupled, setting.batch),
                published_regions(thin, setting.patches),
            ]
        )
    return values


VARIANTS: dict[str, Callable[[Setting, Tensor], list[list[float]]]] = {
    "ours": ours,
    "loops": lambda setting, mask: loops(setting, mask, own_network=False),
    "loops on our network": lambda setting, mask: loops(setting, mask, own_network=True),
}


def compare(texts: list[str], rounds: int) -> dict[str, dict]:
    """Per cell and variant the median processor seconds and the values; what the variants differ by."""
    setting, figures = Setting(), {}
    ours(setting, SPACE.full_mask())
    for text in texts:
        mask = SPACE.mask_of(SPACE.from_text(text))
        seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
        for _ in range(rounds):
            for name, run in VARIANTS.items():
                start = time.process_time()
                found = run(setting, mask)
                seconds[name].append(time.process_time() - start)
                figures.setdefault(text, {})[name] = {"values": [statistics.mean(v) for v in zip(*found, strict=True)]}
        of_cell = figures[text]
        for name in VARIANTS:
            of_cell[name]["seconds"] = round(statistics.median(seconds[name]), 3)
            of_cell[name]["difference"] = [
                abs(value / expected - 1)
                for value, expected in zip(of_cell[name]["values"], of_cell["loops"]["values"], strict=True)
            ]
        for name in ("loops", "loops on our network"):
            ratios = [slow / fast for slow, fast in zip(seconds[name], seconds["ours"], strict=True)]
            of_cell["ours"][f"times faster than {name}"] = round(statistics.median(ratios), 2)
        say(f"{text}: " + ", ".join(f"{name} {of_cell[name]['seconds']:.2f} s" for name in VARIANTS))
    return figures


def score_cheaply(n_cells: int) -> dict[str, dict[str, float]]:
    """Per cheap proxy the architectures scored in a second of one core, and the hours that the whole space would take.

    The network of each cell is made by setting the mask of one supernet: of the benchmark's own size (16 channels, 15
    cells) for proxies meant for full networks, the kernel's (16 channels, 3 cells) and the thin one for the others.
    """
    sizes = {"full": (16, 15, "batchnorm"), "kernel": (16, 3, "groupnorm16")}
    networks = {
        kind: SPACE.supernet(n_classes=N_CLASSES, channels=channels, n_cells=cells, norm=norm)
        for kind, (channels, cells, norm) in sizes.items()
    }
    networks["thin"] = SPACE.thin_supernet()
    setting, draws = Setting(), torch_stream(0, "benchmark", "cells")
    masks = [SPACE.mask_of(SPACE.sample(draws)) for _ in range(n_cells)]
    figures = {}
    for name in CHEAP:
        proxy = proxies.get(name)()
        batch = setting.patches if proxy.needs == "patches" else setting.batch.images
        network = networks[proxy.network]
        start = time.process_time()
        for mask in masks:
            network.set_mask(mask)
            proxy(network, batch, torch.Generator())
        rate = n_cells / (time.process_time() - start)
        figures[name] = {"architectures_per_second": round(rate, 2), "hours_for_all": round(N_CELLS / rate / 3600, 3)}
        say(f"{name}: {rate:.1f} cells a second, {N_CELLS:,} in {N_CELLS / rate / 60:.1f} minutes")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=4, help="cells to compare on, beside the one of convolutions only")
    parser.add_argument("--rounds", type=int, default=3, help="rounds in which the variants take turns")
    parser.add_argument("--scored", type=int, default=20, help="cells to score by the cheap proxies")
    parser.add_argument("--threads", type=int, default=1, help="processor threads (0: all)")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="JSON file of the figures")
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    draws = torch_stream(0, "benchmark", "compared")
    texts = [CONVOLUTIONS, *(SPACE.to_text(SPACE.sample(draws)) for _ in range(arguments.cells))]
    compared = compare(texts, arguments.rounds)
    ratios = {
        name: statistics.median(of_cell["ours"][f"times faster than {name}"] for of_cell in compared.values())
        for name in ("loops", "loops on our network")
    }
    figures = {
        "what": __doc__.splitlines()[0],
        "setting": {name: getattr(arguments, name) for name in ("cells", "rounds", "scored", "threads")},
        "times_faster": ratios,
        "cells": compared,
        "whole_space": score_cheaply(arguments.scored),
        **provenance.gather(choose_device("cpu")),
    }
    write_json(arguments.out, figures)


if __name__ == "__main__":
    main()
