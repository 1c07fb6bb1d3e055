"""Data sets: sources, splits, transforms and the prepared-array format; one file a family, none imports torch."""

from pipeline.core.registry import Registry

DATASETS = Registry("data", "data set")
get, names = DATASETS.get, DATASETS.names


def kind_of(name: str) -> str:
    """The kind of a registered data set, a key of `pipeline.core.types.KINDS`; imports its file and no torch.

    Raises UnknownNameError.
    """
    return get(name).kind


def share_images(one: str, other: str) -> bool | None:
    """Whether two data sets are one, or take their images from the same collection; None where nobody knows, because
    one of them is a user's folder."""
    if one == other:
        return True
    if not {one, other} <= set(names()):
        return None
    return get(one).collection == get(other).collection != ""
