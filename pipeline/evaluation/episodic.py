"""Meta-learning: a learner's start from episodes of the base classes, resumable to the same bits.

An iteration runs its phases in turn, each on a meta-batch of its own: the learner gives the gradient of the query loss
after adaptation, and Adam moves what the phase names. MAML has one phase on all that is learned (Finn et al., ICML
2017); T-NAS one with two groups, weights and architecture parameters, both moved by the same gradient (Lian et al.,
"Towards Fast Adaptation of Neural Architectures with Meta Learning", ICLR 2020); Auto-MAML, its baseline, one on the
architecture parameters and then one on the weights, from different halves of the images. Now and then the state is
tested on episodes of the validation classes, the same ones each time, and the best of the tested states is kept.

Every draw comes from a stream named by the run's seed and its number, so an iteration is a function of its number and
of the state before it: resuming from any state gives what an undisturbed run gives.
"""

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.core.checkpoint import Pace
from pipeline.core.errors import ConfigError, TrainingError, UnknownNameError
from pipeline.core.progress import track
from pipeline.core.rng import torch_stream
from pipeline.core.types import Episode
from pipeline.data.prepared import PreparedSet, require_images
from pipeline.episodes.sampler import EpisodeSampler
from pipeline.evaluation.adapted_test import adapted_test
from pipeline.evaluation.episodic_settings import ENTRIES, AdamGroup, EpisodicConfig, Phase, one_phase
from pipeline.evaluation.statistics import mean_ci95
from pipeline.evaluation.task_images import tasks_of
from pipeline.learners.meta_learner import MetaGradient, MetaLearner, State

SECONDS_BETWEEN_SAVES = 60.0


@dataclass(frozen=True)
class MetaLearned:
    """What meta-learning leaves behind.

    Attributes:
        state: the best state, on the CPU.
        iteration: after which it was tested; of equally good ones the earliest.
        accuracy, ci95: of its validation episodes: mean, and half-width of the 95 % interval.
        curve: a row per test.
    """

    state: State
    iteration: int
    accuracy: float
    ci95: float
    curve: list[dict[str, float]]


@dataclass(frozen=True)
class Forecast:
    """How long meta-learning will take, measured on a few iterations; seconds.

    Attributes:
        per_iteration: of one iteration.
        per_validation: of one test of the state.
        total: of all iterations and tests.
    """

    per_iteration: float
    per_validation: float
    total: float


def untrained_start(learner: MetaLearner, seed: int) -> State:
    """The state that `meta_learn` begins with under this seed."""
    return learner.start(torch_stream(seed, "start of the meta-learner"))


class _Group:
    """Some entries of a state, and the Adam that moves them in place."""

    def __init__(self, state: State, names: Sequence[str], settings: AdamGroup):
        self.names = tuple(names)
        self.tensors = [state[name] for name in names]
        self.max_norm = settings.clip_norm or math.inf
        self.adam = torch.optim.Adam(
            self.tensors, settings.learning_rate, (settings.beta1, settings.beta2), weight_decay=settings.weight_decay
        )

    def take(self, gradients: Mapping[str, Tensor]) -> Tensor:
        """Keep the gradients, shortened where they are too long; returns how long they were."""
        for name, tensor in zip(self.names, self.tensors, strict=True):
            tensor.grad = gradients[name].detach().clone()
        return nn.utils.clip_grad_norm_(self.tensors, self.max_norm)

    def move(self) -> None:
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)


@dataclass(frozen=True)
class _RunningPhase:
    """A phase with its episodes.

    Attributes:
        purpose: names its streams.
        groups: no entry is in two of them.
    """

    purpose: str
    sampler: EpisodeSampler
    groups: tuple[_Group, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for group in self.groups for name in group.names)


