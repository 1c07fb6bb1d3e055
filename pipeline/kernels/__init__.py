"""Kernels: from a network and inputs to Gram matrices and activation patterns, and what their spectra say."""

from pipeline.kernels.coupled import (
    all_weights_of,
    cell_weights_of,
    coupled_gradients,
    coupled_ntk,
    coupled_products,
    coupled_rows,
)
from pipeline.kernels.hamming import hamming_kernel
from pipeline.kernels.meta import INFINITE_TIME, meta_ntk
from pipeline.kernels.ntk import NtkResult, ntk, weights_of
from pipeline.kernels.patterns import activation_patterns
from pipeline.kernels.regions import count_linear_regions
from pipeline.kernels.regression import prediction_error, regression_error, regression_weights
from pipeline.kernels.spectrum import condition_number, log_determinant
from pipeline.kernels.undisturbed import mode_of, stand_ins, training_pass

__all__ = [
    "INFINITE_TIME",
    "NtkResult",
    "activation_patterns",
    "all_weights_of",
    "cell_weights_of",
    "condition_number",
    "count_linear_regions",
    "coupled_gradients",
    "coupled_ntk",
    "coupled_products",
    "coupled_rows",
    "hamming_kernel",
    "log_determinant",
    "meta_ntk",
    "mode_of",
    "ntk",
    "prediction_error",
    "regression_error",
    "regression_weights",
    "stand_ins",
    "training_pass",
    "weights_of",
]
