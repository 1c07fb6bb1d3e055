"""Data sets: sources, splits, transforms and the prepared-array format; one file a family, none imports torch."""

from pipeline.core.registry import Registry

DATASETS = Registry("data", "data set")
get, names = DATASETS.get, DATASETS.names

TABLES = {"nas_bench_201": ("cifar10", "cifar100", "imagenet16")}
"""Spaces with a table of published accuracies, and the data sets it is about."""


def kind_of(name: str) -> str:
    """The kind of a registered data set, a key of `pipeline.core.types.KINDS`; imports its file and no torch.

    Raises UnknownNameError.
    """
    return get(name).kind
