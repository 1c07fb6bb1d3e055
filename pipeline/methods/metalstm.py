"""The meta-learner LSTM: a recurrent network writes the updates of Conv-4's weights, and their start is learned too.

Ravi, Larochelle: "Optimization as a Model for Few-Shot Learning", ICLR 2017. Nothing is searched.
"""

from pipeline.methods import METHODS
from pipeline.recipes.adapted_settings import AdaptingConv4, LstmTraining


@METHODS.register("metalstm")
class MetaLearnerLstm(AdaptingConv4):
    """Conv-4 with flattened features, adapted by an LSTM."""

    Learning = LstmTraining
    learner = "meta_lstm"