class OuterLoop:
    """A state while it is learned: moved by `step`, tested by `close_row`, kept and restored at any time between.

    Args:
        learner: its network is put on `device`.
        prepared: a few-shot set at the size that the network sees (`transforms.resized`).
        phases: of one iteration, in order; None for one that moves all that is learned.
        n_way, k_shot: of all episodes.
        seed: names the streams of the start, the episodes and the mirror images. The episodes of an iteration depend on
            it and the phase's number alone, so that learners are compared on the same ones.
        section: of params.yaml, where the knobs come from; for messages.

    Attributes:
        state: everything that is meta-learned; on `device`.
        iteration: number of the last step, 0 at the start.
        curve: a row per test: iteration, loss and train_accuracy (query loss and accuracy after adaptation, means over
            the tasks of all phases since the last row), validation_accuracy, validation_ci95, best_iteration, seconds
            (since the last row, over interrupted runs too).
        best: `iteration`, `accuracy`, `ci95` and `state` of the best test; empty before the first.

    Raises:
        ConfigError: a phase moves nothing, or an entry twice.
        DataError: a split, or a pool of it, has too few classes or images for an episode.
        UnknownNameError: entries or a pool that no table knows.
    """

    def __init__(
        self,
        learner: MetaLearner,
        prepared: PreparedSet,
        config: EpisodicConfig,
        phases: Sequence[Phase] | None = None,
        *,
        n_way: int,
        k_shot: int,
        seed: int,
        device: torch.device,
        section: str = "meta_learn",
    ):
        self.learner, self.prepared, self.config = learner, prepared, config
        self.seed, self.device, self.section = seed, device, section
        learner.network.to(device)
        start = untrained_start(learner, seed)
        self.state: State = {name: value.detach().clone().to(device) for name, value in start.items()}
        self.iteration, self.curve, self.best = 0, [], {}
        self._totals = {"loss": 0.0, "train_accuracy": 0.0, "seconds": 0.0}
        self._since_last_row = 0

        def sampler(split: str, purpose: str, pool: str = "all") -> EpisodeSampler:
            require_images(prepared, split, n_way, 1, f"{n_way}-way meta-learning")
            numbers = {"n_way": n_way, "k_shot": k_shot, "n_query": config.n_query, "seed": seed}
            return EpisodeSampler(prepared, split, **numbers, purpose=purpose, part=pool, section=section)

        base = prepared.search_split
        self._phases = []
        for number, phase in enumerate(phases or one_phase(config), start=1):
            groups = tuple(_Group(self.state, names, group) for names, group in self._entries(number, phase))
            purpose = f"meta-training, phase {number}"
            self._phases.append(_RunningPhase(purpose, sampler(base, purpose, phase.pool), groups))
        tested = sampler("validation" if config.validate_on == "validation" else base, "meta-validation")
        self._validation = [tested.episode(index) for index in range(config.n_validation_episodes)]

    def _entries(self, number: int, phase: Phase) -> list[tuple[list[str], AdamGroup]]:
        """Names that each group of a phase moves."""
        learned = self.learner.learned(self.state)
        found, taken = [], set()
        for group in phase.groups:
            if group.entries not in ENTRIES:
                raise UnknownNameError("group of entries", group.entries, ENTRIES)
            names = [name for name in learned if ENTRIES[group.entries](name)]
            if not names:
                raise ConfigError(
                    f"Phase {number} moves '{group.entries}', but none of the {len(learned)} entries that are learned "
                    f"is of that kind. Choose another of {', '.join(ENTRIES)}, or a network that has some."
                )
            if twice := taken.intersection(names):
                raise ConfigError(
                    f"Phase {number} moves {min(twice)} in two of its groups. Let them name different entries."
                )
            taken.update(names)
            found.append((names, group))
        return found

    def step(self) -> None:
        """One iteration. Raises TrainingError when a loss or gradient is not finite; the state is of no use then."""
        started = time.perf_counter()
        self.iteration += 1
        for phase in self._phases:
            gradient = self._run(phase)
            self._totals["loss"] += float(gradient.loss.double().mean()) / len(self._phases)
            self._totals["train_accuracy"] += float(gradient.accuracy.double().mean()) / len(self._phases)
        self._since_last_row += 1
        self._totals["seconds"] += time.perf_counter() - started

    def _run(self, phase: _RunningPhase) -> MetaGradient:
        mirror = torch_stream(self.seed, phase.purpose, "mirror", self.iteration) if self.config.flip else None
        tasks = tasks_of(self.prepared, self._episodes(phase), self.device, mirror)
        gradient = self.learner.meta_gradient(self.state, tasks, phase.names)
        lengths = [group.take(gradient.gradients) for group in phase.groups]
        if not torch.stack([gradient.loss.mean(), *lengths]).isfinite().all():
            raise TrainingError(
                f"In iteration {self.iteration} of {self.config.n_iterations} the loss is {float(gradient.loss.mean())}"
                f" and its gradient has length {', '.join(f'{float(length):.4g}' for length in lengths)}: the "
                f"meta-learning has diverged. Lower the learning rates of {self.section}, or set "
                f"{self.section}.clip_norm."
            )
        for group in phase.groups:
            group.move()
        self.state.update(gradient.statistics)
        return gradient

    def _episodes(self, phase: _RunningPhase) -> list[Episode]:
        first = (self.iteration - 1) * self.config.tasks_per_batch
        return [phase.sampler.episode(index) for index in range(first, first + self.config.tasks_per_batch)]

    def close_row(self) -> None:
        """Test the state, keep it when it is the best, and add a row to the curve.

        Raises TrainingError when the state gives logits that are not finite.
        """
        started = time.perf_counter()
        accuracy, ci95 = self._test(self._validation)
        if not self.best or accuracy > self.best["accuracy"]:
            kept = {name: value.detach().cpu().clone() for name, value in self.state.items()}
            self.best = {"iteration": self.iteration, "accuracy": accuracy, "ci95": ci95, "state": kept}
        self._totals["seconds"] += time.perf_counter() - started
        self.curve.append(
            {
                "iteration": self.iteration,
                "loss": self._totals["loss"] / self._since_last_row,
                "train_accuracy": self._totals["train_accuracy"] / self._since_last_row,
                "validation_accuracy": accuracy,
                "validation_ci95": ci95,
                "best_iteration": self.best["iteration"],
                "seconds": self._totals["seconds"],
            }
        )
        self._totals = dict.fromkeys(self._totals, 0.0)
        self._since_last_row = 0

    def _test(self, episodes: Sequence[Episode]) -> tuple[float, float]:
        """Mean accuracy of the state, and the half-width of its 95 % interval."""
        at_once = self.config.tasks_per_batch
        outcome = adapted_test(
            self.learner, self.state, episodes, self.prepared, self.device, at_once, what=None, section=self.section
        )
        return mean_ci95(outcome.accuracies)

    def forecast(self, n_measured: int = 3) -> Forecast:
        """Measure `n_measured` iterations and part of a test, after one unmeasured iteration; the state moves on.

        Raises TrainingError as `step` and `close_row` do.
        """
        self.step()
        started = time.perf_counter()
        for _ in range(n_measured):
            self.step()
        per_iteration = (time.perf_counter() - started) / n_measured
        part = self._validation[: max(2, self.config.tasks_per_batch)]
        started = time.perf_counter()
        self._test(part)
        per_validation = (time.perf_counter() - started) * len(self._validation) / len(part)
        n_tests = math.ceil(self.config.n_iterations / self.config.validate_every)
        total = per_iteration * self.config.n_iterations + per_validation * n_tests
        return Forecast(per_iteration, per_validation, total)

    def state_dict(self) -> dict[str, Any]:
        """All that resuming needs: tensors, numbers, lists and dicts only. Save or copy it: further steps change it."""
        return {
            "iteration": self.iteration,
            "state": dict(self.state),
            "optimisers": [group.adam.state_dict() for group in self._groups],
            "totals": dict(self._totals),
            "since_last_row": self._since_last_row,
            "curve": list(self.curve),
            "best": dict(self.best),
        }

    @torch.no_grad()
    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave, which stays as it is."""
        moved = {name for phase in self._phases for name in phase.names}
        for name, value in saved["state"].items():
            if name in moved:
                # the optimisers hold these tensors
                self.state[name].copy_(value)
            else:
                self.state[name] = value.to(self.device, copy=True)
        for group, of_group in zip(self._groups, saved["optimisers"], strict=True):
            # an optimiser goes on with the very tensors that it is given
            group.adam.load_state_dict(copy.deepcopy(of_group))
        self.iteration, self._since_last_row = saved["iteration"], saved["since_last_row"]
        self._totals, self.best = dict(saved["totals"]), dict(saved["best"])
        self.curve = [dict(row) for row in saved["curve"]]

    @property
    def _groups(self) -> list[_Group]:
        return [group for phase in self._phases for group in phase.groups]


def meta_learn(
    learner: MetaLearner,
    prepared: PreparedSet,
    config: EpisodicConfig,
    phases: Sequence[Phase] | None = None,
    *,
    n_way: int,
    k_shot: int,
    seed: int,
    device: torch.device,
    what: str | None = "meta-learning: iteration",
    section: str = "meta_learn",
    resume: Mapping[str, Any] | None = None,
    after: Callable[[dict[str, Any]], None] = lambda state: None,
    seconds_between: float = SECONDS_BETWEEN_SAVES,
) -> MetaLearned:
    """Learn the start of a meta-learner.

    Args:
        learner, prepared, phases, n_way, k_shot, seed, section: see `OuterLoop`.
        what: name of the work in progress lines; None for none.
        resume: a state that `after` was given; meta-learning goes on after its iteration.
        after: called after each test, after the first iteration that ends `seconds_between` after the last call, and
            when the process is told to stop, with all that resuming needs.

    Returns:
        The best of the tested states; config.validate_every iterations lie between tests, and one stands at the end.

    Raises:
        ConfigError, DataError, UnknownNameError: see `OuterLoop`.
        TrainingError: a loss, a gradient or the logits of a test are not finite; `after` has not seen that iteration.
    """
    options = {"n_way": n_way, "k_shot": k_shot, "seed": seed, "device": device, "section": section}
    loop = OuterLoop(learner, prepared, config, phases, **options)
    if resume is not None:
        loop.load_state_dict(resume)
    pace = Pace(seconds_between)
    todo = range(loop.iteration + 1, config.n_iterations + 1)
    for iteration in todo if what is None else track(todo, what, total=config.n_iterations, done=loop.iteration):
        loop.step()
        tested = iteration % config.validate_every == 0 or iteration == config.n_iterations
        if tested:
            loop.close_row()
        if tested or pace.due:
            after(loop.state_dict())
            pace.restart()
    best = loop.best
    return MetaLearned(best["state"], best["iteration"], best["accuracy"], best["ci95"], loop.curve)


def forecast(
    learner: MetaLearner,
    prepared: PreparedSet,
    config: EpisodicConfig,
    phases: Sequence[Phase] | None = None,
    *,
    n_way: int,
    k_shot: int,
    seed: int,
    device: torch.device,
    n_measured: int = 3,
) -> Forecast:
    """How long `meta_learn` with these arguments will take, from a few iterations that are thrown away."""
    return OuterLoop(learner, prepared, config, phases, n_way=n_way, k_shot=k_shot, seed=seed, device=device).forecast(
        n_measured
    )
