"""Time and memory of an episode of the meta-learner LSTM beside a plain loop, in meta-training and in a test.

    python benchmarks/metalstm.py --out benchmarks/figures/metalstm_cpu.json

The loop is written out below, runs nowhere else, and does what the published PyTorch code does: two copies of the
network, one that gives losses and gradients and one that carries the graph; parameters written, gradients read and
graph tensors put in place parameter by parameter; torch's LSTM cell over rows of coordinates; all states kept; the
whole graph also in a test. Both take turns on the same weights and images; in double precision they must agree in
losses, gradients and logits. Times are the processor's. Memory is measured in a fresh process for each: the peak of an
episode over what the process held before it.

Sizes are the published ones: 5 classes of 5 support and 15 query images of 84 pixels, 32 filters, 8 updates of 25
images, 20 hidden numbers a coordinate. Images are noise.
"""

import argparse
import copy
import gc
import json
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import psutil
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pipeline import learners, spaces
from pipeline.core import provenance
from pipeline.core.artifacts import write_json
from pipeline.core.device import choose_device, use_threads
from pipeline.core.progress import say
from pipeline.core.rng import torch_stream
from pipeline.evaluation.cost import Meter
from pipeline.learners.lstm_settings import LstmConfig
from pipeline.learners.meta_learner import State, Tasks

WAY, SHOT, N_QUERY, IMAGE_SIZE, CHANNELS, N_BLOCKS = 5, 5, 15, 84, 32, 4
SPACE = spaces.get("conv4_flat")()
CONFIG = LstmConfig()
SCHEDULE = CONFIG.schedule(SHOT)
MODES = ("training", "test")
DOUBLE_ROUNDING = 1e-6


class LstmLayer(nn.Module):
    """The first layer of the plain loop's rule: an LSTM cell over the coordinates."""

    def __init__(self, state: State):
        super().__init__()
        self.cell = nn.LSTMCell(4, CONFIG.hidden_size)
        self.cell.to(state["rule.bF"].dtype)
        for name, weight in self.cell.named_parameters():
            weight.data.copy_(state[f"rule.{name}"])

    def forward(self, inputs: tuple[Tensor, Tensor, Tensor], before: list[Tensor] | None) -> list[Tensor]:
        of_loss, of_gradient, _ = inputs
        n = len(of_gradient)
        if before is None:
            before = [of_gradient.new_zeros(n, CONFIG.hidden_size), of_gradient.new_zeros(n, CONFIG.hidden_size)]
        return list(self.cell(torch.cat((of_loss.expand(n, 2), of_gradient), 1), (before[0], before[1])))


class WeightLayer(nn.Module):
    """The second layer of the plain loop's rule: its cell state is the network's weights."""

    def __init__(self, state: State, weights: Tensor):
        super().__init__()
        for name in ("WF", "WI", "bF", "bI"):
            self.register_parameter(name, nn.Parameter(state[f"rule.{name}"].clone()))
        self.cI = nn.Parameter(weights.clone()[:, None])

    def forward(self, hidden: Tensor, gradient: Tensor, before: list[Tensor] | None) -> list[Tensor]:
        if before is None:
            zeros = torch.zeros_like(gradient)
            before = [zeros, zeros, self.cI]
        f, i, c = before
        f = torch.mm(torch.cat((hidden, c, f), 1), self.WF) + self.bF.expand_as(f)
        i = torch.mm(torch.cat((hidden, c, i), 1), self.WI) + self.bI.expand_as(i)
        return [f, i, torch.sigmoid(f) * c - torch.sigmoid(i) * gradient]


def plain_network() -> nn.Sequential:
    """The learner of the papers, layer after layer."""
    layers: list[nn.Module] = []
    for block in range(N_BLOCKS):
        convolution = nn.Conv2d(CHANNELS if block else 3, CHANNELS, 3, padding=1)
        norm = nn.BatchNorm2d(CHANNELS, eps=1e-3, momentum=SCHEDULE.bn_momentum)
        layers += [convolution, norm, nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(CHANNELS * 25, WAY))


def preprocess(x: Tensor) -> Tensor:
    threshold = torch.exp(torch.tensor(-10.0))
    large = (x.abs() >= threshold).to(x)
    first = large * torch.log(x.abs() + 1e-8) / 10.0 + (1 - large) * -1
    second = large * torch.sign(x) + (1 - large) * torch.exp(torch.tensor(10.0)) * x
    return torch.stack((first, second), 1)


