"""A relaxed supernet, meta-trained on the base classes of the data set itself, once per shot."""

from typing import Any, ClassVar

from pipeline.stages.needs import NEEDS


@NEEDS.register("meta_trained_supernet")
class MetaTrainedSupernet:
    """Opens as `pipeline.recipes.decoding.Supernet`."""

    files: ClassVar[dict[str, tuple[str, str]]] = {
        "supernet": ("models/supernet_{method}_{dataset}/weights.safetensors", "states of the meta-trained supernet"),
        "supernet_facts": ("models/supernet_{method}_{dataset}/facts.json", "what meta-training says of them"),
    }

    @staticmethod
    def open(paths: dict[str, str], prepared: Any, device: Any) -> Any:
        from pipeline.stages.meta_learned import read_supernet

        return read_supernet(paths["supernet"], paths["supernet_facts"], prepared, device)
