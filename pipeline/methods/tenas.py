"""TE-NAS: prune a supernet by the condition number of its tangent kernel and by linear regions.

Chen, Gong, Wang: "Neural Architecture Search on ImageNet in Four GPU Hours: A Theoretically Inspired Perspective", ICLR
2021. The kernel goes through BatchNorm in training mode, on a small network.
"""

from dataclasses import dataclass

from pipeline.core.config import BUDGETS, knob
from pipeline.methods import METHODS
from pipeline.recipes.measuring import CONTROL_BY_DATASET, SPACE_BY_DATASET, by_dataset, search_images
from pipeline.recipes.supernet_pruning import PruningConfig, prune_supernet


@dataclass(frozen=True)
class Config(PruningConfig):
    """Knobs of TE-NAS; the `paper` rows are the published ones for NAS-Bench-201 and, on ImageNet, DARTS."""

    space: str = knob(SPACE_BY_DATASET, "search space; one whose supernet can be pruned")
    image_size: int = knob(by_dataset(32, {"imagenet16": 16}), "side to which images are resized for the kernel", low=8)
    prune_number: int = knob(
        by_dataset(1, {"imagenet": 2}, {"laptop": 1, "gpu": 1, "paper": 1}),
        "operations that every edge loses per round; published: 1 on nas_bench_201, 3 on darts with CIFAR, 2 with "
        "ImageNet",
        low=1,
    )
    n_images: int = knob(
        by_dataset(72, {"imagenet": 24}, {"laptop": 32} | dict.fromkeys(BUDGETS[1:], 72)),
        "images of one kernel; published: 72 on nas_bench_201, 14 on darts with CIFAR, 24 with ImageNet",
        low=4,
    )
    channels: int | None = knob(None, "channels of the kernel network; null for 3 on nas_bench_201, 1 elsewhere", low=1)
    kernel_cells: int | None = knob(None, "its cells; null for 3 on nas_bench_201, 2 elsewhere", low=1)
    control: bool = knob(
        CONTROL_BY_DATASET,
        "where results are looked up: search at random too, with as many evaluations, for comparison",
    )


@METHODS.register("tenas")
class TeNas:
    """Search by pruning with the batch-coupled kernel."""

    Config = Config

    @staticmethod
    def space(config: Config) -> str:
        return config.space

    @staticmethod
    def search(config: Config, context) -> list:
        """The architectures found, one per seed of the configuration."""
        from pipeline import proxies

        kernel = proxies.get("coupled_ntk_condition")()
        draw = search_images(
            context, config.image_size, n_patches=config.n_region_samples, n_images=config.n_images, n_held_out=0
        )
        return prune_supernet(
            config,
            kernel,
            context,
            draw,
            channels=config.channels,
            n_cells=config.kernel_cells,
            control=config.control,
        )
