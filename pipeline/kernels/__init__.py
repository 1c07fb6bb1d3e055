"""Kernels: from a network and inputs to Gram matrices and activation patterns, and what their spectra say."""

from pipeline.kernels.meta import INFINITE_TIME, meta_ntk
from pipeline.kernels.ntk import NtkResult, ntk, weights_of
from pipeline.kernels.patterns import activation_patterns
from pipeline.kernels.regions import count_linear_regions
from pipeline.kernels.spectrum import condition_number

__all__ = [
    "INFINITE_TIME",
    "NtkResult",
    "activation_patterns",
    "condition_number",
    "count_linear_regions",
    "meta_ntk",
    "ntk",
    "weights_of",
]
