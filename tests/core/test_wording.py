"""Numbers as people read them."""

from pipeline.core.wording import fixed, n_of


def test_what_rounds_to_zero_has_no_sign():
    values = (-0.004, -0.0, 0.0, 0.004, -1e-300)
    assert {fixed(value, signed=signed) for value in values for signed in (False, True)} == {"0.00"}


def test_signs_are_shown_where_they_are_asked_for():
    assert [fixed(value, 1) for value in (-1.26, 1.26)] == ["-1.3", "1.3"]
    assert [fixed(value, 1, signed=True) for value in (-1.26, 1.26)] == ["-1.3", "+1.3"]


def test_only_one_thing_is_singular():
    assert [n_of(number, "task") for number in (0, 1, 2, 1200)] == ["0 tasks", "1 task", "2 tasks", "1,200 tasks"]
    assert [n_of(number, "class", "classes") for number in (1, 2)] == ["1 class", "2 classes"]
