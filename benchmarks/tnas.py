"""Time and memory of one meta-iteration of T-NAS's search, beside a plain port of the published loops.

    python benchmarks/tnas.py --out benchmarks/figures/tnas_cpu.json

One meta-iteration adapts weights and alphas of the supernet to the support set of each task, takes the gradient of the
query loss at what they have become (first order), and makes a step of Adam on each of the two. Sizes are the published
ones: 16 channels, images of 84x84 pixels (noise), 4 tasks, 5 inner steps, 5-way 1-shot with 15 queries per class.

"plain" is written out below and run nowhere else: every operation alone on maps with one channel after the other,
`none` too; six query passes per task where one is needed, four of them with a graph, each built while the last is
still there; weights changed in place and set back from copies. Both start from the same weights; that their gradients
agree is checked in float64 on a smaller task. Every measurement is a fresh process, so that its peak of memory is its
own.
"""

import argparse
import json
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline import spaces
from pipeline.core import provenance
from pipeline.core.artifacts import write_json
from pipeline.core.device import choose_device, use_threads
from pipeline.core.progress import say
from pipeline.core.rng import torch_stream
from pipeline.learners.gradient import GradientLearner
from pipeline.learners.meta_learner import Tasks
from pipeline.learners.settings import GradientConfig
from pipeline.nets.init import initialise

N_WAY, N_INNER, SIZE = 5, 5, 84
INNER_LR, INNER_LR_ALPHAS = 0.01, 30.0
LR, LR_ALPHAS, DECAY_ALPHAS = 1e-3, 1e-3, 1e-3
VARIANTS = ("ours", "plain")
# between float64 gradients; in float32 five steps with a rate of 30 make more of rounding than can be judged
ALLOWED = 1e-6


def inner_lr(name: str) -> float:
    return INNER_LR_ALPHAS if name.startswith("alphas.") else INNER_LR


def depthwise(channels: int, kernel: int, stride: int, dilation: int) -> list[nn.Module]:
    padding = dilation * (kernel // 2)
    return [
        nn.ReLU(),
        nn.Conv2d(channels, channels, kernel, stride, padding, dilation, channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels, affine=False),
    ]


class PlainZero(nn.Module):
    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride].mul(0.0)


