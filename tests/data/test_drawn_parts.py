"""Images of a class that are drawn to be tested on."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import DataError
from pipeline.data.drawn_parts import part_to_test

IMAGES = [f"{number:03d}.jpg" for number in range(60)]


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 60), st.floats(0.01, 0.99), st.integers(0, 9))
def test_the_share_is_rounded_and_no_side_is_empty(n, fraction, seed):
    drawn = part_to_test("owl", IMAGES[:n], fraction, seed)
    assert drawn <= set(IMAGES[:n]) and 1 <= len(drawn) <= n - 1
    assert abs(len(drawn) - fraction * n) <= 0.5 or len(drawn) in (1, n - 1)


def test_the_order_in_which_images_are_named_does_not_matter():
    assert part_to_test("owl", IMAGES, 0.2, 0) == part_to_test("owl", IMAGES[::-1], 0.2, 0)


def test_another_seed_or_class_draws_others():
    drawn = [part_to_test(name, IMAGES, 0.2, seed) for name, seed in (("owl", 0), ("owl", 1), ("jay", 0))]
    assert len(set(map(frozenset, drawn))) == 3


def test_an_image_more_moves_at_most_one_of_the_others():
    for n in range(10, 60):
        before, after = (part_to_test("owl", IMAGES[:count], 0.15, 0) for count in (n, n + 1))
        moved = (before ^ after) - {IMAGES[n]}
        assert len(moved) <= 1


def test_every_image_is_drawn_about_as_often_as_the_share_says():
    draws = [part_to_test("owl", IMAGES, 0.2, seed) for seed in range(400)]
    for name in IMAGES[:10]:
        # a binomial count of 400 draws: 80, standard deviation 8
        assert 45 < sum(name in drawn for drawn in draws) < 115


def test_a_class_of_one_image_cannot_be_divided():
    with pytest.raises(DataError, match="Class 'owl' has 1 image"):
        part_to_test("owl", ["1.jpg"], 0.5, 0)
