"""YAML that people edit."""

import pytest

from pipeline.core.errors import ConfigError
from pipeline.core.yaml_text import parse_yaml


@pytest.mark.parametrize(
    "text, key, lines",
    [
        ("seed: 1\nbudget: gpu\nseed: 2\n", "seed", "1 and 3"),
        ("train:\n  epochs: 3\n  lr: 1\n  epochs: 3\n", "epochs", "2 and 4"),
        ("a: {b: 1, 'b': 2}\n", "b", "1 and 1"),
        ("- {b: 1}\n- b: 1\n  c: 2\n  b:\n", "b", "2 and 4"),
    ],
)
def test_a_key_twice_in_one_section_is_refused_with_its_lines(text, key, lines):
    with pytest.raises(ConfigError, match=f"x.yaml holds the key '{key}' twice in one section, in lines {lines}. Keep"):
        parse_yaml(text.encode(), "x.yaml")


def test_the_same_key_in_two_sections_or_beside_what_it_overrides_is_no_repetition():
    text = b"a: &a {x: 1, y: 2}\nb: &b {<<: *a, x: 3}\nc: {<<: *b, y: 4}\nd: {1: one, '1': text}\n"
    found = parse_yaml(text, "x.yaml")
    assert found["b"] == {"x": 3, "y": 2} and found["c"] == {"x": 3, "y": 4}
    assert found["d"] == {1: "one", "1": "text"}
