"""Prune a space's supernet by indicators measured on it: the search that TE-NAS began and MetaNTK-NAS made few-shot.

Joins `prune_by_rank` (which sees numbers only) with the scoring of masked supernets (which knows no search). What is
measured on the kernel network is the caller's choice; beside it stands the number of linear regions of thin networks.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.core.config import knob
from pipeline.core.progress import say
from pipeline.core.rng import stream_seed
from pipeline.core.wording import n_of
from pipeline.recipes.equal_budget import random_control
from pipeline.recipes.genotype_scoring import scorers_of
from pipeline.recipes.measuring import knobs_against_noise, n_workers_of, networks_of, space_that
from pipeline.strategies.indicators import Indicator, Measured, mean
from pipeline.strategies.runner import Context, Found, run
from pipeline.strategies.stability import change_column, summarise

REGIONS = "linear_regions"
ORIGIN = -1


@dataclass(frozen=True)
class PruningConfig:
    """Knobs of a pruning search, whatever kernel it looks at."""

    space: str = knob("darts_fewshot", "search space; one whose supernet can be pruned")
    seeds: tuple[int, ...] = knob(
        {"laptop": (0,), "gpu": (0, 1, 2), "paper": (0, 1, 2)}, "one search, and one architecture, per seed", low=0
    )
    image_size: int = knob(
        {"laptop": 24, "gpu": 32, "paper": 32}, "side to which images are resized for the kernel", low=8
    )
    repeat: int = knob(
        {"laptop": 2, "gpu": 3, "paper": 3}, "draws of weights and images over which changes are averaged", low=1
    )
    prune_number: int = knob({"laptop": 3, "gpu": 1, "paper": 1}, "operations that every edge loses per round", low=1)
    only_lrs: bool = knob(False, "rank by linear regions alone and compute no kernel")
    n_region_samples: int = knob(
        {"laptop": 1000, "gpu": 3000, "paper": 3000}, "3x3 patches on which linear regions are counted", low=2
    )
    init: str = knob(
        "kaiming",
        "initial weights: normal by fan-out (kernel network) and fan-in (thin network), or torch's own",
        choices=("kaiming", "torch_default"),
    )
    common_random_numbers: bool = knob(
        True, "a supernet and all that is pruned from it see the same weights, images and head"
    )
    parity: bool = knob(
        False,
        "do as the published code does: no re-initialisation, another head for every network, stale origin in the last "
        "phase; goes before init and common_random_numbers",
    )


@dataclass(frozen=True)
class WideKernelConfig(PruningConfig):
    """Knobs of a pruning search by the kernel of a network as wide as the one that is trained."""

    channels: int = knob(
        {"laptop": 8, "gpu": 48, "paper": 48}, "channels of the kernel network: 4, 8 or a multiple of 16", low=1
    )
    low_memory: bool = knob(False, "compute kernels image by image where the fast way needs too much memory")


class SupernetEvaluator:
    """Measures the candidates of `prune_by_rank` with a scorer, a job per candidate and repeat.

    Where chance is common to a round, the origin is a job of its own (candidate -1), else it is measured within every
    candidate's job.
    """

    def __init__(self, scorer, space, *, n_repeats: int, n_workers: int, seed: int):
        self.scorer, self.space, self.seed = scorer, space, seed
        self.n_repeats, self.n_workers = n_repeats, n_workers
        self.names = list(scorer.proxies)

    def n_jobs(self, n_candidates: int) -> int:
        return self.n_repeats * (n_candidates + self.scorer.chance.common)

    def jobs(self, strategy) -> list[tuple[int, int]]:
        first = ORIGIN if self.scorer.chance.common else 0
        return [
            (repeat, candidate) for repeat in range(self.n_repeats) for candidate in range(first, len(strategy.ask()))
        ]

    def _trial(self, strategy, candidates: list, job: tuple[int, int]):
        from pipeline.proxies.scoring import Trial

        repeat, index = job
        origins = {name: strategy.origin(name) for name in self.names}
        if index == ORIGIN:
            return Trial(strategy.round, repeat, index, origins)
        masks = dict.fromkeys(self.names, strategy.masked(candidates[index]))
        return Trial(strategy.round, repeat, index, masks, None if self.scorer.chance.common else origins)

    def run(self, strategy, jobs: list[tuple[int, int]]) -> Iterator[tuple[tuple[int, int], dict]]:
        from pipeline.core.workers import Workers

        candidates = strategy.ask()
        trials = {job: self._trial(strategy, candidates, job) for job in jobs}
        n_workers = min(self.n_workers, max(1, len(jobs)))
        with Workers(lambda job: self.scorer.measure(trials[job]), n_workers) as workers:
            for job, reading in workers.map(jobs):
                yield (
                    job,
                    {
                        "values": dict(reading.values),
                        "origins": dict(reading.origins),
                        "seconds": reading.seconds,
                        "n_evaluations": reading.n_evaluations,
                        "peak_mib": reading.peak_mib * n_workers,
                    },
                )

    def measured(self, strategy, results: Mapping[tuple[int, int], dict]) -> dict[str, Measured]:
        n_candidates, common = len(strategy.ask()), self.scorer.chance.common

        def column(kind: str, name: str, candidate: int) -> list[float]:
            return [results[repeat, candidate][kind][name] for repeat in range(self.n_repeats)]

        return {
            name: Measured(
                values=[column("values", name, i) for i in range(n_candidates)],
                origins=[column("values", name, ORIGIN)]
                if common
                else [column("origins", name, i) for i in range(n_candidates)],
            )
            for name in self.names
        }

    def rows(self, number: int, results: Mapping[tuple[int, int], dict], verdicts: list) -> list[dict[str, Any]]:
        """One line for the origin, where it was measured by itself, and one per candidate, in order of rank."""
        lines = []
        if (0, ORIGIN) in results:
            seen = [results[repeat, ORIGIN]["values"] for repeat in range(self.n_repeats)]
            values = {name: mean([one[name] for one in seen]) for name in self.names}
            lines.append(self._line(number, "origin", None, None, values, self._seconds(results, ORIGIN), {}))
        for one in verdicts:
            seconds = self._seconds(results, one.index)
            lines.append(self._line(number, one.event, one.candidate, one.rank, one.values, seconds, one.changes))
        return lines

    def _seconds(self, results: Mapping[tuple[int, int], dict], candidate: int) -> float:
        """When the last repeat of a candidate was measured."""
        return round(max(results[repeat, candidate]["elapsed"] for repeat in range(self.n_repeats)), 3)

    def _line(self, number, event, removal, rank, values, seconds, changes) -> dict[str, Any]:
        cell, edge, operation = removal or (None, None, None)
        line = {
            "seed": self.seed,
            "round": number,
            "event": event,
            "cell": None if removal is None else self.space.cell_types[cell],
            "edge": edge,
            "operation": None if removal is None else self.space.operations[operation],
            **values,
            "rank": rank,
            "seconds": seconds,
        }
        for name in self.names:
            for repeat in range(self.n_repeats):
                line[change_column(name, repeat)] = None if removal is None else changes[name][repeat]
        return line


def chance_of(config: PruningConfig, seed: int):
    """What a configuration draws anew for what."""
    from pipeline.proxies.scoring import Chance

    if config.parity:
        return Chance.parity(seed)
    return Chance(seed, init=config.init, common=config.common_random_numbers)


def indicators_of(proxies: Mapping[str, Any], parity: bool) -> list[Indicator]:
    """What the strategy ranks by; in parity the kernel's origin is stale in the last phase, that of the regions not."""
    return [
        Indicator(name, proxy.higher_is_better, stale_origin_in_groups=parity and proxy.network != "thin")
        for name, proxy in proxies.items()
    ]


