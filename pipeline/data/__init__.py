"""Data sets: sources, splits, transforms and the prepared-array format; one file a family, none imports torch."""

from pipeline.core.registry import Registry

DATASETS = Registry("data", "data set")
get, names = DATASETS.get, DATASETS.names


def kind_of(name: str) -> str:
    """The kind of a registered data set, a key of `pipeline.core.types.KINDS`; imports its file and no torch.

    Raises UnknownNameError.
    """
    return get(name).kind
