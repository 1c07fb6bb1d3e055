"""Time of MetaD2A's networks beside plain loops: steps of training, sampling and scoring of architectures.

    python benchmarks/metad2a.py --out benchmarks/figures/metad2a_cpu.json

The loops are written out below, run nowhere else, and use the weights of our networks. "loops" takes one data set and
one graph at a time: vertex by vertex and edge by edge, states kept on the vertices of igraph's graphs, messages of all
predecessors computed anew at every edge, and data sets encoded anew for every architecture that is scored. "loops in
step" is what the published code does: data sets one at a time, but the graphs of a batch take each step together,
gathered graph by graph. All take turns on the same weights, features and draws, and must agree: losses, gradients,
drawn graphs and scores are compared. Times are the processor's.

Sizes are the published ones: features of 512 numbers, 20 classes of 20 images, batches of 32; the generator with
hs = nz = 56, the predictor with hs = 512 and nz = 56; 500 cells of NAS-Bench-201 scored over 10 drawings of a data set.
Features are noise. Before sampling, the generator's decoder is fitted for a while to random cells, whose operations are
as frequent as in the published database, so that what it writes is mostly valid, as after a real meta-training.
Sampling starts from the latents of 100 drawings of a data set, used in turn; encoding them is timed apart.
"""

import argparse
import copy
import pathlib
import statistics
import time
from collections.abc import Callable

import igraph
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy, linear, one_hot

from pipeline import spaces
from pipeline.core import provenance
from pipeline.core.artifacts import write_json
from pipeline.core.device import choose_device, use_threads
from pipeline.core.progress import say
from pipeline.core.rng import torch_stream
from pipeline.meta_networks import Generator, Predictor
from pipeline.meta_networks.set_encoder import DatasetEncoder, SetPool
from pipeline.meta_networks.vertices import Messages, VertexCell
from pipeline.nets.init import construct, initialise

SPACE = spaces.get("nas_bench_201")()
FORM = SPACE.graph_form
N_CLASSES, N_IMAGES, FEATURE_DIM, BATCH, N_DRAWINGS = 20, 20, 512, 32, 10
LOOP_BATCH = 100
FITTED_STEPS, FITTED_LR = 300, 1e-3
# shares of none, skip, 1x1, 3x3 and pool on the six edges of the cells that the published predictor was trained on
SHARES = [
    (0.07, 0.10, 0.22, 0.54, 0.07),
    (0.14, 0.13, 0.21, 0.45, 0.08),
    (0.24, 0.14, 0.18, 0.32, 0.12),
    (0.05, 0.31, 0.31, 0.31, 0.03),
    (0.15, 0.13, 0.27, 0.36, 0.10),
    (0.07, 0.10, 0.32, 0.46, 0.05),
]


