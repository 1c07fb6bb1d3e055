"""Networks that read a set of images and architectures: MetaD2A's generator and predictor (Lee et al., ICLR 2021)."""

from pipeline.meta_networks.generator import Generator
from pipeline.meta_networks.normalisation import Normalisation
from pipeline.meta_networks.predictor import Predictor

__all__ = ["Generator", "Normalisation", "Predictor"]
