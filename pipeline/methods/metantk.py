"""MetaNTK-NAS: prune a supernet by the condition number of its meta neural tangent kernel and by linear regions.

Wang, Hu, Chen, Jin, Wang, Zhou, Zhu: "Global Convergence of MAML and Theory-Inspired Neural Architecture Search for
Few-Shot Learning", CVPR 2022. A network whose MetaNTK is well conditioned is quick to meta-learn; one with many linear
regions can express much. Both are read off untrained networks, so the search trains nothing.
"""

from dataclasses import dataclass

from pipeline.core.config import BUDGETS, knob
from pipeline.methods import METHODS
from pipeline.recipes.measuring import search_images
from pipeline.recipes.supernet_pruning import WideKernelConfig, prune_supernet


@dataclass(frozen=True)
class Config(WideKernelConfig):
    """Knobs of MetaNTK-NAS. The rows for mini- and tiered-ImageNet with 5 and 8 cells are the published ones."""

    algorithm: str = knob(
        {budget: "maml" for budget in BUDGETS} | {f"{budget}/8cells": "anil" for budget in BUDGETS},
        "the learner whose kernel is looked at: maml adapts all weights, anil the head alone",
        choices=("maml", "anil"),
    )
    inner_lr_time: float = knob(
        {budget: 1000.0 for budget in BUDGETS} | {f"{budget}/miniimagenet/8cells": 1.0 for budget in BUDGETS},
        "inner learning rate times inner time; 1000 and more mean an inner loop run to its end",
        low=0,
    )
    reg_coef: float = knob(
        {budget: 1e-3 for budget in BUDGETS} | {f"{budget}/miniimagenet/8cells": 1e-5 for budget in BUDGETS},
        "ridge added to the spectrum of the support's kernel",
        low=0,
    )
    tasks_per_batch: int = knob(3, "tasks of one kernel", low=1)
    n_way: int = knob(5, "classes of a task", low=2)
    k_shot: int = knob(1, "support images per class", low=1)
    n_query: int = knob(1, "query images per class", low=1)


@METHODS.register("metantk")
class MetaNtkNas:
    """Search with the MetaNTK of a batch of tasks."""

    Config = Config

    @staticmethod
    def space(config: Config) -> str:
        return config.space

    @staticmethod
    def search(config: Config, context) -> list:
        """The architectures found, one per seed of the configuration."""
        from pipeline import proxies

        kernel = proxies.get("metantk_condition")(
            algorithm=config.algorithm,
            inner_lr_time=config.inner_lr_time,
            reg_coef=config.reg_coef,
            low_memory=config.low_memory,
        )
        tasks = {name: getattr(config, name) for name in ("tasks_per_batch", "n_way", "k_shot", "n_query")}
        draw = search_images(context, config.image_size, n_patches=config.n_region_samples, **tasks)
        return prune_supernet(config, kernel, context, draw, channels=config.channels, n_cells=context.n_cells)