class Loops:
    """The published loops on our networks' weights; `in_step` lets the graphs of a batch take each step together."""

    def __init__(self, in_step: bool):
        self.in_step = in_step

    def parts(self, n: int) -> list[list[int]]:
        """Indices of the graphs that go through the loops together."""
        return [list(range(n))] if self.in_step else [[i] for i in range(n)]

    @staticmethod
    def attend(queries: Tensor, items: Tensor, weights: list[Tensor], biases: list[Tensor], output: nn.Linear):
        q, k, v = (linear(x, w, b) for x, w, b in zip((queries, items, items), weights, biases, strict=True))
        q, k, v = (torch.cat(one.chunk(4, 2)) for one in (q, k, v))
        attention = torch.softmax(q.bmm(k.transpose(1, 2)) / output.in_features**0.5, 2)
        mixed = torch.cat((q + attention.bmm(v)).chunk(4), 2)
        return mixed + torch.relu(output(mixed))

    def pool(self, pool: SetPool, items: Tensor) -> Tensor:
        first, second, seeded, last = pool
        for block in (first, second):
            weights, biases = block.project.weight.chunk(3), block.project.bias.chunk(3)
            items = self.attend(items, items, weights, biases, block.output)
        layers = (seeded.query, seeded.key, seeded.value)
        weights, biases = [layer.weight for layer in layers], [layer.bias for layer in layers]
        return last(self.attend(seeded.seed.repeat(len(items), 1, 1), items, weights, biases, seeded.output))

    def data_sets(self, encoder: DatasetEncoder, features: Tensor) -> Tensor:
        found = []
        for one in features:
            prototypes = self.pool(encoder.within_class, one)
            found.append(self.pool(encoder.across_classes, prototypes.transpose(0, 1)).view(1, -1))
        return torch.cat(found)

    @staticmethod
    def update(
        graphs: list[igraph.Graph],
        vertex: int,
        cell: VertexCell,
        messages: Messages,
        name: str = "H",
        mode: str = "in",
        first: Tensor | None = None,
    ) -> None:
        """The state of one vertex of every graph, from the states of its neighbours so far."""
        kinds = torch.cat([one_hot(torch.tensor([g.vs[vertex]["type"]]), FORM.n_types).float() for g in graphs])
        near = [g.neighbors(vertex, mode=mode) for g in graphs]
        longest = max(map(len, near))
        if first is None and longest:
            size = cell.hidden_size
            states, numbers = [], []
            for g, neighbours in zip(graphs, near, strict=True):
                padding = longest - len(neighbours)
                states.append(torch.cat([*(g.vs[u][name] for u in neighbours), torch.zeros(padding, size)])[None])
                own = one_hot(torch.tensor(neighbours, dtype=torch.long), FORM.n_vertices).float()
                numbers.append(torch.cat([own, torch.zeros(padding, FORM.n_vertices)])[None])
            known = torch.cat([torch.cat(states), torch.cat(numbers)], 2)
            first = (messages.gate(known).sigmoid() * messages.mapper(known)).sum(1)
        new = torch.gru_cell(
            kinds, torch.zeros(len(graphs), cell.hidden_size) if first is None else first, *cell.parameters()
        )
        for i, g in enumerate(graphs):
            g.vs[vertex][name] = new[i : i + 1]

    @staticmethod
    def states(graphs: list[igraph.Graph], vertex: int, name: str = "H") -> Tensor:
        return torch.cat([g.vs[vertex][name] for g in graphs])

    def graph_vectors(self, predictor: Predictor, types: Tensor) -> Tensor:
        encoder, found = predictor.graphs, []
        for part in self.parts(len(types)):
            graphs = [FORM.to_igraph(types[i], FORM.adjacency()) for i in part]
            for vertex in range(FORM.n_vertices):
                self.update(graphs, vertex, encoder.cell, encoder.messages, "forth", "in")
            for vertex in reversed(range(FORM.n_vertices)):
                self.update(graphs, vertex, encoder.cell_back, encoder.messages_back, "back", "out")
            last = self.states(graphs, FORM.n_vertices - 1, "forth")
            found.append(predictor.to_latent(encoder.unify(torch.cat([last, self.states(graphs, 0, "back")], 1))))
        return torch.cat(found)

    def predict(self, predictor: Predictor, features: Tensor, types: Tensor) -> Tensor:
        read = self.data_sets(predictor.datasets, features)
        pairs = torch.cat([read, self.graph_vectors(predictor, types)], 1)
        return predictor.rate(predictor.join(pairs).tanh()).squeeze(1)

    def score(self, predictor: Predictor, drawings: Tensor, types: Tensor) -> Tensor:
        return torch.stack([self.predict(predictor, drawings, one.expand(len(drawings), -1)).mean() for one in types])

    def begin(self, generator: Generator, z: Tensor) -> list[igraph.Graph]:
        decoder, graphs = generator.decoder, [igraph.Graph(directed=True) for _ in z]
        for g in graphs:
            g.add_vertex(type=FORM.start)
        self.update(graphs, 0, decoder.cell, decoder.messages, first=decoder.begin(z).tanh())
        return graphs

    def edge_chances(self, generator: Generator, graphs: list[igraph.Graph], source: int, vertex: int) -> Tensor:
        pairs = torch.cat([self.states(graphs, source), self.states(graphs, vertex)], 1)
        return generator.decoder.edge_head(pairs).sigmoid()

    def loss(self, generator: Generator, features: Tensor, types: Tensor, beta: float = 0.005) -> Tensor:
        read = self.data_sets(generator.datasets, features)
        mean, log_variance = generator.mean(read), generator.log_variance(read)
        kl = -0.5 * (1 + log_variance - mean.pow(2) - log_variance.exp()).sum()
        return beta * kl + sum(self.surprise(generator, mean[part], types[part]) for part in self.parts(len(types)))

    def surprise(self, generator: Generator, z: Tensor, types: Tensor) -> Tensor:
        decoder, total, truth = generator.decoder, 0, [FORM.to_igraph(one, FORM.adjacency()) for one in types]
        graphs = self.begin(generator, z)
        for vertex in range(1, FORM.n_vertices):
            chances = decoder.type_head(self.states(graphs, vertex - 1)).log_softmax(1)
            for i, (g, true) in enumerate(zip(graphs, truth, strict=True)):
                total = total - chances[i, true.vs[vertex]["type"]]
                g.add_vertex(type=true.vs[vertex]["type"])
            self.update(graphs, vertex, decoder.cell, decoder.messages)
            for source in reversed(range(vertex)):
                chances = self.edge_chances(generator, graphs, source, vertex)
                wanted = torch.tensor([[float(true.are_adjacent(source, vertex))] for true in truth])
                total = total + binary_cross_entropy(chances, wanted, reduction="sum")
                for g, joins in zip(graphs, wanted, strict=True):
                    if joins:
                        g.add_edge(source, vertex)
                self.update(graphs, vertex, decoder.cell, decoder.messages)
        return total

    def sample(self, generator: Generator, z: Tensor, draws: Tensor) -> list[igraph.Graph]:
        found = []
        for part in self.parts(len(z)):
            found += self.write(generator, z[part], draws[part])
        return found

    def write(self, generator: Generator, z: Tensor, draws: Tensor) -> list[igraph.Graph]:
        decoder, graphs = generator.decoder, self.begin(generator, z)
        is_open = [True] * len(graphs)
        for vertex in range(1, FORM.n_vertices):
            rows = [i for i, one in enumerate(is_open) if one]
            if not rows:
                break
            left = [graphs[i] for i in rows]
            chances = decoder.type_head(self.states(left, vertex - 1)).softmax(1)
            for i, g, chance in zip(rows, left, chances, strict=True):
                kind = int((chance.cumsum(0) <= draws[i, vertex, 0]).sum())
                g.add_vertex(type=FORM.end if vertex == FORM.n_vertices - 1 else min(kind, FORM.n_types - 1))
            self.update(left, vertex, decoder.cell, decoder.messages)
            for source in reversed(range(vertex)):
                going = [i for i in rows if is_open[i]]
                left = [graphs[i] for i in going]
                for i, g in zip(going, left, strict=True):
                    if g.vs[vertex]["type"] == FORM.end:
                        g.add_edges([(u, vertex) for u in range(vertex) if g.outdegree(u) == 0])
                        is_open[i] = False
                going = [i for i in going if is_open[i]]
                left = [graphs[i] for i in going]
                if not left:
                    break
                for i, g, chance in zip(going, left, self.edge_chances(generator, left, source, vertex), strict=True):
                    if draws[i, vertex, 1 + source] < chance:
                        g.add_edge(source, vertex)
                self.update(left, vertex, decoder.cell, decoder.messages)
        return graphs

    def distinct_cells(self, generator: Generator, z: Tensor, draws: Tensor, n: int) -> tuple[list[str], list]:
        """The texts of the first n different cells, and all graphs that were written for them."""
        texts: list[str] = []
        graphs: list[igraph.Graph] = []
        for start in range(0, len(z), LOOP_BATCH):
            written = self.sample(generator, z[start : start + LOOP_BATCH], draws[start : start + LOOP_BATCH])
            for g in written:
                graphs.append(g)
                if not self.is_valid(g):
                    continue
                text = SPACE.to_text(SPACE.from_igraph(g))
                if text not in texts:
                    texts.append(text)
                if len(texts) == n:
                    return texts, graphs
        raise RuntimeError(f"{len(z)} graphs hold {len(texts)} different cells only; fit the generator for longer.")

    @staticmethod
    def is_valid(graph: igraph.Graph) -> bool:
        kinds = graph.vs["type"]
        return (
            graph.is_dag()
            and len(kinds) == FORM.n_vertices
            and all(kind >= FORM.first_operation for kind in kinds[1:-1])
            and all(graph.indegree(v) for v in range(1, len(kinds)))
            and all(graph.outdegree(v) for v in range(len(kinds) - 1))
        )


