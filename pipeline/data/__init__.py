"""Data sets: sources, splits, transforms and the prepared-array format; one file a family, none imports torch."""

from pipeline.core.registry import Registry

DATASETS = Registry("data", "data set")
get, names = DATASETS.get, DATASETS.names
