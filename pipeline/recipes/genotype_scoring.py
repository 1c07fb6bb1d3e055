"""Measure whole architectures, each as a mask on the same networks and images, and never the same one twice.

Repeats have weights and images of their own, which all architectures of a search share: what differs between two
architectures is the architecture (TEG-NAS, 2021, keeps its networks and batches for a whole search too).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pipeline.recipes.measuring import n_workers_of, networks_of
from pipeline.strategies.indicators import Indicator, Measured, mean
from pipeline.strategies.runner import Context
from pipeline.strategies.stability import repeat_column

EVALUATED, REPEATED = "evaluated", "repeated"


def seconds_column(indicator: str) -> str:
    """Column of the trace with the device seconds that an indicator took, over all repeats."""
    return f"{indicator}_seconds"


class GenotypeEvaluator:
    """Measures the genotypes a strategy asks for, a job per genotype that has not been measured before.

    Args:
        scorers: a scorer per repeat (see `pipeline.proxies.scoring.SupernetScorer`), each with networks of its own.
        space: has `mask_of` and `to_text`; two genotypes of equal text are the same one.
        n_workers: processes that measure.
        seed: of the search, for the trace.
        rows: lines of the trace so far; what they tell of this seed need not be measured again.
        event: what the trace calls a genotype measured anew.
        timed: whether the trace tells how long each indicator took.
    """

    def __init__(
        self,
        scorers: Sequence[Any],
        space: Any,
        *,
        n_workers: int,
        seed: int,
        rows: Sequence[Mapping[str, Any]] = (),
        event: str = EVALUATED,
        timed: bool = False,
    ):
        self.scorers, self.space, self.n_workers, self.seed = scorers, space, n_workers, seed
        self.event, self.timed = event, timed
        self.names = list(scorers[0].proxies)
        self.known: dict[str, dict[str, list[float]]] = {}
        for row in rows:
            if row["seed"] == seed:
                self.known[row["genotype"]] = {
                    name: [row[repeat_column(name, repeat)] for repeat in range(len(scorers))] for name in self.names
                }
        self._asked: list[str] = []
        self._new: dict[str, int] = {}

    def n_jobs(self, n_candidates: int) -> int:
        """As many as candidates, or fewer: those that were measured before cost none."""
        return n_candidates

    def jobs(self, strategy) -> list[int]:
        """The places, in the strategy's question, of the genotypes that have to be measured."""
        self._asked = [self.space.to_text(genotype) for genotype in strategy.ask()]
        self._new = {}
        for place, text in enumerate(self._asked):
            if text not in self.known:
                self._new.setdefault(text, place)
        return list(self._new.values())

    def run(self, strategy, jobs: list[int]) -> Iterator[tuple[int, dict]]:
        from pipeline.core.workers import Workers

        n_workers = min(self.n_workers, max(1, len(jobs)))
        with Workers(self._measure, n_workers) as workers:
            for job, result in workers.map(jobs):
                yield job, {**result, "peak_mib": result["peak_mib"] * n_workers}

    def _measure(self, job: int) -> dict:
        from pipeline.proxies.scoring import Trial

        masks = dict.fromkeys(self.names, self.space.mask_of(self.space.from_text(self._asked[job])))
        readings = [scorer.measure(Trial(0, repeat, 0, masks)) for repeat, scorer in enumerate(self.scorers)]
        return {
            "values": {name: [reading.values[name] for reading in readings] for name in self.names},
            "seconds": sum(reading.seconds for reading in readings),
            "seconds_of": {name: sum(reading.seconds_of[name] for reading in readings) for name in self.names},
            "n_evaluations": sum(reading.n_evaluations for reading in readings),
            "peak_mib": readings[-1].peak_mib,
        }

    def measured(self, strategy, results: Mapping[int, dict]) -> dict[str, Measured]:
        """Values of all genotypes asked for, those of earlier questions among them."""
        self.known |= {text: results[place]["values"] for text, place in self._new.items()}
        return {name: Measured([self.known[text][name] for text in self._asked]) for name in self.names}

    def rows(self, number: int, results: Mapping[int, dict], verdicts: list) -> list[dict[str, Any]]:
        """A line per genotype asked for, in the order of the question."""
        lines = []
        for place, text in enumerate(self._asked):
            values, is_new = self.known[text], self._new.get(text) == place
            spent = results[place]["seconds_of"] if self.timed and is_new else {}
            lines.append(
                {
                    "seed": self.seed,
                    "round": number,
                    "event": self.event if is_new else REPEATED,
                    "cell": None,
                    "edge": None,
                    "operation": None,
                    "genotype": text,
                    **{name: mean(values[name]) for name in self.names},
                    "rank": None,
                    "seconds": round(results[place]["elapsed"], 3) if is_new else None,
                    **{repeat_column(name, i): one for name in self.names for i, one in enumerate(values[name])},
                    **{seconds_column(name): seconds for name, seconds in spent.items()},
                }
            )
        return lines


def scorers_of(
    used: Mapping[str, Any],
    space: Any,
    context: Context,
    draw: Callable[[str, int], Any],
    chance: Any,
    n_repeats: int,
    **sizes: Any,
) -> list[Any]:
    """A scorer per repeat, with networks of its own; `sizes` as in `networks_of`."""
    from pipeline.proxies.scoring import SupernetScorer

    kinds = dict.fromkeys(proxy.network for proxy in used.values() if proxy.network is not None)
    return [SupernetScorer(used, networks_of(space, kinds, context, **sizes), draw, chance) for _ in range(n_repeats)]


def evaluator_of(scorers: Sequence[Any], space: Any, context: Context, seed: int, **options: Any) -> GenotypeEvaluator:
    """An evaluator that knows what the context's journal tells."""
    rows = [row for row in context.journal.rows if row.get("genotype") is not None]
    return GenotypeEvaluator(scorers, space, n_workers=n_workers_of(context), seed=seed, rows=rows, **options)


def indicators_of(used: Mapping[str, Any]) -> list[Indicator]:
    """What a strategy sees of the proxies."""
    return [Indicator(name, proxy.higher_is_better) for name, proxy in used.items()]
