"""Learners: what adapts to a support set and labels the queries; one file each."""

from typing import Any

from pipeline.core.registry import Registry

LEARNERS = Registry("learners", "learner")
get, names = LEARNERS.get, LEARNERS.names


def __getattr__(name: str) -> Any:
    """`preprocess_gradient`, which needs torch and is therefore imported when it is asked for."""
    if name == "preprocess_gradient":
        from pipeline.learners.coordinate_lstm import preprocess_gradient

        return preprocess_gradient
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
