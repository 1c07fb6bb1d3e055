"""The typed configuration: types, bounds, tables by budget, and messages that help."""

from dataclasses import dataclass

import pytest

from pipeline.core.config import BUDGETS, build, knob, resolve, with_default
from pipeline.core.errors import ConfigError, UnknownNameError


@dataclass(frozen=True)
class Knobs:
    rate: float = knob(
        {"laptop": 0.1, "gpu": 0.2, "paper": 0.3, "paper/tiered": 0.4, "paper/8cells": 0.5}, "a rate", low=0
    )
    steps: int = knob(3, "a count", low=1, high=10)
    shots: tuple[int, ...] = knob((1, 5), "shots", low=1)
    engine: str = knob("fast", "a choice", choices=("fast", "loop"))
    limit: int | None = knob(None, "a limit or none")
    on: bool = knob(False, "a switch")


KNOWN = {*BUDGETS, "tiered", "mini", "5cells", "8cells"}


def settle(section, *tags):
    return resolve(Knobs, section, tags, KNOWN, "train")


def test_defaults_hold_where_the_section_is_silent():
    assert settle(None, "laptop", "mini") == {
        "rate": 0.1, "steps": 3, "shots": [1, 5], "engine": "fast", "limit": None, "on": False,
    }  # fmt: skip


def test_the_row_with_most_tags_counts():
    assert settle({}, "paper", "mini", "5cells")["rate"] == 0.3
    assert settle({}, "paper", "tiered", "5cells")["rate"] == 0.4
    assert settle({}, "paper", "mini", "8cells")["rate"] == 0.5


def test_a_row_of_a_data_set_goes_before_one_of_its_kind_and_that_before_the_budgets_alone():
    rate = {
        "laptop": 1,
        "laptop/few_shot": 2,
        "laptop/mini": 3,
        "laptop/classification": 4,
        "laptop/few_shot/5cells": 5,
    }
    assert settle({"rate": rate}, "laptop", "mini", "few_shot")["rate"] == 3
    assert settle({"rate": rate}, "laptop", "tiered", "few_shot")["rate"] == 2
    assert settle({"rate": rate}, "laptop", "tiered", "classification")["rate"] == 4
    assert settle({"rate": rate}, "laptop", "mini", "few_shot", "5cells")["rate"] == 5
    assert settle({"rate": rate}, "laptop", "mini")["rate"] == 3
    with pytest.raises(ConfigError, match="laptop/few_shot and few_shot/laptop apply equally"):
        settle({"rate": {"laptop/few_shot": 1, "few_shot/laptop": 2}}, "laptop", "few_shot")


def test_two_rows_that_apply_equally_are_refused_by_name():
    with pytest.raises(ConfigError, match="paper/tiered and paper/8cells apply equally"):
        settle({}, "paper", "tiered", "8cells")


def test_a_plain_value_overrides_the_whole_table():
    for budget in BUDGETS:
        assert settle({"rate": 7}, budget, "mini")["rate"] == 7.0


def test_a_table_without_a_row_for_the_budget_is_refused():
    with pytest.raises(ConfigError, match="has no value for gpu, mini"):
        settle({"rate": {"laptop": 1}}, "gpu", "mini")


def test_an_unknown_tag_is_refused_with_the_nearest_known_one():
    with pytest.raises(UnknownNameError, match="Did you mean 'tiered'"):
        settle({"rate": {"laptop": 1, "paper/tierd": 2}}, "laptop", "mini")


def test_numbers_of_cells_are_one_entry_of_the_known_tags():
    known = {"laptop", "paper", *(f"{count}cells" for count in range(1, 100))}
    with pytest.raises(UnknownNameError) as told:
        resolve(Knobs, {"rate": {"laptop": 1, "lptp": 2}}, ("laptop",), known, "train")
    assert str(told.value).count("cells") == 2 and "99cells" not in str(told.value)


def test_an_unknown_key_is_refused_with_the_nearest_known_one():
    with pytest.raises(UnknownNameError, match=r"key in train: 'step'\. Did you mean 'steps'"):
        settle({"step": 3}, "laptop", "mini")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"steps": "three"}, "train.steps is 'three'; a value of type int"),
        ({"steps": True}, "train.steps is True; a value of type int"),
        ({"steps": 0}, "train.steps is 0; it must be at least 1 and at most 10"),
        ({"shots": [1, 0]}, "train.shots is 0; it must be at least 1"),
        ({"shots": 5}, "a list is needed"),
        ({"shots": []}, "train.shots is an empty list"),
        ({"shots": [5, 1, 5]}, "train.shots holds 5 more than once"),
        ({"engine": "quick"}, "train.engine is 'quick'; allowed: fast, loop"),
        ({"on": "false"}, "train.on is 'false'; a value of type bool"),
        ({"limit": "no"}, "train.limit is 'no'"),
        ([1], "must be a section"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place_and_what_is_allowed(section, message):
    with pytest.raises(ConfigError, match=message):
        settle(section, "laptop", "mini")


def test_a_float_written_as_yaml_reads_it_is_understood():
    assert settle({"rate": "1e-3"}, "laptop", "mini")["rate"] == 1e-3


def test_what_is_resolved_builds_the_same_dataclass():
    assert build(Knobs, settle({}, "paper", "mini")) == Knobs(rate=0.3)


@dataclass(frozen=True)
class Careless:
    depth: int
    height: int = 4
    width: int = knob(3, "how wide")


@pytest.mark.parametrize(
    "read", [lambda: resolve(Careless, {}, (), BUDGETS, "careless"), lambda: with_default(Careless, "height", 5)]
)
def test_a_field_that_is_no_knob_is_told_with_its_class_and_how_to_write_it(read):
    with pytest.raises(ConfigError, match=r"Careless that are no knobs: depth, height\. .*write `depth: TYPE = knob\("):
        read()
