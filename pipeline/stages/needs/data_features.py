"""Features of the data set that is searched for, by the network of the source."""

from typing import Any, ClassVar

from pipeline.stages.needs import NEEDS


@NEEDS.register("data_features")
class DataFeatures:
    """Opens as `pipeline.data.features.FeatureSet`."""

    files: ClassVar[dict[str, tuple[str, str]]] = {
        "features": ("data/features/{dataset}_by_{source}.npy", "features of the images"),
        "features_facts": ("data/features/{dataset}_by_{source}.json", "what made the features"),
    }

    @staticmethod
    def open(paths: dict[str, str], prepared: Any, device: Any) -> Any:
        from pipeline.data.features import FeatureSet

        del device
        return FeatureSet.open(paths["features"], paths["features_facts"], prepared, verify=True)
