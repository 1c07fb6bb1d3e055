"""A network that draws architectures for a data set, meta-trained on the source."""

from typing import Any, ClassVar

from pipeline.stages.needs import NEEDS


@NEEDS.register("cell_generator")
class CellGenerator:
    """Opens as `pipeline.recipes.learned.Learned`."""

    files: ClassVar[dict[str, tuple[str, str]]] = {
        "generator": ("models/generator_{source}/weights.safetensors", "weights of the meta-trained generator"),
        "generator_facts": ("models/generator_{source}/facts.json", "what meta-training says of the generator"),
    }

    @staticmethod
    def open(paths: dict[str, str], prepared: Any, device: Any) -> Any:
        from pipeline.stages.meta_trained import read_generator

        del prepared
        return read_generator(paths["generator"], paths["generator_facts"], device)