def distinct_cells(generator: Generator, z: Tensor, draws: Tensor, n: int) -> tuple[list[str], tuple[Tensor, Tensor]]:
    """Our way to the texts of the first n different cells, and the graphs written: as many at once as are missing."""
    rows: dict[tuple[int, ...], None] = {}
    written: list[tuple[Tensor, Tensor]] = []
    start = 0
    while start < len(z):
        part = slice(start, start + max(n - len(rows), LOOP_BATCH))
        start = part.stop
        types, adjacency = generator.decoder.write(z[part], draws[part])
        written.append((types, adjacency))
        rows |= dict.fromkeys(map(tuple, types[FORM.valid(types, adjacency)].tolist()))
        if len(rows) >= n:
            texts = [SPACE.to_text(cell) for cell in SPACE.all_from_types(torch.tensor(list(rows)[:n]))]
            return texts, tuple(torch.cat(one) for one in zip(*written, strict=True))
    raise RuntimeError(f"{len(z)} graphs hold {len(rows)} different cells only; fit the generator for longer.")


LOOPS = {"loops": Loops(in_step=False), "loops in step": Loops(in_step=True)}


def noise(name: str, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch_stream(0, "benchmark", name)).relu()


def random_types(n: int, name: str) -> Tensor:
    """Types of random cells whose operations are as frequent as in the published database."""
    draws = torch_stream(0, "benchmark", name)
    kinds = torch.multinomial(torch.tensor(SHARES), n, replacement=True, generator=draws).T + FORM.first_operation
    ends = torch.full((n, 1), FORM.start), torch.full((n, 1), FORM.end)
    return torch.cat([ends[0], kinds, ends[1]], 1)


