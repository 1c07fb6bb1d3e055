"""Words and numbers of the page."""

import pandas
import pytest

from pipeline.core.errors import ArtifactError
from pipeline.report import anchors, page, parts
from pipeline.report.tables import stacked
from tests.made_results import stability


def test_counts_have_three_digits_and_a_unit():
    written = {96: "96", 23_200: "23.2 k", 1_760_800: "1.76 M", 1.5e9: "1.5 G", 0.5: "0.5", 2e12: "2 T"}
    assert {value: parts.count(value) for value in written} == written


def test_durations_take_the_unit_that_fits():
    written = {4.24: "4.2 s", 45: "45 s", 75: "1.2 min", 7200: "2.0 h", 172_800: "2.0 d"}
    assert {value: parts.duration(value) for value in written} == written


def test_what_rounds_to_zero_has_no_sign():
    assert [parts.percent(value) for value in (-1e-16, 0.0, 0.55, 1)] == ["0.00", "0.00", "55.00", "100.00"]
    written = {parts.signed_percent(-1e-9), parts.coefficient(-4e-4), parts.signed_coefficient(-4e-4)}
    assert written == {"0.00", "0.000"} and parts.signed(-0.04) == "0.0"


def test_signs_are_real_minus_signs():
    assert parts.signed(-4.56) == "−4.6" and parts.signed_percent(0.0123) == "+1.23"


@pytest.mark.parametrize(
    "mean, half, word", [(0.02, 0.01, "better"), (-0.02, 0.01, "worse"), (0.01, 0.02, "same"), (0.5, None, "same")]
)
def test_a_difference_counts_only_where_its_interval_leaves_out_zero(mean, half, word):
    assert page.verdict({"mean": mean, "ci95": half}) == word


def test_the_stability_verdict_names_each_indicator_with_its_agreement():
    found = parts.stability(stability())
    words = {line["name"]: (line["good"], line["tau"]) for line in found["lines"]}
    assert words["metantk condition"] == (True, "τ = 0.62 (0.31 to 0.93)")
    assert words["linear regions"] == (False, "τ = −0.05 (−0.36 to 0.26)")
    assert "no better than chance" in found["warning"] and "metantk condition" in found["figure"]


def test_a_method_that_ranks_nothing_has_no_stability():
    assert parts.stability(None) is None


def test_agreement_within_a_single_round_is_no_line_to_draw():
    block = stability()
    assert parts.stability({**block, "rounds": block["rounds"][:1]})["figure"] is None


def test_stages_that_ran_on_different_commits_are_told_apart():
    assert parts.commits({"commit": "b", "commits": {"search": "a", "train": "b"}}) == "search a, train b"
    assert parts.commits({"commit": "b", "commits": {"search": "b", "train": "b"}}) == "b"


def test_a_single_thread_is_singular():
    told = [parts.hardware_line({"processor": "A", "threads": n}) for n in (1, 2)] + [
        parts.hardware_line({"processor": "A"})
    ]
    assert told == ["A, 1 thread", "A, 2 threads", "A, ? threads"]


def test_an_accelerator_is_named_first():
    seen = {"processor": "A processor", "threads": 16, "memory_gib": 128.0, "accelerator": "An accelerator"}
    assert parts.hardware_line(seen) == "An accelerator, A processor, 16 threads, 128.0 GiB"


def test_every_published_figure_has_a_source_and_says_whether_it_was_checked():
    table = pandas.read_csv(anchors.TABLE)
    assert table["source"].notna().all() and set(table["verified"]) == {"yes", "no"}
    assert not table.duplicated(["dataset", "method", "network"]).any()
    for column in ("accuracy_1shot", "accuracy_5shot"):
        assert table[column].dropna().between(20, 100).all()


def test_more_shots_never_score_lower_in_a_published_row():
    table = pandas.read_csv(anchors.TABLE).dropna(subset=["accuracy_1shot"])
    assert (table["accuracy_5shot"] > table["accuracy_1shot"]).all()


def test_a_data_set_without_published_figures_has_none():
    assert anchors.published("doublemnist") == ([], [])


def test_a_file_that_is_no_row_is_named():
    with pytest.raises(ArtifactError, match=r"x\.csv is not the row of a result: it lacks method"):
        stacked([("x.csv", pandas.DataFrame({"a": [1]}))])
