"""Single-task control: the search of MetaNTK-NAS with the ordinary NTK of one batch of images in place of the MetaNTK.

As TE-NAS (Chen, Gong, Wang: "Neural Architecture Search on ImageNet in Four GPU Hours", ICLR 2021) with the network,
normalisation and image count of MetaNTK-NAS, so that the two kernels are what differs.
"""

from dataclasses import dataclass

from pipeline.core.config import knob
from pipeline.methods import METHODS
from pipeline.recipes.measuring import search_images
from pipeline.recipes.supernet_pruning import WideKernelConfig, prune_supernet


@dataclass(frozen=True)
class Config(WideKernelConfig):
    """Knobs of the single-task search."""

    n_images: int = knob(30, "images of one kernel; 30 is what three 5-way 1-shot tasks with one query hold", low=2)


@METHODS.register("ntk")
class NtkNas:
    """Search with the NTK of the base classes' classifier."""

    Config = Config

    @staticmethod
    def space(config: Config) -> str:
        return config.space

    @staticmethod
    def search(config: Config, context) -> list:
        """The architectures found, one per seed of the configuration."""
        from pipeline import proxies

        kernel = proxies.get("ntk_condition")(low_memory=config.low_memory)
        sizes = {"n_patches": config.n_region_samples, "n_images": config.n_images}
        draw = search_images(context, config.image_size, **sizes)
        return prune_supernet(config, kernel, context, draw, channels=config.channels, n_cells=context.n_cells)