def fresh(make: Callable[[], nn.Module]) -> nn.Module:
    return initialise(construct(make), "torch_default", torch_stream(0, "benchmark", "weights"))


def fit(generator: Generator, z: Tensor, steps: int) -> float:
    """Train the decoder to write random cells from these latents; the mean surprise of the last step, in nats."""
    optimiser, types = (
        torch.optim.Adam(generator.decoder.parameters(), lr=FITTED_LR),
        random_types(steps * len(z), "fit"),
    )
    for batch in types.split(len(z)):
        optimiser.zero_grad()
        loss = generator.decoder.surprise(z, batch).sum()
        loss.backward()
        optimiser.step()
    return loss.item() / len(z)


def take_turns(variants: dict[str, Callable[[], object]], rounds: int) -> tuple[dict[str, list[float]], dict]:
    """Processor seconds of each variant in each round, and what each found in the first."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    found: dict = {}
    for _ in range(rounds):
        for name, run in variants.items():
            start = time.process_time()
            value = run()
            seconds[name].append(time.process_time() - start)
            found.setdefault(name, value)
    return seconds, found


def summed_up(seconds: dict[str, list[float]], what: str) -> dict:
    """Medians, and the median ratio over rounds to ours."""
    medians = {name: round(statistics.median(values), 4) for name, values in seconds.items()}
    ratios = {
        f"times faster than {name}": round(
            statistics.median(slow / fast for slow, fast in zip(seconds[name], seconds["ours"], strict=True)), 2
        )
        for name in LOOPS
    }
    say(f"{what}: " + ", ".join(f"{name} {value:.3f} s" for name, value in medians.items()) + f"; {ratios}")
    return {"seconds": medians, **ratios}


def must_agree(what: str, difference: float, allowed: float) -> float:
    if not difference <= allowed:
        raise RuntimeError(f"{what} differ by {difference:.2g}; {allowed:.0e} is what rounding explains.")
    return difference


def relative(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


def training(network: nn.Module, losses: dict[str, Callable[[nn.Module], Tensor]], what: str, rounds: int) -> dict:
    """One step of Adam by each variant, on a copy of the network each, and how far losses and gradients differ."""
    runs = {}
    for name, loss in losses.items():
        own = copy.deepcopy(network)
        runs[name] = _stepper(own, torch.optim.Adam(own.parameters(), lr=1e-4), loss)
        runs[name]()
    own = {name: run() for name, run in runs.items()}
    seconds, _ = take_turns(runs, rounds)
    figures = summed_up(seconds, what)
    for name in LOOPS:
        loss, gradient = (relative(mine, theirs) for mine, theirs in zip(own["ours"], own[name], strict=True))
        figures[f"differences from {name}"] = {
            "loss": must_agree(f"Losses ({what})", loss, 1e-4),
            "gradient": must_agree(f"Gradients ({what})", gradient, 1e-3),
        }
    return figures


def _stepper(
    network: nn.Module, optimiser: torch.optim.Optimizer, loss: Callable[[nn.Module], Tensor]
) -> Callable[[], tuple[Tensor, Tensor]]:
    def step() -> tuple[Tensor, Tensor]:
        optimiser.zero_grad()
        value = loss(network)
        value.backward()
        optimiser.step()
        gradients = [weight.grad.flatten() for weight in network.parameters() if weight.grad is not None]
        return value.detach(), torch.cat(gradients)

    return step


def measure_training(rounds: int) -> dict[str, dict]:
    features = noise("features", BATCH, N_CLASSES, N_IMAGES, FEATURE_DIM)
    types, wanted = random_types(BATCH, "trained"), 0.01 * noise("wanted", BATCH)
    generator, predictor = fresh(lambda: Generator(form=FORM)), fresh(lambda: Predictor(form=FORM))
    of_generator: dict[str, Callable] = {"ours": lambda network: sum(network.loss(features, types, None))}
    of_predictor: dict[str, Callable] = {"ours": lambda network: (network(features, types) - wanted).square().sum()}
    for name, loops in LOOPS.items():
        of_generator[name] = lambda network, loops=loops: loops.loss(network, features, types)
        of_predictor[name] = lambda network, loops=loops: (
            (loops.predict(network, features, types) - wanted).square().sum()
        )
    return {
        "generator_step": training(generator, of_generator, "generator, a step", rounds),
        "predictor_step": training(predictor, of_predictor, "predictor, a step", rounds),
    }


@torch.no_grad()
def measure_sampling(n: int, steps: int, rounds: int) -> dict:
    generator = fresh(lambda: Generator(form=FORM))
    drawings = noise("drawings", LOOP_BATCH, N_CLASSES, N_IMAGES, FEATURE_DIM)
    start = time.process_time()
    latents = generator.encode(drawings, None)
    encoding = time.process_time() - start
    with torch.enable_grad():
        nats = fit(generator, latents, steps)
    z = latents.repeat(-(-4 * n // LOOP_BATCH), 1)
    draws = generator.draws(len(z), torch_stream(0, "benchmark", "draws"))
    runs: dict[str, Callable] = {"ours": lambda: distinct_cells(generator, z, draws, n)}
    for name, loops in LOOPS.items():
        runs[name] = lambda loops=loops: loops.distinct_cells(generator, z, draws, n)
    runs["ours"]()
    seconds, found = take_turns(runs, rounds)
    figures = summed_up(seconds, f"sampling, {n} different cells")
    types, adjacency = found["ours"][1]
    for name in LOOPS:
        graphs = found[name][1]
        same = [
            torch.equal(types[i], kinds) and torch.equal(adjacency[i], edges)
            for i, (kinds, edges) in enumerate(map(FORM.from_igraph, graphs))
        ]
        # a draw that falls between two roundings of its probability decides otherwise
        figures[f"differences from {name}"] = {
            "share of graphs": must_agree("Drawn graphs", 1 - sum(same) / len(same), 0.005),
            "share of cells": 1 - len(set(found["ours"][0]) & set(found[name][0])) / n,
        }
        n_written = len(graphs)
    return figures | {
        "graphs_written": n_written,
        "validity": round(float(FORM.valid(types[:n_written], adjacency[:n_written]).float().mean()), 4),
        "fitted": {"steps": steps, "nats_a_graph": round(nats, 2)},
        "seconds_to_encode_100_drawings": round(encoding, 3),
    }


@torch.no_grad()
def measure_scoring(n: int, n_looped: int, rounds: int) -> dict:
    predictor = fresh(lambda: Predictor(form=FORM))
    drawings, types = noise("drawings", N_DRAWINGS, N_CLASSES, N_IMAGES, FEATURE_DIM), random_types(n, "scored")
    runs: dict[str, Callable] = {
        "ours": lambda: predictor.score(predictor.encode(drawings), predictor.encode_graphs(types))
    }
    for name, loops in LOOPS.items():
        runs[name] = lambda loops=loops: loops.score(predictor, drawings, types[:n_looped])
    runs["ours"]()
    seconds, found = take_turns(runs, rounds)
    for name in LOOPS:
        seconds[name] = [value * n / n_looped for value in seconds[name]]
    figures = summed_up(seconds, f"scoring, {n} cells")
    for name in LOOPS:
        # centred, since untrained scores differ little
        ours, theirs = found["ours"][:n_looped], found[name]
        figures[f"differences from {name}"] = must_agree(
            "Scores", float((ours - theirs).abs().max() / found["ours"].std()), 1e-3
        )
    return figures | {"cells_scored_by_loops": n_looped}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="rounds in which the variants take turns")
    parser.add_argument("--cells", type=int, default=500, help="cells to sample and to score")
    parser.add_argument("--looped", type=int, default=100, help="cells that the loops score; their time is scaled up")
    parser.add_argument("--threads", type=int, default=1, help="processor threads (0: all)")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="JSON file of the figures")
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    figures = {
        "what": __doc__.splitlines()[0],
        "setting": {name: getattr(arguments, name) for name in ("rounds", "cells", "looped", "threads")},
        **measure_training(arguments.rounds),
        "sampling": measure_sampling(arguments.cells, FITTED_STEPS, arguments.rounds),
        "scoring": measure_scoring(arguments.cells, min(arguments.looped, arguments.cells), arguments.rounds),
        **provenance.gather(choose_device("cpu")),
    }
    write_json(arguments.out, figures)


if __name__ == "__main__":
    main()
