"""Search whole architectures by TEG-NAS's three indicators: trainability, expressivity, generalisation.

Chen, Gong, Wang: "Understanding and Accelerating Neural Architecture Search with Training-Free and Theory-Grounded
Metrics" (TEG-NAS), 2021. The strategy that proposes architectures is the caller's choice.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipeline.core.config import knob
from pipeline.core.progress import say
from pipeline.core.rng import stream_seed, torch_stream
from pipeline.recipes.equal_budget import random_control
from pipeline.recipes.genotype_scoring import evaluator_of, indicators_of, scorers_of
from pipeline.recipes.measuring import (
    CONTROL_BY_DATASET,
    SPACE_BY_DATASET,
    by_dataset,
    knobs_against_noise,
    search_images,
    space_that,
)
from pipeline.strategies.runner import Context, Found, run
from pipeline.strategies.stability import summarise_genotypes

INDICATORS = ("coupled_ntk_condition", "linear_regions", "ntk_regression_error")


@dataclass(frozen=True)
class GenotypeSearchConfig:
    """Knobs of a search by TEG-NAS's indicators, whatever proposes the architectures."""

    space: str = knob(SPACE_BY_DATASET, "search space")
    seeds: tuple[int, ...] = knob(
        {"laptop": (0,), "gpu": (0, 1, 2), "paper": (0, 1, 2)}, "one search, and one architecture, per seed", low=0
    )
    repeat: int = knob(
        {"laptop": 2, "gpu": 3, "paper": 3}, "draws of weights and images over which indicators are averaged", low=1
    )
    n_images: int = knob({"laptop": 32, "gpu": 64, "paper": 64}, "images of one kernel, and as many held out", low=4)
    image_size: int = knob(by_dataset(32, {"imagenet16": 16}), "side to which images are resized for the kernel", low=8)
    n_region_samples: int = knob(
        {"laptop": 1000, "gpu": 3000, "paper": 3000}, "3x3 patches on which linear regions are counted", low=2
    )
    channels: int | None = knob(None, "channels of the kernel network; null for 3 on nas_bench_201, 1 elsewhere", low=1)
    kernel_cells: int | None = knob(None, "its cells; null for 3 on nas_bench_201, 2 elsewhere", low=1)
    init: str = knob(
        "kaiming",
        "initial weights: normal by fan-out (kernel network) and fan-in (thin network), or torch's own",
        choices=("kaiming", "torch_default"),
    )
    parity: bool = knob(
        False,
        "do as the published code does: torch's own initial weights, one batch for all repeats, held-out images from "
        "the test set; goes before init",
    )
    control: bool = knob(
        CONTROL_BY_DATASET,
        "where results are looked up: search at random too, with as many evaluations, for comparison",
    )


def search_genotypes(
    config: GenotypeSearchConfig,
    context: Context,
    capability: str,
    strategy_of: Callable[[Any, list, Any], Any],
) -> list[Found]:
    """One architecture per seed of the configuration.

    Args:
        capability: what the strategy needs of a space, e.g. "mutates".
        strategy_of: makes the strategy from the space, the indicators and a generator.

    Raises CapabilityError when the space lacks the capability; ScoreError when an indicator is never finite.
    """
    from pipeline import proxies

    space = space_that(capability, config.space)
    used = {name: proxies.get(name)() for name in INDICATORS}
    indicators, journal = indicators_of(used), context.journal
    draw = search_images(
        context,
        config.image_size,
        n_patches=config.n_region_samples,
        n_images=config.n_images,
        n_held_out=config.n_images,
        held_out="test" if config.parity else "train",
    )
    for seed in config.seeds:
        if seed in journal.found and (not config.control or "genotype" in journal.controls.get(seed, {})):
            continue
        search_seed = stream_seed(context.seed, "search", seed)
        sizes = {"channels": config.channels, "n_cells": config.kernel_cells}
        chance = chance_of(config, search_seed)
        scorers = scorers_of(used, space, context, draw, chance, config.repeat, **sizes)
        if seed not in journal.found:
            strategy = strategy_of(space, indicators, torch_stream(search_seed, "proposals"))
            evaluator = evaluator_of(scorers, space, context, seed)
            run(strategy, evaluator, context, f"search with seed {seed}")
            (genotype,) = strategy.found()
            journal.found[seed] = space.to_text(genotype)
            context.save()
        if config.control:
            n_measured = sum(row["seed"] == seed and row["event"] == "evaluated" for row in journal.rows)
            random_control(scorers, space, context, seed, n_measured * len(used) * config.repeat)
    journal.stability = summarise_genotypes(
        journal.rows, indicators, config.repeat, knobs_against_noise(config, context)
    )
    if journal.stability["warning"]:
        say(f"warning: {journal.stability['warning']}")
    return [Found(seed, space.from_text(journal.found[seed])) for seed in config.seeds]


def chance_of(config: GenotypeSearchConfig, seed: int):
    """What a configuration draws anew for what."""
    from pipeline.proxies.scoring import Chance

    if config.parity:
        return Chance(seed, init="torch_default", redraw_batches=False)
    return Chance(seed, init=config.init)
