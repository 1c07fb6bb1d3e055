"""The meta-learner LSTM: a recurrent network writes the updates of Conv-4's weights, and their start is learned too.

Ravi, Larochelle: "Optimization as a Model for Few-Shot Learning", ICLR 2017. Nothing is searched.
"""

from pipeline.methods import METHODS
from pipeline.recipes.adapted_settings import REFERENCES, LstmTraining
from pipeline.recipes.fixed import FixedConfig, only_architecture


@METHODS.register("metalstm")
class MetaLearnerLstm:
    """Conv-4 with flattened features, adapted by an LSTM."""

    Config = FixedConfig
    Learning = LstmTraining
    learner = "meta_lstm"
    control = "maml"
    references = REFERENCES

    @staticmethod
    def space(config: FixedConfig) -> str:
        return "conv4_flat"

    @staticmethod
    def search(config: FixedConfig, context) -> list:
        """The one architecture, once per seed."""
        return only_architecture("conv4_flat", config)
