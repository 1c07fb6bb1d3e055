"""Evaluation: training from scratch, the few-shot test, its statistics and its cost."""

from pipeline.evaluation.statistics import mean_ci95

__all__ = ["mean_ci95"]