def prune_supernet(
    config: PruningConfig,
    kernel_proxy,
    context: Context,
    draw: Callable[[str, int], Any],
    *,
    channels: int | None,
    n_cells: int | None,
    control: bool = False,
) -> list[Found]:
    """One pruned architecture per seed of the configuration.

    Args:
        kernel_proxy: indicator of the kernel network, e.g. the MetaNTK's condition number.
        draw: batches by kind and seed, see `search_images`.
        channels, n_cells: size of the kernel network; None for that of TE-NAS.
        control: whether to search at random too, with as many evaluations.

    Raises CapabilityError when the space has no supernet to prune; ScoreError when nothing can be ranked.
    """
    from pipeline import proxies, strategies
    from pipeline.proxies.scoring import SupernetScorer

    space = space_that("prunes", config.space)
    used = {kernel_proxy.name: kernel_proxy} if not config.only_lrs else {}
    used[REGIONS] = proxies.get(REGIONS)()
    sizes = {"channels": channels, "n_cells": n_cells}
    networks = networks_of(space, [proxy.network for proxy in used.values()], context, **sizes)
    indicators, n_workers = indicators_of(used, config.parity), n_workers_of(context)
    for seed in config.seeds:
        chance = chance_of(config, stream_seed(context.seed, "search", seed))
        if seed not in context.journal.found:
            scorer = SupernetScorer(used, networks, draw, chance)
            strategy = strategies.get("prune_by_rank")(space, indicators, prune_number=config.prune_number)
            evaluator = SupernetEvaluator(scorer, space, n_repeats=config.repeat, n_workers=n_workers, seed=seed)
            run(strategy, evaluator, context, f"search with seed {seed}")
            (genotype,) = strategy.found()
            context.journal.found[seed] = space.to_text(genotype)
            context.save()
        if control:
            of_genotypes = dataclasses.replace(chance, common=True, redraw_weights=True)
            scorers = scorers_of(used, space, context, draw, of_genotypes, config.repeat, **sizes)
            n_measured = n_evaluations(context.journal.rows, seed, config.repeat, len(used), chance.common)
            random_control(scorers, space, context, seed, n_measured)
    context.journal.stability = summarise(
        context.journal.rows, indicators, config.repeat, knobs_against_noise(config, context)
    )
    _tell_user(context.journal)
    return [Found(seed, space.from_text(context.journal.found[seed])) for seed in config.seeds]


def n_evaluations(rows: Sequence[Mapping[str, Any]], seed: int, n_repeats: int, n_indicators: int, common: bool) -> int:
    """Networks that a seed's pruning measured, counted once per indicator: candidates and their origins."""
    n_lines = sum(row["seed"] == seed and row.get("genotype") is None for row in rows)
    return n_lines * n_repeats * n_indicators * (1 if common else 2)


def _tell_user(journal) -> None:
    for name, count in journal.not_finite.items():
        if count:
            say(
                f"warning: {n_of(count, 'value')} of {name} {'was' if count == 1 else 'were'} not finite; their "
                "candidates were ranked last"
            )
    if journal.stability["warning"]:
        say(f"warning: {journal.stability['warning']}")
