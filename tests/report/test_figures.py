"""Plots: values lie where they belong, empty tables give no plot."""

import xml.etree.ElementTree as ElementTree

import pandas
import pytest

from pipeline.report.figures import (
    Axis,
    accuracy_figure,
    curve_figures,
    indicators,
    interval_figure,
    line_figure,
    readable,
    scatter_figure,
    standing_figure,
    trace_figure,
)
from pipeline.report.svg import text_width
from tests.made_results import trace_rows

SVG = "{http://www.w3.org/2000/svg}"


def circles(text: str, class_: str) -> list[tuple[float, float]]:
    found = [element for element in ElementTree.fromstring(text).iter(f"{SVG}circle") if element.get("class") == class_]
    return [(float(element.get("cx")), float(element.get("cy"))) for element in found]


def test_an_axis_maps_its_ends_to_its_ends():
    axis = Axis(2, 4, 100, 300)
    assert (axis(2), axis(3), axis(4)) == (100, 200, 300)


def test_a_logarithmic_axis_gives_equal_ratios_equal_lengths():
    axis = Axis(1, 10_000, 0, 400, logarithmic=True)
    assert axis(100) == pytest.approx(200) and axis.ticks() == [1, 10, 100, 1000, 10_000]


@pytest.mark.parametrize("low, high", [(0, 1), (0.23, 0.61), (-3, 4), (100, 107), (1e-7, 3e-7)])
def test_ticks_are_few_round_numbers_inside(low, high):
    ticks = Axis(low, high, 0, 1).ticks()
    assert 2 <= len(ticks) <= 11 and all(low - 1e-12 <= tick <= high + 1e-12 for tick in ticks)


def test_an_axis_without_extent_has_one_tick():
    assert Axis(3, 3, 0, 10).ticks() == [3] and Axis(3, 3, 0, 10)(3) == 5


def test_tick_labels_are_short():
    assert [readable(value) for value in (0.5, 10_000, 2e7, 0, 3e-5, 50.0)] == [
        "0.5",
        "10000",
        "2e7",
        "0",
        "3e-5",
        "50",
    ]


ROWS = [
    {"name": "metantk", "mean": 0.6, "ci95": 0.01, "low": 0.57, "high": 0.62, "untrained": 0.3, "control": False},
    {"name": "random", "mean": 0.5, "ci95": None, "low": None, "high": None, "untrained": None, "control": True},
]


def test_a_better_accuracy_lies_further_right():
    text = accuracy_figure(ROWS, "1-shot")
    ((found, _),), ((control, _),) = circles(text, "f0"), circles(text, "f7")
    ((untrained, _),) = circles(text, "hollow")
    assert untrained < control < found


def test_both_intervals_are_drawn_where_they_are_known():
    root = ElementTree.fromstring(accuracy_figure(ROWS, "1-shot"))
    widths = [element.get("stroke-width") for element in root.iter(f"{SVG}line") if element.get("class") == "s0"]
    assert sorted(widths) == ["1.5", "1.5", "1.5", "5"]


def test_only_measured_columns_count_as_indicators():
    assert indicators(pandas.DataFrame(trace_rows(True))) == ["metantk_condition", "linear_regions"]


def test_a_trace_shows_each_candidate_once_per_indicator_and_marks_what_was_cut():
    text = trace_figure(pandas.DataFrame(trace_rows(True)), "trace")
    # two rounds of four candidates and two indicators; half are cut; one dot of each kind stands in the legend
    assert len(circles(text, "f1")) == 2 * 2 * 2 + 1 and len(circles(text, "faint")) == 2 * 2 * 2 + 1


def test_values_that_are_not_finite_leave_a_gap_and_no_broken_figure():
    table = pandas.DataFrame(trace_rows(True))
    table.loc[0, "metantk_condition"] = float("inf")
    text = trace_figure(table, "trace")
    assert len(circles(text, "f1")) == 2 * 2 * 2 and "inf" not in text and "nan" not in text


def test_a_search_that_measures_nothing_has_no_trace_figure():
    assert trace_figure(pandas.DataFrame(trace_rows(False)), "trace") is None
    assert trace_figure(pandas.DataFrame(trace_rows(True)).iloc[:0], "trace") is None


