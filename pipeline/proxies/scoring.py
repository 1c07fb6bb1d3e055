"""Measure a supernet and what becomes of it under small changes, so that the change is what differs and not the luck.

Under common random numbers one (round, repeat) has one set of weights, one batch and one state of the generator from
which the head is drawn. The origin and all its candidates see these, so their differences are free of that noise and
the origin is measured once. `parity` gives what the published code of MetaNTK-NAS does instead (its initialisation
calls match no known name and do nothing; heads are drawn anew for every network).
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.core.rng import numpy_stream, stream_seed, torch_stream
from pipeline.core.types import LabelledBatch, TaskBatch
from pipeline.episodes.batches import image_batch, labelled_batch, patch_batch, task_batch
from pipeline.episodes.sampler import EpisodeSampler
from pipeline.nets.init import initialise
from pipeline.proxies.sharing import value_of

SCHEMES = {
    "kernel": "kaiming_fanout",
    "coupled": "kaiming_fanout",
    "full": "kaiming_fanout",
    "thin": "kaiming_fanin",
}
ORIGIN = -1
N_TASKS_IN_POOL = 1000


@dataclass(frozen=True)
class Chance:
    """What is drawn anew for what.

    Attributes:
        seed: from which all draws of one search derive.
        init: "kaiming" (fan-in for thin networks, fan-out for all others, as the papers say) or "torch_default".
        common: whether the origin and all candidates of a (round, repeat) share batch and head. If not, each candidate
            has batches and heads of its own, and its origin is measured again beside it.
        redraw_weights: whether every repeat has weights of its own; else kernel networks keep theirs for a round and
            thin networks are drawn once per candidate.
        redraw_batches: whether every repeat has batches of its own; else all repeats of a round see the same ones.
    """

    seed: int
    init: str = "kaiming"
    common: bool = True
    redraw_weights: bool = True
    redraw_batches: bool = True

    @classmethod
    def parity(cls, seed: int) -> "Chance":
        """As in the published code."""
        return cls(seed, init="torch_default", common=False, redraw_weights=False)

    def scheme(self, network: str) -> str:
        return SCHEMES[network] if self.init == "kaiming" else self.init

    def weights(self, network: str, trial: "Trial") -> tuple:
        """Name of the stream of a network's weights."""
        if self.redraw_weights:
            return "weights", network, trial.round, trial.repeat
        return ("weights", network, trial.round) + ((trial.candidate,) if network == "thin" else ())

    def batch(self, needs: str, trial: "Trial") -> tuple:
        """Name of the stream of a batch."""
        repeat = (trial.repeat,) if self.redraw_batches else ()
        return "batch", needs, trial.round, *repeat, *self._own(trial)

    def head(self, role: str, trial: "Trial") -> tuple:
        """Name of the stream from which a proxy draws, e.g. its head."""
        return "head", trial.round, trial.repeat, *self._own(trial), *(() if self.common else (role,))

    def _own(self, trial: "Trial") -> tuple:
        return () if self.common else (trial.candidate,)


@dataclass(frozen=True)
class Trial:
    """One thing to measure: a mask, in one repeat of one round.

    Attributes:
        candidate: index in its round, or ORIGIN.
        masks: mask (cell edge op) by indicator.
        origins: masks to measure beside it, where the origin is not measured once for all.
    """

    round: int
    repeat: int
    candidate: int
    masks: Mapping[str, torch.Tensor]
    origins: Mapping[str, torch.Tensor] | None = None


@dataclass(frozen=True)
class Reading:
    """What a trial gave.

    Attributes:
        values: by indicator.
        origins: by indicator, of the trial's origins; empty without them.
        seconds: device time it took: of the processor's core, or on an accelerator the time that passed.
        seconds_of: the part of it that each indicator took; what several share is counted with the first of them.
        n_evaluations: networks measured, counted once per indicator.
        peak_mib: largest resident memory of the measuring process so far.
    """

    values: Mapping[str, float]
    origins: Mapping[str, float]
    seconds: float
    seconds_of: Mapping[str, float]
    n_evaluations: int
    peak_mib: float


