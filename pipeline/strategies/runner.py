"""The loop of ask and tell: progress with the time left, checkpoints in and after each round, resuming in its midst."""

import contextlib
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from pipeline.core.checkpoint import Checkpoint, Pace
from pipeline.core.progress import track
from pipeline.strategies.indicators import Measured

Results = Mapping[Hashable, dict]


class Evaluator(Protocol):
    """Measures the candidates of a strategy in jobs that can be done in any order and need not be done twice."""

    def n_jobs(self, n_candidates: int) -> int:
        """Jobs that a question of so many candidates takes."""

    def jobs(self, strategy) -> list[Hashable]:
        """Names of the jobs for the strategy's present question; numbers or tuples of numbers."""

    def run(self, strategy, jobs: list[Hashable]) -> Iterator[tuple[Hashable, dict]]:
        """(job, result) as they are finished; a result holds plain values and at least `seconds`,
        `n_evaluations` and `peak_mib`."""

    def measured(self, strategy, results: Results) -> dict[str, Measured]:
        """The finished jobs as the strategy wants them."""

    def rows(self, number: int, results: Results, verdicts: list) -> list[dict[str, Any]]:
        """Lines of the trace for round `number`."""


@dataclass
class Journal:
    """What a search leaves behind besides its architectures; plain values, kept in the checkpoint.

    Attributes:
        rows: lines of the trace.
        found: genotype's text by search seed, for the seeds that are finished.
        stability: how far repeats agreed, see `pipeline.strategies.stability`.
        wall_seconds: time spent, over all runs that were resumed; what a killed run did after its last checkpoint is
            done again and counted once.
        device_seconds: seconds of all processor cores, or of the accelerator, spent measuring.
        network_evaluations: networks measured, counted once per indicator.
        peak_memory_mib: largest resident memory of a process times the number of processes.
        not_finite: measured numbers that were none, by indicator.
        controls: by search seed, what a random search with the same budget found and cost; its time and evaluations
            are in the totals above as well.
        account: what a method that learned from a database has to tell besides, which depends on neither time nor
            machine.
        decoded: the same of a method that reads its architectures off a meta-trained supernet.
        ledger: seconds besides, by what they were spent on; those of an earlier work are not in the totals above.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    found: dict[int, str] = field(default_factory=dict)
    stability: dict[str, Any] | None = None
    wall_seconds: float = 0.0
    device_seconds: float = 0.0
    network_evaluations: int = 0
    peak_memory_mib: float = 0.0
    not_finite: dict[str, int] = field(default_factory=dict)
    controls: dict[int, dict[str, Any]] = field(default_factory=dict)
    account: dict[str, Any] = field(default_factory=dict)
    decoded: dict[str, Any] = field(default_factory=dict)
    ledger: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """An architecture that a method proposes, for training from scratch.

    Attributes:
        k_shot: the only shot that it is for; None for all.
        episodes: numbers of the stored test episodes that it is for; None for all.
    """

    seed: int
    genotype: Any
    k_shot: int | None = None
    episodes: tuple[int, ...] | None = None


class Context:
    """What a method's search is given, and where it leaves its journal.

    Args:
        prepared: the prepared set, of which a search reads the base and validation classes only; where an architecture
            is for a test task, that task's support images too.
        seed: run seed.
        n_cells: cells of the network that will be trained, hence of the kernel network; None where the method's space
            leaves no choice.
        device: torch.device that measures.
        n_workers: processes that measure, on the processor.
        checkpoint: where the state is kept, if it is to be.
        given: what the method needs besides, by the names of its `needs`.
        section: of params.yaml that holds the method's knobs, for messages.
    """

    def __init__(
        self,
        prepared,
        *,
        seed: int,
        n_cells: int | None,
        device,
        n_workers: int = 1,
        checkpoint: Checkpoint | None = None,
        given: Mapping[str, Any] | None = None,
        section: str = "search",
    ):
        self.section = section
        self.prepared, self.seed, self.n_cells, self.given = prepared, seed, n_cells, given or {}
        self.device, self.n_workers, self.checkpoint = device, n_workers, checkpoint
        saved = (checkpoint.load() if checkpoint else None) or {"journal": {}, "search": None}
        self.journal = Journal(**saved["journal"])
        self._search = saved["search"]
        self._resumed_at, self._seconds_before = time.monotonic(), self.journal.wall_seconds

    def elapsed(self) -> float:
        """Seconds spent, over all runs that were resumed."""
        return self._seconds_before + time.monotonic() - self._resumed_at

    def state_of(self, name: str) -> Any | None:
        """The saved state of the search called `name`, if it was the one under way."""
        return self._search["state"] if self._search and self._search["name"] == name else None

    def save(self, name: str | None = None, state: Any = None) -> None:
        """Keep the journal, and the state of the search under way."""
        self.journal.wall_seconds = self.elapsed()
        self._search = None if name is None else {"name": name, "state": state}
        if self.checkpoint:
            self.checkpoint.save({"journal": asdict(self.journal), "search": self._search})


def run(
    strategy,
    evaluator: Evaluator,
    context: Context,
    name: str,
    *,
    save_every: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Ask, measure and tell until the strategy is finished; trace and cost go to the context's journal.

    Args:
        name: names this search in the checkpoint and in messages; a search of the same name under way is resumed and
            ends as if it had never stopped.
        save_every: seconds between checkpoints inside a round, None for 15; one is always written after a round.
    """
    state = context.state_of(name)
    results: dict[Hashable, dict] = {}
    if state is not None:
        strategy.load_state_dict(state["strategy"])
        results = dict(state["results"])
    n_done = (state["n_told"] if state else 0) + len(results)
    n_left = sum(evaluator.n_jobs(size) for size in strategy.sizes_left()) - len(results)
    steps = _steps(strategy, evaluator, context, name, results, n_done - len(results), Pace(save_every, clock))
    with contextlib.closing(steps):
        for _ in track(steps, name, total=n_done + n_left, done=n_done):
            pass


def _steps(strategy, evaluator, context, name, results, n_told, pace) -> Iterator[None]:
    """The search itself; yields after every finished job."""

    def save() -> None:
        context.save(name, {"strategy": strategy.state_dict(), "results": list(results.items()), "n_told": n_told})

    while not strategy.finished:
        jobs = [job for job in evaluator.jobs(strategy) if job not in results]
        with contextlib.closing(evaluator.run(strategy, jobs)) as finished:
            for job, result in finished:
                results[job] = {**result, "elapsed": context.elapsed()}
                if pace.due:
                    save()
                    pace.restart()
                yield
        n_told += len(results)
        _tell(strategy, evaluator, context.journal, results)
        results.clear()
        save()
        pace.restart()


def _tell(strategy, evaluator, journal: Journal, results: Results) -> None:
    """Hand one round's results to the strategy, and enter them in the journal."""
    number, measured = strategy.round, evaluator.measured(strategy, results)
    verdicts = strategy.tell(measured)
    journal.rows += evaluator.rows(number, results, verdicts)
    journal.device_seconds += sum(result["seconds"] for result in results.values())
    journal.network_evaluations += sum(result["n_evaluations"] for result in results.values())
    journal.peak_memory_mib = max([journal.peak_memory_mib, *(result["peak_mib"] for result in results.values())])
    for name, one in measured.items():
        journal.not_finite[name] = journal.not_finite.get(name, 0) + one.n_not_finite