class PlainReduce(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.first = nn.Conv2d(channels, channels // 2, 1, stride=2, bias=False)
        self.second = nn.Conv2d(channels, channels // 2, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(channels, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(x)
        if x.shape[2] % 2:
            x = functional.pad(x, (1, 0, 1, 0))
        return self.norm(torch.cat([self.first(x), self.second(x[:, :, 1:, 1:])], dim=1))


class PlainEdge(nn.Module):
    """The eight operations one after the other, each multiplied by its weight."""

    def __init__(self, c: int, stride: int):
        super().__init__()
        pools = nn.MaxPool2d(3, stride, 1), nn.AvgPool2d(3, stride, 1, count_include_pad=False)
        self.operations = nn.ModuleList(
            [
                PlainZero(stride),
                *(nn.Sequential(pool, nn.BatchNorm2d(c, affine=False)) for pool in pools),
                nn.Identity() if stride == 1 else PlainReduce(c),
                *(nn.Sequential(*depthwise(c, k, stride, 1), *depthwise(c, k, 1, 1)) for k in (3, 5)),
                *(nn.Sequential(*depthwise(c, k, stride, 2)) for k in (3, 5)),
            ]
        )

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        return sum(weight * operation(x) for weight, operation in zip(weights, self.operations, strict=True))


class PlainCell(nn.Module):
    def __init__(self, c_before: int, c_previous: int, c: int, reduction: bool):
        super().__init__()
        self.preprocess = nn.ModuleList(
            nn.Sequential(nn.ReLU(), nn.Conv2d(c_in, c, 1, bias=False), nn.BatchNorm2d(c, affine=False))
            for c_in in (c_before, c_previous)
        )
        sources = [source for node in range(4) for source in range(node + 2)]
        self.edges = nn.ModuleList(PlainEdge(c, 2 if reduction and source < 2 else 1) for source in sources)

    def forward(self, before: Tensor, previous: Tensor, weights: Tensor) -> Tensor:
        nodes, first = [layer(x) for layer, x in zip(self.preprocess, (before, previous), strict=True)], 0
        for _ in range(4):
            edges = self.edges[first : first + len(nodes)], weights[first : first + len(nodes)]
            first += len(nodes)
            nodes.append(sum(edge(x, row) for x, edge, row in zip(nodes, *edges, strict=True)))
        return torch.cat(nodes[2:], dim=1)


class PlainAlphas(nn.Module):
    def __init__(self):
        super().__init__()
        self.normal, self.reduce = (nn.Parameter(torch.zeros(14, 8)) for _ in range(2))


class PlainNetwork(nn.Module):
    """The supernet with the weights of ours, whose parameters come in the same order."""

    def __init__(self, ours: nn.Module, channels: int):
        super().__init__()
        c, wide = channels, 3 * channels
        self.stem = nn.Sequential(
            nn.Conv2d(3, wide // 2, 3, padding=1, bias=False),
            nn.BatchNorm2d(wide // 2),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(wide // 2, wide, 3, padding=1, bias=False),
            nn.BatchNorm2d(wide),
            nn.MaxPool2d(2),
        )
        self.cells = nn.ModuleList([PlainCell(wide, wide, c, False), PlainCell(wide, 4 * c, 2 * c, True)])
        self.classifier = nn.Linear(8 * c, N_WAY)
        self.alphas = PlainAlphas()
        with torch.no_grad():
            for mine, theirs in zip(self.parameters(), ours.parameters(), strict=True):
                mine.copy_(theirs)

    def forward(self, images: Tensor) -> Tensor:
        stem = self.stem(images)
        normal = self.cells[0](stem, stem, self.alphas.normal.softmax(-1))
        reduced = self.cells[1](stem, normal, self.alphas.reduce.softmax(-1))
        return self.classifier(reduced.mean(dim=(2, 3)))


def plain_gradients(network: nn.Module, tasks: Tasks) -> list[Tensor]:
    """Meta-gradients by the published loops."""
    parameters = dict(network.named_parameters())
    copies = [weight.detach().clone() for weight in parameters.values()]
    totals = [torch.zeros_like(copy) for copy in copies]

    def right(logits: Tensor, labels: Tensor) -> float:
        return float((logits.argmax(1) == labels).float().mean())

    for support, support_labels, query, query_labels in zip(*vars(tasks).values(), strict=True):
        accuracies = []
        with torch.no_grad():
            accuracies.append(right(network(query), query_labels))
        for step in range(N_INNER):
            loss = functional.cross_entropy(network(support), support_labels)
            network.zero_grad(set_to_none=False)
            loss.backward()
            with torch.no_grad():
                for name, weight in parameters.items():
                    weight -= inner_lr(name) * weight.grad
            with torch.set_grad_enabled(step > 0):
                logits = network(query)
                query_loss = functional.cross_entropy(logits, query_labels)
            accuracies.append(right(logits, query_labels))
        network.zero_grad(set_to_none=False)
        query_loss.backward()
        with torch.no_grad():
            for weight, total, copy in zip(parameters.values(), totals, copies, strict=True):
                total += weight.grad / len(tasks)
                weight.copy_(copy)
    return totals


def learner_of(network: nn.Module) -> GradientLearner:
    """T-NAS's inner loop: first order, weights and alphas adapt together."""
    config = GradientConfig(
        inner_lr=INNER_LR, inner_lr_alphas=INNER_LR_ALPHAS, inner_steps=N_INNER, first_order=True, adapts="all"
    )
    return GradientLearner(network, config)


def iteration(
    variant: str, channels: int, tasks: Tasks, dtype: torch.dtype = torch.float32
) -> tuple[list[Tensor], Callable[[], None]]:
    """A place for the meta-gradients, and what makes one meta-iteration and leaves them there."""
    tasks = replace(tasks, support=tasks.support.to(dtype), query=tasks.query.to(dtype))
    network = spaces.get("tnas")().relax(N_WAY, channels)
    initialise(network, "torch_default", torch_stream(0, "benchmark", "weights"))
    if variant == "plain":
        network = PlainNetwork(network, channels)
    network.to(dtype).train()
    named = dict(network.named_parameters())
    alphas = [named.pop("alphas.normal"), named.pop("alphas.reduce")]
    optimisers = (
        torch.optim.Adam(named.values(), lr=LR),
        torch.optim.Adam(alphas, lr=LR_ALPHAS, betas=(0.5, 0.999), weight_decay=DECAY_ALPHAS),
    )
    found: list[Tensor] = []

    def run() -> None:
        if variant == "plain":
            found[:] = plain_gradients(network, tasks)
        else:
            state = {name: weight.detach() for name, weight in network.named_parameters()}
            gradients = learner_of(network).meta_gradient(state, tasks).gradients
            found[:] = [gradients[name] for name in state]
        for weight, gradient in zip(network.parameters(), found, strict=True):
            weight.grad = gradient
        for optimiser in optimisers:
            optimiser.step()

    return found, run


def noise(n_tasks: int, n_queries: int) -> Tasks:
    generator = torch_stream(0, "benchmark", "images")
    labels = torch.arange(N_WAY)
    queries = labels.repeat_interleave(n_queries)
    support, query = (torch.randn(n_tasks, len(of), 3, SIZE, SIZE, generator=generator) for of in (labels, queries))
    return Tasks(support, labels.expand(n_tasks, -1), query, queries.expand(n_tasks, -1))


def measure(variant: str, arguments: argparse.Namespace) -> dict:
    """One process's work: one meta-iteration, its time, the peak memory of the process."""
    use_threads(arguments.threads)
    _, run = iteration(variant, arguments.channels, noise(arguments.tasks, arguments.queries))
    start, start_processor = time.perf_counter(), time.process_time()
    run()
    seconds, processor = time.perf_counter() - start, time.process_time() - start_processor
    return {
        "seconds": seconds,
        "processor_seconds": processor,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def in_fresh_process(variant: str, arguments: argparse.Namespace) -> dict:
    """`measure` in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        answer = pathlib.Path(folder) / "measured.json"
        numbers = ("channels", "tasks", "queries", "threads")
        given = [text for name in numbers for text in (f"--{name}", str(getattr(arguments, name)))]
        command = [sys.executable, "-W", "ignore", __file__, *given, "--measure", variant, "--out", str(answer)]
        subprocess.run(command, check=True)
        return json.loads(answer.read_text())


def difference() -> float:
    """Of the meta-gradients of one task, in float64 and with 4 channels, relative to their norm.

    Raises RuntimeError when rounding does not explain it.
    """
    found = {}
    for variant in VARIANTS:
        gradients, run = iteration(variant, 4, noise(1, 3), torch.float64)
        run()
        found[variant] = torch.cat([gradient.flatten() for gradient in gradients])
    relative = float((found["ours"] - found["plain"]).norm() / found["plain"].norm())
    if not relative <= ALLOWED:
        raise RuntimeError(f"Meta-gradients differ by {relative:.2g}; {ALLOWED:.0e} is what rounding explains.")
    return relative


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--channels", type=int, default=16, help="channels of the first cell")
    parser.add_argument("--tasks", type=int, default=4, help="tasks of the meta-batch")
    parser.add_argument("--queries", type=int, default=15, help="queries per class")
    parser.add_argument("--threads", type=int, default=1, help="processor threads (0: all)")
    parser.add_argument("--rounds", type=int, default=2, help="rounds in which the variants take turns")
    parser.add_argument("--measure", choices=VARIANTS, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="JSON file of the figures")
    arguments = parser.parse_args()
    if arguments.measure:
        write_json(arguments.out, measure(arguments.measure, arguments))
        return
    runs: dict[str, list[dict]] = {variant: [] for variant in VARIANTS}
    for turn in range(arguments.rounds):
        for variant, measured in runs.items():
            run = in_fresh_process(variant, arguments)
            measured.append(run)
            say(f"round {turn + 1}, {variant}: {run['processor_seconds']:.1f} s, {run['peak_gib']:.2f} GiB")
    keys = ("seconds", "processor_seconds", "peak_gib")
    pairs = list(zip(runs["plain"], runs["ours"], strict=True))
    figures = {
        "what": __doc__.splitlines()[0],
        "setting": {name: getattr(arguments, name) for name in ("channels", "tasks", "queries", "threads", "rounds")},
        "variants": {
            name: {key: round(statistics.median(run[key] for run in measured), 3) for key in keys}
            for name, measured in runs.items()
        },
        "times_less": {
            key: round(statistics.median(plain[key] / ours[key] for plain, ours in pairs), 2) for key in keys
        },
        "difference_of_meta_gradients": difference(),
        "hardware": provenance.hardware(choose_device("cpu")),
        "versions": provenance.versions(),
    }
    write_json(arguments.out, figures)


if __name__ == "__main__":
    main()
