"""Numbers as people read them."""

from pipeline.core.wording import fixed


def test_what_rounds_to_zero_has_no_sign():
    values = (-0.004, -0.0, 0.0, 0.004, -1e-300)
    assert {fixed(value, signed=signed) for value in values for signed in (False, True)} == {"0.00"}


def test_signs_are_shown_where_they_are_asked_for():
    assert [fixed(value, 1) for value in (-1.26, 1.26)] == ["-1.3", "1.3"]
    assert [fixed(value, 1, signed=True) for value in (-1.26, 1.26)] == ["-1.3", "+1.3"]
