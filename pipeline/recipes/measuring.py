"""What searches measure on: networks by kind, images that a search may see, and a space for each kind of data set."""

from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.core.config import BUDGETS
from pipeline.core.errors import CapabilityError
from pipeline.strategies.runner import Context

TABULAR_SETS = ("cifar10", "cifar100", "imagenet16")


def by_dataset(value: Any, rows: Mapping[str, Any], budgets: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The table of a knob that is `value` (or one of `budgets`) but for the data sets, or kinds, that `rows` names."""
    table = dict(budgets or dict.fromkeys(BUDGETS, value))
    return table | {f"{budget}/{dataset}": row for dataset, row in rows.items() for budget in BUDGETS}


SPACE_BY_DATASET = by_dataset("darts_fewshot", {"classification": "nas_bench_201", "imagenet": "darts"})
"""NAS-Bench-201 on classification sets, the space of DARTS on ImageNet, MetaNTK-NAS's for few-shot sets."""


CONTROL_BY_DATASET = by_dataset(False, dict.fromkeys(TABULAR_SETS, True))
"""Where results are looked up, a search has a random search with an equal budget as its control; elsewhere the control
is `random`, trained by the same recipe."""


AGAINST_NOISE = ("repeat", "n_resamplings", "tasks_per_batch", "n_images", "n_region_samples")
"""Knobs of searches with which repeats may agree more, that of repeats first."""


def knobs_against_noise(config: Any, context: Context) -> list[str]:
    """Those of AGAINST_NOISE that a search has, as params.yaml spells them."""
    return [f"{context.section}.{name}" for name in AGAINST_NOISE if hasattr(config, name)]


def space_that(capability: str, name: str) -> Any:
    """The space called `name`. Raises CapabilityError when it lacks a capability, e.g. "prunes"."""
    from pipeline import spaces

    space = spaces.get(name)()
    if capability not in space.capabilities:
        able = [other for other in spaces.names() if capability in spaces.get(other).capabilities]
        raise CapabilityError(
            f"This search needs a space that {capability}; '{name}' does not. Choose one of {', '.join(able)}."
        )
    return space


def networks_of(
    space: Any,
    kinds: Iterable[str],
    context: Context,
    *,
    channels: int | None = None,
    n_cells: int | None = None,
    full: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """The supernets of a space to measure on, by kind, ready on the context's device.

    Args:
        kinds: of "thin" (for linear regions), "kernel" (GroupNorm), "coupled" (BatchNorm, small as in TE-NAS) and
            "full" (BatchNorm, of the size that is trained).
        channels, n_cells: sizes of the kernel networks; None for those of TE-NAS's on this space.
        full: sizes of full networks.
    """
    published = space.small_kernel
    small = {
        "channels": published[0] if channels is None else channels,
        "n_cells": published[1] if n_cells is None else n_cells,
    }
    n_classes = context.prepared.n_classes(context.prepared.search_split)
    makers = {
        "thin": space.thin_supernet,
        "kernel": lambda: space.supernet(n_classes=n_classes, **small),
        "coupled": lambda: space.supernet(n_classes=n_classes, norm="batchnorm", **small),
        "full": lambda: space.supernet(n_classes=n_classes, norm="batchnorm", **(full or small)),
    }
    return {kind: makers[kind]().to(context.device) for kind in kinds}


def search_images(context: Context, image_size: int, **sizes: Any) -> Any:
    """Where a search's batches come from; `sizes` as in `pipeline.proxies.scoring.SearchImages`."""
    from pipeline.proxies.scoring import SearchImages

    return SearchImages(context.prepared, context.seed, context.device, image_size=image_size, **sizes)


def n_workers_of(context: Context) -> int:
    """Processes that measure: one on an accelerator."""
    return context.n_workers if context.device.type == "cpu" else 1
