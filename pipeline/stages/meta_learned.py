"""Starts that are meta-learned: which there are to learn, learning them one after the other, and their files."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline import learners, methods, spaces
from pipeline.core.artifacts import read_json, sha256
from pipeline.core.checkpoint import Checkpoint
from pipeline.core.config import build
from pipeline.core.device import choose_device, use_threads
from pipeline.core.errors import ArtifactError
from pipeline.core.progress import say, spoken
from pipeline.core.rng import stream_seed
from pipeline.core.tensors import read_tensors
from pipeline.data import transforms
from pipeline.data.prepared import PreparedSet, require_few_shot
from pipeline.evaluation.cost import Meter
from pipeline.evaluation.episodic import forecast, meta_learn
from pipeline.evaluation.episodic_settings import EpisodicConfig, Phase
from pipeline.evaluation.networks import adapting_network
from pipeline.learners.meta_learner import MetaLearner, State
from pipeline.recipes.decoding import Supernet, relaxed_network
from pipeline.stages.common import Frozen, machine, read_params

NAMED_BY = ("method", "dataset", "space", "knobs", "n_way", "weights_sha256", "data_digest", "params_digest")
"""The facts of which a supernet's digest is made."""
MOST_MEASURED = 3


@dataclass(frozen=True)
class Start:
    """One start that is to be learned.

    Attributes:
        name: of its entries in a file of weights: {architecture's place in genotype.json}/{k_shot}.
        learner: makes the learner, on the processor.
        seed: names all draws of its meta-learning; those of equal seeds see the same episodes.
        row: its row of genotype.json; empty for a supernet.
    """

    name: str
    learner: Callable[[], MetaLearner]
    k_shot: int
    seed: int
    row: Mapping[str, Any]


@dataclass(frozen=True)
class Setting:
    """A job about meta-learned starts with its inputs read.

    Attributes:
        method: its entry in the registry.
        config: its knobs for meta-learning; of the learner and of the outer loop both.
        section: of params.yaml, where they come from.
        prepared: at the size that the network sees.
    """

    frozen: Frozen
    method: Any
    config: Any
    section: str
    prepared: PreparedSet
    device: torch.device

    @classmethod
    def read(cls, arguments, section: str = "meta_learn", attribute: str = "Learning") -> "Setting":
        """From the files that the arguments name, on this machine's device.

        Args:
            section, attribute: of params.yaml and of the method, that hold the knobs.
        """
        frozen, here = read_params(arguments.params), machine()
        method = methods.get(frozen.method)
        section_of_method = f"{section}.{frozen.method}"
        config = build(getattr(method, attribute), frozen.params[section], section_of_method)
        prepared = PreparedSet.open(arguments.images, arguments.index, arguments.manifest, verify=True)
        require_few_shot(prepared, "Meta-learning")
        use_threads(here.threads_to_adapt)
        resized = transforms.resized(prepared, config.image_size)
        return cls(frozen, method, config, section_of_method, resized, choose_device(here.device))

    @property
    def label(self) -> str:
        return f"{self.frozen.method} on {self.frozen.dataset}"

    def starts(self, genotype: Mapping[str, Any], n_way: int, k_shots: Sequence[int]) -> list[Start]:
        """What is to be learned for the architectures of a genotype file: one start for each, and each of its shots."""
        return [
            Start(
                f"{number}/{k_shot}",
                lambda row=row: self.learner(genotype["space"], row, n_way),
                k_shot,
                stream_seed(self.frozen.seed, "meta-learning", row["seed"]),
                row,
            )
            for number, row in enumerate(genotype["architectures"])
            for k_shot in k_shots
            if row.get("k_shot", k_shot) == k_shot
        ]

    def learner(self, space: str, row: Mapping[str, Any], n_way: int) -> MetaLearner:
        """The learner with the network of an architecture, as it is before any meta-learning."""
        size = {"channels": self.config.channels, "image_size": self.config.image_size}
        network = adapting_network(space, row, n_way=n_way, seed=self.frozen.seed, **size)
        return learners.get(self.method.learner)(network, self.config)

    def supernet_starts(self, n_way: int, k_shots: Sequence[int]) -> list[Start]:
        """The same for the relaxed supernet of the method's space."""
        seed = stream_seed(self.frozen.seed, "supernet")
        return [Start(f"{k_shot}", lambda: self.supernet(n_way), k_shot, seed, {}) for k_shot in k_shots]

    def supernet(self, n_way: int) -> MetaLearner:
        """The learner with the relaxed supernet before any meta-learning."""
        return supernet_learner(self.method, self.config, n_way, stream_seed(self.frozen.seed, "supernet"))


def supernet_learner(method: Any, config: Any, n_way: int, seed: int) -> MetaLearner:
    """The learner of a method with the relaxed supernet of its space."""
    network = relaxed_network(method.space(method.Config()), n_way=n_way, channels=config.channels, seed=seed)
    return learners.get(method.learner)(network, config)