def test_a_training_curve_gives_a_figure_per_measured_quantity():
    curve = pandas.DataFrame(
        [{"seed": s, "epoch": e, "learning_rate": 0.1, "loss": 1 / e, "train_accuracy": 0.1 * e, "seconds": 1.0}
         for s in (0, 1) for e in (1, 2, 3)]
    )  # fmt: skip
    titles = [ElementTree.fromstring(text).get("aria-label") for text in curve_figures(curve)]
    assert titles == ["loss", "train accuracy"]
    assert curve_figures(curve.iloc[:0]) == []


def test_lines_without_a_finite_point_give_no_figure():
    assert line_figure({"a": [(0, float("nan"))], "b": []}, "nothing", "round") is None


def test_names_of_many_lines_take_several_rows_inside_the_figure():
    series = {f"1-shot, seed 0, no. {number}": [(1, number), (2, 1 + number)] for number in range(6)}
    figure = ElementTree.fromstring(line_figure(series, "loss", "iteration"))
    width = float(figure.get("viewBox").split()[2])
    names = [text for text in figure.iter() if (text.text or "") in series]
    assert len(names) == 6 and len({text.get("y") for text in names}) > 1
    assert all(float(text.get("x")) + text_width(text.text, 11) <= width for text in names)


def test_thin_lines_lie_behind_the_one_they_belong_to():
    seeds = [[(1, 0.1), (2, 0.3)], [(1, 0.3), (2, 0.5)]]
    text = line_figure({"a": [(1, 0.2), (2, 0.4)], "b": []}, "t", "n", thin={"a": seeds, "b": seeds}, hues={"a": 5})
    classes = [line.get("class") for line in ElementTree.fromstring(text).iter(f"{SVG}polyline")]
    assert classes == ["s5 thin", "s5 thin", "s5"]


def test_a_methods_dot_lies_among_its_seeds_and_left_of_the_optimum():
    rows = [{"name": "a", "mean": 0.9, "per_seed": [0.88, 0.92], "control": False}]
    text = standing_figure(rows, {"optimum": 0.95}, "found")
    ((mean, _),), seeds = circles(text, "f0"), circles(text, "ring s0")
    assert seeds[0][0] < mean < seeds[1][0] and seeds[0][0] + seeds[1][0] == pytest.approx(2 * mean, abs=0.02)
    lines = [line for line in ElementTree.fromstring(text).iter(f"{SVG}line") if line.get("class") == "axis"]
    assert float(lines[0].get("x1")) > seeds[1][0]


def test_an_interval_figure_marks_zero_published_values_and_what_is_undefined():
    rows = [
        {"name": "a", "value": 0.5, "low": 0.4, "high": 0.6, "hue": 0, "published": [(0.7, "a paper")]},
        {"name": "b", "value": None, "low": None, "high": None, "hue": 1, "published": []},
        {"name": "c", "value": -0.2, "low": None, "high": None, "hue": 1, "published": []},
    ]
    root = ElementTree.fromstring(interval_figure(rows, "tau", {"single": 0}))
    assert "undefined" in [element.text for element in root.iter(f"{SVG}text")]
    (zero,) = [line for line in root.iter(f"{SVG}line") if line.get("class") == "axis"]
    dots = [dot for dot in root.iter(f"{SVG}circle") if dot.get("r") == "4.8"]
    places = {dot.get("class"): float(dot.get("cx")) for dot in dots}
    assert places["f1"] < float(zero.get("x1")) < places["f0"]
    tips = [title.text for path in root.iter(f"{SVG}path") for title in path.iter(f"{SVG}title")]
    assert tips == ["0.7, a paper"]


def test_scores_that_span_decades_have_a_logarithmic_axis_with_zeros_at_its_edge():
    text = scatter_figure([1.0, 100.0, 10_000.0, 0.0, None, float("inf")], [0.1] * 6, "scores", 0)
    dots, rings = circles(text, "f0 dot"), circles(text, "ring s0")
    (a, _), (b, _), (c, _) = dots
    assert b - a == pytest.approx(c - b, abs=0.02) and len(rings) == 1 and rings[0][0] < a
    assert "score, logarithmic" in text and "inf" not in text


def test_scores_below_zero_have_a_linear_axis():
    text = scatter_figure([-1.0, 0.0, 1.0], [0.1, 0.2, 0.3], "scores", 0)
    (a, _), (b, _), (c, _) = circles(text, "f0 dot")
    assert b - a == pytest.approx(c - b, abs=0.02) and "logarithmic" not in text
    assert scatter_figure([None, None], [0.1, 0.2], "scores", 0) is None
