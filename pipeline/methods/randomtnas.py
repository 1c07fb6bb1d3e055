"""Random architectures of T-NAS's space, each with a start that is meta-learned as those that T-NAS decodes.

The control of T-NAS and Auto-MAML: what their searches gain is the difference to these.
"""

from pipeline.methods import METHODS
from pipeline.recipes.adapted_settings import REFERENCES, CellTraining
from pipeline.recipes.drawn import DrawnMethod


@METHODS.register("randomtnas")
class RandomTNas(DrawnMethod):
    """Uniform draws from the space `tnas`; architecture i is meta-learned with seed i."""

    drawn_from = "tnas"
    Learning = CellTraining
    learner = "gradient"
    control = "maml"
    references = REFERENCES