class PlainLoop:
    """The published loop on a state of ours."""

    def __init__(self, state: State):
        weights = torch.cat([value.flatten() for name, value in state.items() if not name.startswith("rule.")])
        self.first, self.second = LstmLayer(state), WeightLayer(state, weights)
        self.with_gradient = plain_network().to(weights.dtype)
        self.with_graph = copy.deepcopy(self.with_gradient)

    def named(self) -> dict[str, nn.Parameter]:
        """Its learned tensors under the names of ours; the initial weights as one."""
        found = {f"rule.{name}": weight for name, weight in self.first.cell.named_parameters()}
        found |= {f"rule.{name}": weight for name, weight in self.second.named_parameters()}
        return found | {"weights": found.pop("rule.cI")}

    def episode(self, tasks: Tasks, training: bool) -> Tensor:
        """Logits of the queries, with their graph."""
        for network in (self.with_gradient, self.with_graph):
            for layer in network.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.reset_running_stats()
        self.with_gradient.train()
        self.with_graph.train(training)
        support, labels = tasks.support[0], tasks.support_labels[0]
        weights = self.second.cI
        states: list[tuple[list[Tensor] | None, list[Tensor] | None]] = [(None, None)]
        for _ in range(SCHEDULE.passes):
            for start in range(0, len(support), SCHEDULE.batch_size):
                rows = slice(start, start + SCHEDULE.batch_size)
                self.write(weights)
                self.with_gradient.zero_grad()
                loss = cross_entropy(self.with_gradient(support[rows]), labels[rows])
                loss.backward()
                parts = [weight.grad.data.view(-1) / SCHEDULE.batch_size for weight in self.with_gradient.parameters()]
                gradient = torch.cat(parts)
                inputs = preprocess(loss.data[None]), preprocess(gradient), gradient[:, None]
                first = self.first(inputs, states[-1][0])
                second = self.second(first[0], gradient[:, None], states[-1][1])
                states.append((first, second))
                weights = second[2]
        self.put_in_place(weights)
        return self.with_graph(tasks.query[0])

    def write(self, weights: Tensor) -> None:
        at = 0
        for weight in self.with_gradient.parameters():
            weight.data.copy_(weights[at : at + weight.numel()].data.view_as(weight))
            at += weight.numel()

    def put_in_place(self, weights: Tensor) -> None:
        learned = self.with_gradient.state_dict()
        for name, buffer in self.with_graph.named_buffers():
            buffer.copy_(learned[name])
        at = 0
        for ours, theirs in zip(self.with_graph, self.with_gradient, strict=True):
            for name, weight in theirs.named_parameters(recurse=False):
                ours._parameters[name] = weights[at : at + weight.numel()].view_as(weight)
                at += weight.numel()

    def train(self, tasks: Tasks) -> tuple[Tensor, dict[str, Tensor]]:
        named = self.named()
        for weight in named.values():
            weight.grad = None
        loss = cross_entropy(self.episode(tasks, training=True), tasks.query_labels[0])
        loss.backward()
        return loss.detach()[None], {name: weight.grad.flatten() for name, weight in named.items()}

    def test(self, tasks: Tasks) -> Tensor:
        return self.episode(tasks, training=False)[None]


class Ours:
    """The learner of the pipeline."""

    def __init__(self, network: nn.Module, state: State, config: LstmConfig = CONFIG):
        self.learner, self.state = learners.get("meta_lstm")(network, config), state

    def train(self, tasks: Tasks) -> tuple[Tensor, dict[str, Tensor]]:
        found = self.learner.meta_gradient(self.state, tasks)
        rule = {name: one.flatten() for name, one in found.gradients.items() if name.startswith("rule.")}
        weights = [one.flatten() for name, one in found.gradients.items() if not name.startswith("rule.")]
        return found.loss, rule | {"weights": torch.cat(weights)}

    def test(self, tasks: Tasks) -> Tensor:
        return self.learner.predict(self.state, tasks)


def variants(dtype: torch.dtype) -> dict[str, PlainLoop | Ours]:
    network = SPACE.build("conv4_flat", n_classes=WAY, channels=CHANNELS, image_size=IMAGE_SIZE)
    state = learners.get("meta_lstm")(network, CONFIG).start(torch_stream(0, "benchmark", "start"))
    network, state = network.to(dtype), {name: value.to(dtype) for name, value in state.items()}
    return {
        "ours": Ours(network, state),
        "ours, steps recomputed": Ours(network, state, LstmConfig(recompute_steps=True)),
        "plain loop": PlainLoop(state),
    }


