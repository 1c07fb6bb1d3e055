"""A network that rates architectures for a data set, meta-trained on the source."""

from typing import Any, ClassVar

from pipeline.stages.needs import NEEDS


@NEEDS.register("cell_predictor")
class CellPredictor:
    """Opens as `pipeline.recipes.learned.Learned`."""

    files: ClassVar[dict[str, tuple[str, str]]] = {
        "predictor": ("models/predictor_{source}/weights.safetensors", "weights of the meta-trained predictor"),
        "predictor_facts": ("models/predictor_{source}/facts.json", "what meta-training says of the predictor"),
    }

    @staticmethod
    def open(paths: dict[str, str], prepared: Any, device: Any) -> Any:
        from pipeline.stages.meta_trained import read_predictor

        del prepared
        return read_predictor(paths["predictor"], paths["predictor_facts"], device)