def learn_all(
    starts: Sequence[Start],
    setting: Setting,
    n_way: int,
    checkpoint: Checkpoint,
    phases: Sequence[Phase] | None = None,
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Meta-learn the starts one after the other, from where the checkpoint stands.

    How long it will take is told before the first.

    Returns:
        Of each its `state`, `curve`, `iteration`, `accuracy` and `ci95` (of the best test), and the cost of all.
    """
    config: EpisodicConfig = setting.config
    saved = checkpoint.load() or {"finished": [], "current": None, "cost": None}
    finished, current = list(saved["finished"]), saved["current"]
    meter = Meter(setting.device, saved["cost"])
    if not finished and current is None:
        announce(starts, setting, n_way, phases)
    for number, start in enumerate(starts[len(finished) :], start=len(finished) + 1):

        def keep(state: dict[str, Any]) -> None:
            checkpoint.save({"finished": finished, "current": state, "cost": meter.so_far()})

        learned = meta_learn(
            start.learner(),
            setting.prepared,
            config,
            phases,
            n_way=n_way,
            k_shot=start.k_shot,
            seed=start.seed,
            device=setting.device,
            what=f"{setting.label}: {start.k_shot}-shot, start {number} of {len(starts)}, iteration",
            section=setting.section,
            resume=current,
            after=keep,
        )
        facts = {"iteration": learned.iteration, "accuracy": learned.accuracy, "ci95": learned.ci95}
        finished.append({"state": learned.state, "curve": learned.curve, **facts})
        current = None
        say(
            f"{setting.label}: {start.k_shot}-shot, start {number} of {len(starts)}: validation accuracy "
            f"{100 * learned.accuracy:.1f} % after iteration {learned.iteration}"
        )
        if learned.accuracy - learned.ci95 <= 1 / n_way:
            say(
                f"{setting.label}: warning: that is no better than guessing one of {n_way} classes. If the losses in "
                f"the curve are far above {math.log(n_way):.1f}, lower the learning rates of {setting.section}; "
                "otherwise raise its n_iterations"
            )
    return finished, meter.so_far()


def announce(starts: Sequence[Start], setting: Setting, n_way: int, phases: Sequence[Phase] | None) -> None:
    """Say how long the meta-learning of all starts will take, from a few iterations of one start of each shot."""
    n_measured = max(1, min(MOST_MEASURED, setting.config.n_iterations // 20))
    shots = sorted({start.k_shot for start in starts})
    total, parts = 0.0, []
    for k_shot in shots:
        of_shot = [start for start in starts if start.k_shot == k_shot]
        first = of_shot[0]
        expected = forecast(
            first.learner(),
            setting.prepared,
            setting.config,
            phases,
            n_way=n_way,
            k_shot=k_shot,
            seed=first.seed,
            device=setting.device,
            n_measured=n_measured,
        )
        total += expected.total * len(of_shot)
        parts.append(f"{len(of_shot)} for {k_shot}-shot tasks at about {spoken(expected.total)}")
    say(f"{setting.label}: starts to be learned: {', '.join(parts)}; in all about {spoken(total)}")


def tensors_of(starts: Sequence[Start], learned: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """All states under one roof, each entry's name behind the name of its start."""
    return {
        f"{start.name}/{entry}": value.cpu().contiguous()
        for start, one in zip(starts, learned, strict=True)
        for entry, value in one["state"].items()
    }


def states_in(tensors: Mapping[str, Tensor], starts: Sequence[Start], path: str) -> list[State]:
    """The states of `starts`, as `tensors_of` wrote them. Raises ArtifactError when one is missing."""
    found: list[State] = []
    for start in starts:
        prefix = f"{start.name}/"
        state = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        if not state:
            raise ArtifactError(
                f"{path} has no start for {start.k_shot}-shot tasks of architecture {start.name.split('/')[0]}. Delete "
                "it and run the meta-learn stage again."
            )
        found.append(state)
    return found


def read_supernet(weights: str, path: str, prepared: PreparedSet, device: torch.device) -> Supernet:
    """The supernet in these files. Raises ArtifactError when they are missing, damaged or of something else."""
    facts = read_json(path)
    if facts.get("kind") != "supernet" or any(name not in facts for name in (*NAMED_BY, "digest")):
        raise ArtifactError(f"{path} is not what the supernet stage wrote. Delete it and run that stage again.")
    tensors = read_tensors(weights, "supernet")
    if sha256(weights) != facts["weights_sha256"]:
        raise ArtifactError(f"{weights} is not the file that {path} describes. Delete both and run supernet again.")
    if facts["data_digest"] != prepared.digest:
        raise ArtifactError(f"{weights} was meta-trained on other images than those given. Run supernet again.")
    method = methods.get(facts["method"])
    config = build(method.Supernet, facts["knobs"], f"supernet.{method.name}")
    learner = supernet_learner(method, config, facts["n_way"], seed=0)
    learner.network.to(device)
    states: dict[int, State] = {int(k_shot): {} for k_shot in facts["training"]}
    for name, value in tensors.items():
        k_shot, _, entry = name.partition("/")
        states[int(k_shot)][entry] = value.to(device)
    return Supernet(spaces.get(facts["space"])(), learner, states, config, facts)


def mean_size(sizes: Sequence[Mapping[str, int]], weights: Sequence[float]) -> dict[str, float]:
    """Weighted mean of networks' sizes, e.g. over the tasks that each is for."""
    return {name: float(np.average([size[name] for size in sizes], weights=weights)) for name in sizes[0]}
