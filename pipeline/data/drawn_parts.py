"""Which images of a class are tested on, where nobody has divided them."""

from __future__ import annotations

from collections.abc import Collection

from pipeline.core.errors import DataError
from pipeline.core.rng import stream_seed


def part_to_test(class_name: str, images: Collection[str], fraction: float, seed: int) -> set[str]:
    """The names of the images to test on: `fraction` of them, rounded, but at least one, and one is left to train on.

    Each name has a number of its own, and the smallest are drawn: where images are added or taken away, the others stay
    where they are, but for those that the new count moves.

    Args:
        class_name: names, with `seed`, the stream.
        images: names of all images of the class.

    Raises DataError when there is but one image.
    """
    if len(images) < 2:
        raise DataError(
            f"Class '{class_name}' has {len(images)} image; to be divided into images to train on and to test on it "
            "needs two. Add images or take the class out."
        )
    count = min(max(1, int(fraction * len(images) + 0.5)), len(images) - 1)
    return set(sorted(images, key=lambda name: (stream_seed(seed, "test part", class_name, name), name))[:count])
