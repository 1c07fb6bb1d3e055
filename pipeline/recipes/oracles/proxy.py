"""A proxy's number of the untrained network, on the task's images."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from pipeline import proxies
from pipeline.core.config import knob
from pipeline.core.errors import CapabilityError, ScoreError
from pipeline.episodes.class_tasks import task_set
from pipeline.recipes.genotype_scoring import scorers_of
from pipeline.recipes.measuring import search_images
from pipeline.recipes.oracles import ORACLES, Bench, Question
from pipeline.strategies.runner import Context

FEWEST_HELD_OUT = 0.2


@ORACLES.register("proxy_oracle")
@dataclass(frozen=True)
class ProxyOracle:
    """What a proxy says, with the sign turned where less is better; no accuracy, and in no unit."""

    proxy: str = knob("naswot", "a proxy (python -m pipeline list proxies)")
    image_size: int = knob({"laptop": 16, "gpu": 32, "paper": 32}, "side to which images are resized", low=8)
    n_images: int = knob({"laptop": 32, "gpu": 64, "paper": 64}, "images of one batch, and as many held out", low=4)
    n_region_samples: int = knob(
        {"laptop": 1000, "gpu": 3000, "paper": 3000}, "3x3 patches on which linear regions are counted", low=2
    )
    init: str = knob(
        "kaiming", "initial weights: normal by fan-out, or torch's own", choices=("kaiming", "torch_default")
    )
    channels: int = knob({"laptop": 8, "gpu": 16, "paper": 16}, "channels of full networks", low=1)
    n_cells: int = knob({"laptop": 3, "gpu": 3, "paper": 15}, "cells of full networks", low=1, high=99)

    needs_table: ClassVar[bool] = False
    knows_tasks: ClassVar[bool] = True
    unit: ClassVar[str] = "the proxy's own"

    def check(self, bench: Bench) -> None:
        """Raises UnknownNameError for a proxy that is not there, CapabilityError for a space without masks."""
        proxies.get(self.proxy)
        if "prunes" not in bench.space.capabilities:
            raise CapabilityError(
                f"Proxies measure masks, which the space {bench.space.name} has not. Choose another database.space, or "
                "set database.oracle to train."
            )

    def facts(self, bench: Bench) -> dict[str, Any]:
        sign = "" if proxies.get(self.proxy)().higher_is_better else ", with its sign turned so that more is better"
        return {"meaning": f"the proxy {self.proxy} of the untrained network on the task's images{sign}; no accuracy"}

    def __call__(self, question: Question, bench: Bench) -> float:
        from pipeline.proxies.scoring import Chance, Trial

        task = task_set(
            bench.prepared,
            question.classes,
            n_images=0,
            held_out=FEWEST_HELD_OUT,
            image_size=self.image_size,
            seed=bench.seed,
        )
        context = Context(task, seed=question.seed, n_cells=self.n_cells, device=bench.device)
        proxy, space = proxies.get(self.proxy)(), bench.space
        draw = search_images(
            context,
            self.image_size,
            n_patches=self.n_region_samples,
            n_images=self.n_images,
            n_held_out=self.n_images,
            tasks_per_batch=3,
        )
        full = {"channels": self.channels, "n_cells": self.n_cells}
        chance = Chance(question.seed, init=self.init)
        (scorer,) = scorers_of({self.proxy: proxy}, space, context, draw, chance, 1, full=full)
        mask = space.mask_of(space.from_text(question.genotype))
        value = scorer.measure(Trial(0, 0, 0, {self.proxy: mask})).values[self.proxy]
        if not math.isfinite(value):
            raise ScoreError(f"The proxy {self.proxy} is {value} here.")
        return value if proxy.higher_is_better else -value
