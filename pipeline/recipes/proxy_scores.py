"""Score a stored random sample of a space by every proxy, to learn how far each can be trusted."""

from dataclasses import dataclass
from typing import Any

from pipeline.core.config import knob
from pipeline.core.errors import CapabilityError
from pipeline.core.rng import stream_seed, torch_stream
from pipeline.recipes.genotype_scoring import evaluator_of, scorers_of
from pipeline.recipes.measuring import by_dataset, search_images, space_that
from pipeline.strategies.runner import Context, run

ALL_PROXIES = (
    "n_params", "flops", "n_layers", "linear_regions", "coupled_ntk_condition", "ntk_regression_error",
    "ntk_condition", "grad_norm", "snip", "synflow", "naswot", "zico",
)  # fmt: skip


@dataclass(frozen=True)
class ScoreConfig:
    """Knobs of the proxies' report card."""

    proxies: tuple[str, ...] = knob(ALL_PROXIES, "proxies to judge")
    n_architectures: int = knob(
        {"laptop": 300, "gpu": 1000, "paper": 0}, "architectures of the sample; 0 for all of the space", low=0
    )
    repeat: int = knob({"laptop": 2, "gpu": 3, "paper": 3}, "draws of weights and images for each", low=1)
    n_images: int = knob(64, "images of one batch, and as many held out", low=4)
    image_size: int = knob(by_dataset(32, {"imagenet16": 16}), "side to which images are resized", low=8)
    n_region_samples: int = knob(3000, "3x3 patches on which linear regions are counted", low=2)
    init: str = knob(
        "kaiming", "initial weights: normal by fan-out, or torch's own", choices=("kaiming", "torch_default")
    )
    kernel_channels: int | None = knob(None, "channels of kernel networks; null for 3 on nas_bench_201", low=1)
    kernel_cells: int | None = knob(None, "their cells; null for 3 on nas_bench_201", low=1)
    channels: int = knob(16, "channels of full networks", low=1)
    n_cells: int = knob(
        {"laptop": 3, "gpu": 15, "paper": 15}, "cells of full networks; the benchmark trains 15", low=1, high=99
    )


@dataclass(frozen=True)
class RateConfig:
    """Knobs of the figures on the report card."""

    n_resamples: int = knob(1000, "samples of the bootstrap over architectures", low=1)


def score_sample(config: ScoreConfig, space_name: str, context: Context) -> list[dict[str, Any]]:
    """A row per architecture of the sample: genotype, the proxies' values in every repeat, and their seconds.

    Raises CapabilityError when the space has no masks, or fewer architectures than the sample asks for.
    """
    from pipeline import proxies, strategies
    from pipeline.proxies.scoring import Chance

    space = space_that("prunes", space_name)
    used = {name: proxies.get(name)() for name in config.proxies}
    draw = search_images(
        context,
        config.image_size,
        n_patches=config.n_region_samples,
        n_images=config.n_images,
        n_held_out=config.n_images,
        tasks_per_batch=3,
    )
    small = {"channels": config.kernel_channels, "n_cells": config.kernel_cells}
    full = {"channels": config.channels, "n_cells": config.n_cells}
    chance = Chance(stream_seed(context.seed, "report card"), init=config.init)
    scorers = scorers_of(used, space, context, draw, chance, config.repeat, full=full, **small)
    n_architectures = config.n_architectures or space.n_genotypes
    if n_architectures is None:
        raise CapabilityError(
            f"The space {space_name} has too many architectures to score them all (score.n_architectures: 0). "
            "Set score.n_architectures to the size of a sample, e.g. 1000."
        )
    sample = strategies.get("random_search")(
        space, (), torch_stream(context.seed, "sample of architectures"), n_architectures=n_architectures
    )
    evaluator = evaluator_of(scorers, space, context, seed=0, timed=True)
    run(sample, evaluator, context, f"scoring {n_architectures} architectures")
    return context.journal.rows
