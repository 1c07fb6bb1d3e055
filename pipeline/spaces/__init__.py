"""Search spaces: what a genotype is, its text, and the networks it stands for. `get(name)` gives a space's class."""

from typing import TYPE_CHECKING

from pipeline.core.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.spaces.genotype import Genotype

SPACES = Registry("spaces", "space")
get = SPACES.get
names = SPACES.names


def decode_alphas(alpha_normal: "Tensor", alpha_reduce: "Tensor") -> "Genotype":
    """The genotype of the space `tnas` that alphas of shape (14, 8) each stand for; see `TNas.decode_alphas`."""
    return get("tnas")().decode_alphas(alpha_normal, alpha_reduce)
