"""Architectures read off a meta-trained supernet: one per task, or one for all.

Lian et al.: "Towards Fast Adaptation of Neural Architectures with Meta Learning" (T-NAS), ICLR 2020. A task's support
set moves weights and alphas of the supernet by a few gradient steps; the alphas that come out name the architecture.
Each task starts from the meta-trained state. Tasks with the same architecture share it, so that it is trained once.
"""

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from pipeline import spaces
from pipeline.core.errors import ConfigError
from pipeline.core.progress import track
from pipeline.core.rng import torch_stream
from pipeline.data import transforms
from pipeline.evaluation.cost import Meter
from pipeline.evaluation.task_images import tasks_of
from pipeline.learners.meta_learner import MetaLearner, State
from pipeline.nets.init import initialise
from pipeline.recipes.fixed import FixedConfig
from pipeline.strategies.runner import Context, Found

ALPHAS = ("alphas.normal", "alphas.reduce")
SEED = 0
DECODING = "decoding"


@dataclass(frozen=True, eq=False)
class Supernet:
    """A relaxed supernet with its meta-trained states.

    Attributes:
        learner: how it adapts to a task; its network is on the device that computes.
        states: by shot.
        config: knobs of its meta-training, among them those of the learner.
        facts: what its training says of it.
    """

    space: Any
    learner: MetaLearner
    states: Mapping[int, State]
    config: Any
    facts: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """Names the states and what they belong to."""
        return self.facts["digest"]

    def state(self, k_shot: int) -> State:
        """Raises ConfigError when it was not meta-trained for these shots."""
        if k_shot not in self.states:
            raise ConfigError(
                f"The supernet was meta-trained for {', '.join(map(str, self.states))}-shot tasks, but the stored "
                f"episodes have {k_shot} shots. Run the supernet stage again."
            )
        return self.states[k_shot]


def relaxed_network(space: str, *, n_way: int, channels: int, seed: int) -> nn.Module:
    """The relaxed supernet of a space with initial weights and alphas of its own stream."""
    network = spaces.get(space)().relax(n_classes=n_way, channels=channels)
    return initialise(network, "torch_default", torch_stream(seed, "initial weights"))


def decode_tasks(config: Any, context: Context) -> list[Found]:
    """T-NAS: per shot the distinct architectures of the first `config.n_tasks` stored test tasks, the most frequent
    first, each with the numbers of its tasks.

    Only support images of the tasks are looked at. What a killed run has decoded is not decoded again.
    """
    supernet: Supernet = context.given["meta_trained_supernet"]
    saved = context.state_of(DECODING) or {"texts": {}, "cost": None}
    texts, meter = saved["texts"], Meter(context.device, saved["cost"])
    prepared = transforms.resized(context.prepared, supernet.config.image_size)
    found: list[Found] = []
    lines, rows = [], []
    for k_shot, stored in sorted(context.given["test_episodes"].episodes.items()):
        episodes, state = stored[: config.n_tasks], supernet.state(k_shot)
        genotypes = [supernet.space.from_text(text) for text in texts.get(k_shot, [])]
        starts = range(0, len(episodes), config.tasks_at_once)
        n_done = math.ceil(len(genotypes) / config.tasks_at_once)
        for start in track(starts[n_done:], f"decoding {k_shot}-shot tasks", total=len(starts), done=n_done):
            tasks = tasks_of(prepared, episodes[start : start + config.tasks_at_once], context.device)
            adapted = supernet.learner.adapted(state, tasks, supernet.config.test_steps, ALPHAS)
            alphas = [adapted[name].cpu() for name in ALPHAS]
            # the order of a node's inputs says which is stronger, and nothing about the network
            genotypes += [decoded(*(alpha[task] for alpha in alphas)).in_order() for task in range(len(tasks))]
            texts[k_shot] = [supernet.space.to_text(genotype) for genotype in genotypes]
            context.save(DECODING, {"texts": texts, "cost": meter.so_far()})
        rows += trace_rows(supernet.space, genotypes, k_shot, number=len(lines))
        found += by_genotype(genotypes, k_shot)
        lines.append({"seed": SEED, "k_shot": k_shot, "n_tasks": len(genotypes), **diversity(genotypes)})
    context.journal.rows += rows
    close(context, supernet, lines, meter)
    return found


