"""Kernels: from a network and inputs to Gram matrices and activation patterns, and what their spectra say."""

from pipeline.kernels.coupled import all_weights_of, cell_weights_of, coupled_ntk, coupled_rows
from pipeline.kernels.meta import INFINITE_TIME, meta_ntk
from pipeline.kernels.ntk import NtkResult, ntk, weights_of
from pipeline.kernels.patterns import activation_patterns
from pipeline.kernels.regions import count_linear_regions
from pipeline.kernels.regression import regression_error
from pipeline.kernels.spectrum import condition_number

__all__ = [
    "INFINITE_TIME",
    "NtkResult",
    "activation_patterns",
    "all_weights_of",
    "cell_weights_of",
    "condition_number",
    "count_linear_regions",
    "coupled_ntk",
    "coupled_rows",
    "meta_ntk",
    "ntk",
    "regression_error",
    "weights_of",
]