def peak_memory_mib() -> float:
    """Largest resident memory of this process so far."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class SupernetScorer:
    """Measures masks of a space by several proxies.

    Args:
        proxies: by indicator name; what each needs and on which network it is meant to run are its attributes.
        networks: supernets by kind ("kernel", "coupled", "full", "thin"), on the device; their weights and masks are
            changed.
        draw: `draw(needs, generator_seed)` gives the batch of a kind, on the device (see `SearchImages`).
        chance: what is drawn anew for what.
    """

    def __init__(
        self,
        proxies: Mapping[str, Any],
        networks: Mapping[str, Any],
        draw: Callable[[str, int], Any],
        chance: Chance,
    ):
        self.proxies, self.networks, self.draw, self.chance = dict(proxies), dict(networks), draw, chance
        on_processor = all(p.device.type == "cpu" for network in networks.values() for p in network.parameters())
        self._clock = time.process_time if on_processor else time.perf_counter
        self._weights: dict[str, tuple] = {}
        self._shared: dict[tuple, dict] = {}
        self._batches: dict[str, tuple[tuple, Any]] = {}

    def measure(self, trial: Trial) -> Reading:
        """All indicators of a trial; the same numbers in whatever process and order trials are measured."""
        start = self._clock()
        self._shared.clear()
        origins = {name: self._value(name, mask, "origin", trial) for name, mask in (trial.origins or {}).items()}
        values, seconds_of, before = {}, {}, self._clock()
        for name, mask in trial.masks.items():
            values[name] = self._value(name, mask, "candidate", trial)
            now = self._clock()
            seconds_of[name], before = now - before, now
        n_evaluations = len(values) + len(origins)
        return Reading(values, origins, before - start, seconds_of, n_evaluations, peak_memory_mib())

    def _value(self, name: str, mask: torch.Tensor, role: str, trial: Trial) -> float:
        proxy = self.proxies[name]
        network = self._network(proxy.network, trial)
        network.set_mask(mask)
        generator = torch_stream(self.chance.seed, *self.chance.head(role, trial))
        shared = self._shared.setdefault((proxy.network, proxy.needs, mask.numpy().tobytes()), {})
        return value_of(proxy, network, self._batch(proxy.needs, trial), generator, shared)

    def _network(self, kind: str, trial: Trial):
        stream = self.chance.weights(kind, trial)
        if self._weights.get(kind) != stream:
            initialise(self.networks[kind], self.chance.scheme(kind), torch_stream(self.chance.seed, *stream))
            self._weights[kind] = stream
        return self.networks[kind]

    def _batch(self, needs: str, trial: Trial):
        stream = self.chance.batch(needs, trial)
        if needs not in self._batches or self._batches[needs][0] != stream:
            self._batches[needs] = stream, self.draw(needs, stream_seed(self.chance.seed, *stream))
        return self._batches[needs][1]


@dataclass(frozen=True)
class SearchImages:
    """Batches from the images that a search may see: those of the base classes, or the training images.

    Attributes:
        prepared: a prepared set.
        seed: run seed, from which the pool of tasks derives.
        image_size: side of the images of all kinds but patches.
        n_patches, n_images, n_held_out, tasks_per_batch: sizes of the batches of each kind; 0 where it is not used.
        held_out: where the images come from that a labelled batch holds out: "train", others that the search may see;
            "test", the test images, as the published code of TEG-NAS does.
        n_way, k_shot, n_query: shape of a task.
    """

    prepared: Any
    seed: int
    device: torch.device
    image_size: int
    n_patches: int = 0
    n_images: int = 0
    n_held_out: int = 0
    tasks_per_batch: int = 0
    held_out: str = "train"
    n_way: int = 5
    k_shot: int = 1
    n_query: int = 1

    def __call__(self, needs: str, seed: int) -> Any:
        """A batch of one kind, on the device; a function of the seed.

        Args:
            needs: "tasks", "images", "labelled", "patches", or "network" for a blank image of the size of the others.
        """
        draws = {
            "tasks": self._tasks,
            "images": self._images,
            "labelled": self._labelled,
            "patches": self._patches,
            "network": self._blank,
        }
        return draws[needs](seed)

    @functools.cached_property
    def _sampler(self) -> EpisodeSampler:
        return EpisodeSampler(
            self.prepared,
            self.prepared.search_split,
            n_way=self.n_way,
            k_shot=self.k_shot,
            n_query=self.n_query,
            seed=self.seed,
            purpose="search",
            section="search.METHOD",
        )

    def _tasks(self, seed: int) -> TaskBatch:
        pool = max(N_TASKS_IN_POOL, self.tasks_per_batch)
        chosen = numpy_stream(seed, "tasks").choice(pool, self.tasks_per_batch, replace=False)
        episodes = [self._sampler.episode(int(index)) for index in chosen]
        generator = torch_stream(seed, "augmentation")
        batch = task_batch(self.prepared, episodes, image_size=self.image_size, generator=generator)
        return dataclasses.replace(batch, images=batch.images.to(self.device))

    def _images(self, seed: int) -> torch.Tensor:
        generator = torch_stream(seed, "images")
        split = self.prepared.search_split
        return image_batch(self.prepared, split, self.n_images, self.image_size, generator).to(self.device)

    def _labelled(self, seed: int) -> LabelledBatch:
        batch = labelled_batch(
            self.prepared,
            n=self.n_images,
            n_held_out=self.n_held_out,
            image_size=self.image_size,
            generator=torch_stream(seed, "labelled"),
            held_out=self.held_out,
        )
        tensors = ("images", "labels", "held_out_images", "held_out_labels")
        return dataclasses.replace(batch, **{name: getattr(batch, name).to(self.device) for name in tensors})

    def _blank(self, seed: int) -> torch.Tensor:
        return torch.zeros(1, 3, self.image_size, self.image_size, device=self.device)

    def _patches(self, seed: int) -> torch.Tensor:
        generator = torch_stream(seed, "patches")
        return patch_batch(self.prepared, self.prepared.search_split, self.n_patches, generator).to(self.device)