def decode_common(config: FixedConfig, context: Context) -> list[Found]:
    """Auto-MAML: per shot of the stored test tasks the architecture of the meta-trained alphas, once per seed."""
    supernet: Supernet = context.given["meta_trained_supernet"]
    journal, meter = context.journal, Meter(context.device)
    found: list[Found] = []
    lines = []
    for number, k_shot in enumerate(sorted(context.given["test_episodes"].episodes)):
        state = supernet.state(k_shot)
        genotype = decoded(*(state[name].cpu() for name in ALPHAS))
        journal.rows += [{**row, "episode": None} for row in trace_rows(supernet.space, [genotype], k_shot, number)]
        for seed in config.seeds:
            found.append(Found(seed, genotype, k_shot=k_shot))
            lines.append({"seed": seed, "k_shot": k_shot, "n_tasks": None, **diversity([genotype])})
    close(context, supernet, lines, meter)
    return found


def decoded(normal: Tensor, reduce: Tensor) -> Any:
    """The genotype of alphas, each of shape (edge, op)."""
    return spaces.decode_alphas(normal, reduce)


def by_genotype(genotypes: Sequence[Any], k_shot: int) -> list[Found]:
    """The distinct genotypes, the most frequent first and of equally frequent ones the first met, with their tasks."""
    episodes: dict[Any, list[int]] = {}
    for number, genotype in enumerate(genotypes):
        episodes.setdefault(genotype, []).append(number)
    ordered = sorted(episodes.items(), key=lambda pair: -len(pair[1]))
    return [Found(SEED, genotype, k_shot, tuple(numbers)) for genotype, numbers in ordered]


def trace_rows(space: Any, genotypes: Sequence[Any], k_shot: int, number: int) -> list[dict[str, Any]]:
    """Lines of the trace for round `number`: which architecture each task got."""
    return [
        {
            "seed": SEED,
            "round": number,
            "event": "decoded",
            "k_shot": k_shot,
            "episode": episode,
            "genotype": space.to_text(genotype),
        }
        for episode, genotype in enumerate(genotypes)
    ]


def diversity(genotypes: Sequence[Any]) -> dict[str, Any]:
    """How much the architectures of tasks differ.

    Returns:
        n_genotypes: distinct ones.
        largest_share: of the tasks that have the most frequent one.
        mean_distance: mean of `distance` over all pairs of tasks; None for a single task.
    """
    counts = Counter(genotypes)
    n = len(genotypes)
    pairs = n * (n - 1) / 2
    total = sum(counts[one] * counts[other] * distance(one, other) for one, other in itertools.combinations(counts, 2))
    return {
        "n_genotypes": len(counts),
        "largest_share": max(counts.values()) / n,
        "mean_distance": total / pairs if pairs else None,
    }


def distance(one: Any, other: Any) -> float:
    """Share of a genotype's (operation, input) entries that the same node of the other one lacks; symmetric."""
    nodes = [pair for cells in zip(one.cells, other.cells, strict=True) for pair in zip(*cells, strict=True)]
    n_entries = sum(len(mine) for mine, _ in nodes)
    n_shared = sum((Counter(mine) & Counter(theirs)).total() for mine, theirs in nodes)
    return 1 - n_shared / n_entries


def close(context: Context, supernet: Supernet, lines: list[dict[str, Any]], meter: Meter) -> None:
    """Enter in the journal what was decoded, and what the supernet cost before."""
    journal, facts = context.journal, supernet.facts
    journal.decoded = {
        "by_seed": lines,
        "supernet": {name: facts[name] for name in ("budget", "parameters", "training", "digest")},
    }
    journal.device_seconds += meter.so_far()["device_seconds"]
    journal.peak_memory_mib = max(journal.peak_memory_mib, meter.so_far()["peak_memory_mib"])
    spent = {name: facts["cost"][name] for name in ("wall_seconds", "device_seconds")}
    journal.ledger["amortised"] = {"supernet": spent}
