"""What the page says of a method's learning beforehand."""

import copy

import pytest

from pipeline.core.artifacts import read_json, write_json
from pipeline.core.errors import ArtifactError
from pipeline.report import parts
from pipeline.report.schema import check_result
from pipeline.stages import report
from tests.made_results import CONTROL, FOUND, compared, run_stage, stability, write_inputs


def estimate(mean, n=8):
    return {"mean": mean, "ci95": 0.25, "n": n}


LEARNED = {
    "source": "tiny",
    "source_title": "Tiny",
    "oracle": {"name": "train", "unit": "per cent", "meaning": "made up"},
    "features_network": {"label": "ResNet-18", "substitute": True},
    "triples": {"base": 320},
    "held_out": {
        "predictor": {
            "within_tasks": {"spearman": estimate(0.5)},
            "new_architectures": {"within_tasks": {"spearman": estimate(0.375, 3)}},
            "first_choice": estimate(0.25),
            "beats_random": {"ranking": True, "first_choice": False},
        },
        "generator": {
            "drawn": None,
            "generated_vs_uniform": {"difference": estimate(0.07), "beats_uniform": False},
        },
    },
    "candidates": [],
    "digests": {},
    "warnings": ["Be careful."],
}
COST = {"features": {"wall_seconds": 9.0, "device_seconds": 8.0}, "amortised": {
    "feature_network": {"wall_seconds": 100.0, "device_seconds": 200.0}}}  # fmt: skip


def lines_of(block) -> dict:
    told = parts.learned({"learned": block, "search_cost": COST})
    return {name: (text, good) for name, text, good in told["lines"]}


def test_held_out_figures_stand_with_their_verdicts_and_those_of_new_cells_beside():
    lines = lines_of(LEARNED)
    assert lines["predictor on held-out tasks"] == ("Spearman's 0.50 ± 0.25 inside 8 tasks (random ranking: 0)", True)
    assert lines["the same, cells not trained on"] == ("Spearman's 0.38 ± 0.25 inside 3 tasks", None)
    assert lines["generator on held-out tasks"] == ("+0.07 ± 0.25 (per cent) against uniform cells", False)


def test_figures_without_a_verdict_say_that_nothing_was_tested():
    block = copy.deepcopy(LEARNED)
    block["held_out"]["predictor"]["beats_random"]["ranking"] = None
    block["held_out"]["generator"]["generated_vs_uniform"]["beats_uniform"] = None
    lines = lines_of(block)
    for network in ("predictor", "generator"):
        text, good = lines[f"{network} on held-out tasks"]
        assert text.endswith("no test, since all tasks have the same numbers") and good is None


def test_a_database_without_held_out_tasks_has_no_figures_of_them():
    nothing = {"within_tasks": None, "new_architectures": None, "beats_random": None}
    block = {**LEARNED, "held_out": {"predictor": nothing, "generator": {"generated_vs_uniform": None}}}
    assert set(lines_of(block)) == {"learned from", "features by", *SPENT}


SPENT = ("features of the data set", "once for all searches")


def test_features_and_all_work_before_the_search_are_counted():
    lines = lines_of(LEARNED)
    assert [lines[name][0] for name in SPENT] == [parts.duration(8.0), f"feature network {parts.duration(200.0)}"]


@pytest.fixture
def stood_beside(tmp_path, monkeypatch):
    """The result of a method that learned beforehand and the page about it."""
    monkeypatch.chdir(tmp_path)
    write_inputs(tmp_path, "random", CONTROL)
    write_inputs(tmp_path, "metad2a", FOUND)
    genotype, cost = (tmp_path / f"search/metad2a_doublemnist/{name}.json" for name in ("genotype", "cost"))
    repeats = {**stability(), "verdict": {}, "warning": None, "meaning": "Drawn again under one predictor."}
    write_json(genotype, read_json(genotype) | {"learned": {**LEARNED, "best_of": 3}, "stability": repeats})
    write_json(cost, read_json(cost) | COST)
    result = compared("metad2a")
    run_stage(report, ["--rows", "results/rows", "--out", "page.html", "--leaderboard", "board.csv"])
    return result, (tmp_path / "page.html").read_text()


def test_a_result_of_trained_networks_keeps_no_number_of_a_look_up(stood_beside):
    assert stood_beside[0]["learned"] == LEARNED


def test_the_page_shows_what_was_learned_and_the_agreement_of_predictions_without_a_verdict(stood_beside):
    result, page = stood_beside
    assert result["search_cost"]["features"] == COST["features"] and "features of the data set" in page
    assert "Be careful." in page and "cells not trained on" in page
    assert "Drawn again under one predictor." in page and "τ = 0.62 (0.31 to 0.93)" in page
    assert not any(f">{words}</dd>" in page for words in parts.VERDICTS.values())


@pytest.mark.parametrize("network, figure", [("predictor", "new_architectures"), ("generator", "drawn")])
def test_a_result_from_before_a_figure_was_measured_is_refused_by_its_place(stood_beside, network, figure):
    result, _ = stood_beside
    del result["learned"]["held_out"][network][figure]
    with pytest.raises(ArtifactError, match=f"(?s)held_out.*{figure}"):
        check_result(result, "results/mine.json")
