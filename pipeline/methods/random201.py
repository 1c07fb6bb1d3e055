"""Random cells of NAS-Bench-201, trained and tested by the same recipe as those that were found.

The control of methods that search that space on few-shot sets, where `random` draws from another one.
"""

from pipeline.methods import METHODS
from pipeline.recipes.drawn import DrawnMethod


@METHODS.register("random201")
class Random201(DrawnMethod):
    """Uniform draws from the space `nas_bench_201`."""

    drawn_from = "nas_bench_201"
    control = "random201"