def episode(dtype: torch.dtype) -> Tasks:
    def images(n: int) -> Tensor:
        drawn = torch.randn(1, n, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch_stream(0, "benchmark", n))
        return drawn.to(dtype)

    support, query = (torch.arange(WAY).repeat_interleave(n)[None] for n in (SHOT, N_QUERY))
    return Tasks(images(WAY * SHOT), support, images(WAY * N_QUERY), query)


def runs_of(mode: str, dtype: torch.dtype = torch.float32) -> dict[str, Callable[[], object]]:
    """An episode by each variant."""
    tasks = episode(dtype)

    def run(one: PlainLoop | Ours) -> Callable[[], object]:
        return (lambda: one.train(tasks)) if mode == "training" else (lambda: one.test(tasks))

    return {name: run(one) for name, one in variants(dtype).items()}


def relative(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).norm() / theirs.norm()).item()


def difference(mode: str, ours, theirs) -> dict[str, float]:
    """Of logits, or of losses and of the gradients that lie furthest apart, each relative to their length."""
    if mode == "test":
        return {"logits": relative(ours.double(), theirs.detach().double())}
    gradients = max(relative(ours[1][name].double(), one.double()) for name, one in theirs[1].items())
    return {"loss": relative(ours[0].double(), theirs[0].double()), "gradients": gradients}


def must_agree(differences: dict[str, float]) -> dict[str, float]:
    for what, value in differences.items():
        if not value <= DOUBLE_ROUNDING:
            raise RuntimeError(f"{what} differ by {value:.2g}; {DOUBLE_ROUNDING:.0e} is what rounding explains.")
    return differences


def measure(mode: str, rounds: int) -> dict:
    """Median processor seconds of each variant, ratios of each round, and how far the results lie apart."""
    exact = {name: run() for name, run in runs_of(mode, torch.float64).items()}
    runs = runs_of(mode)
    found = {name: run() for name, run in runs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.process_time()
            run()
            seconds[name].append(time.process_time() - start)
    ratios = [slow / fast for slow, fast in zip(seconds["plain loop"], seconds["ours"], strict=True)]
    memory = {name: peak(name, mode) for name in runs}
    figures = {
        "seconds": {name: round(statistics.median(values), 3) for name, values in seconds.items()},
        "times faster than the plain loop": round(statistics.median(ratios), 2),
        "MiB": memory,
        "times less memory than the plain loop": round(memory["plain loop"] / memory["ours"], 2),
        "differences from the plain loop, double precision": must_agree(
            difference(mode, exact["ours"], exact["plain loop"])
        ),
        # rounding lets another pixel of a pool be the largest
        "rounding of single precision": {name: difference(mode, one, exact["ours"]) for name, one in found.items()},
    }
    say(f"{mode}: {figures}")
    return figures


def peak(name: str, mode: str) -> int:
    """MiB that an episode needs at its peak, measured in a process of its own."""
    line = [sys.executable, __file__, "--alone", name, mode]
    return json.loads(subprocess.run(line, capture_output=True, text=True, check=True).stdout)


def print_peak(name: str, mode: str) -> None:
    run = runs_of(mode)[name]
    gc.collect()
    before = psutil.Process().memory_info().rss / 2**20
    meter = Meter(choose_device("cpu"))
    run()
    print(round(meter.so_far()["peak_memory_mib"] - before))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds in which the variants take turns")
    parser.add_argument("--threads", type=int, default=1, help="processor threads (0: all)")
    parser.add_argument("--alone", nargs=2, metavar=("VARIANT", "MODE"), help="print the memory of one and stop")
    parser.add_argument("--out", type=pathlib.Path, help="JSON file of the figures")
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    if arguments.alone:
        print_peak(*arguments.alone)
        return
    if arguments.out is None:
        parser.error("the following arguments are required: --out")
    figures = {
        "what": __doc__.splitlines()[0],
        "setting": {name: getattr(arguments, name) for name in ("rounds", "threads")},
        **{mode: measure(mode, arguments.rounds) for mode in MODES},
        **provenance.gather(choose_device("cpu")),
    }
    write_json(arguments.out, figures)


if __name__ == "__main__":
    main()
