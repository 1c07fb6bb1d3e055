"""Looked-up results: their shape, their rows, and what the page says of them."""

import pytest

from pipeline.core.errors import ArtifactError
from pipeline.report.lookups import lookup_row, lookup_table, stacked_lookups
from pipeline.report.schema import check_lookup
from tests.made_lookups import CONTROL, FOUND, looked_up, write_lookup
from tests.made_results import without


@pytest.fixture
def result(tmp_path, monkeypatch) -> dict:
    monkeypatch.chdir(tmp_path)
    return write_lookup(tmp_path, looked_up())


@pytest.fixture
def without_control(tmp_path, monkeypatch) -> dict:
    monkeypatch.chdir(tmp_path)
    return write_lookup(tmp_path, looked_up("tenas", control=None, anytime=[]))


def row_of(result: dict) -> dict:
    return lookup_row(result, f"results/{result['method']}.json", "0" * 64).iloc[0].to_dict()


def test_a_result_with_and_one_without_a_control_have_the_shape(result, without_control):
    check_lookup(result, "r.json")
    check_lookup(without_control, "r.json")


@pytest.mark.parametrize(
    "place",
    ["kind", "protocol.n_epochs", "accuracy.per_seed", "best.genotype", "control.n_architectures", "artifacts.drawing",
     "provenance.table.sha256", "provenance.official_data", "search_cost.wall_seconds"],
)  # fmt: skip
def test_a_missing_key_is_named(result, place):
    with pytest.raises(ArtifactError, match=place.split(".")[-1]):
        check_lookup(without(result, place), "r.json")


@pytest.mark.parametrize(
    "changes, where",
    [
        ({"kind": "few_shot"}, "kind"),
        ({"accuracy": {"mean": 93.9, "per_seed": [0.939]}}, "accuracy.mean"),
        ({"anytime": [{"seed": 0, "of": "nobody", "points": [[1, 0.5]]}]}, "anytime.0.of"),
        ({"anytime": [{"seed": 0, "of": "method", "points": [[1, 0.5, 3]]}]}, "anytime.0.points.0"),
        ({"rank": {"mean": 0.5, "per_seed": [1]}}, "rank.mean"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_its_place(result, changes, where):
    with pytest.raises(ArtifactError, match=f"does not have the shape of a looked-up result.*{where}"):
        check_lookup({**result, **changes}, "r.json")


def test_a_row_holds_the_results_numbers(result):
    row = row_of(result)
    assert row["accuracy"] == pytest.approx(sum(FOUND.values()) / 3)
    assert row["control_accuracy"] == pytest.approx(sum(CONTROL.values()) / 3)
    assert row["regret"] == pytest.approx(row["best_accuracy"] - row["accuracy"])
    assert (row["n_architectures"], row["n_control_architectures"], row["seeds"]) == (15625, 66, "0 1 2")
    assert (row["search_wall_seconds"], row["search_network_evaluations"]) == (75.0, 1200)
    assert row["control_network_evaluations"] == 1188
    assert not row["official_table"] and row["official_data"]


def test_a_row_without_a_control_leaves_its_columns_empty(without_control):
    row = row_of(without_control)
    assert all(row[name] is None for name in row if "control" in name)


def test_the_file_of_another_kind_is_no_row(result):
    frame = lookup_row(result, "a.json", "0" * 64).drop(columns=["table_sha256", "regret"])
    with pytest.raises(ArtifactError, match=r"x\.csv is not the row of a looked-up result: it lacks table_sha256, reg"):
        stacked_lookups([("x.csv", frame)])


def test_rows_of_one_league_stand_together_the_best_first():
    made = [looked_up("a", found={0: 0.90}), looked_up("b", found={0: 0.93}), looked_up("c", "cifar100", {0: 0.70}),
            looked_up("d", found={0: 0.94}, budget="gpu")]  # fmt: skip
    table = lookup_table(
        stacked_lookups((f"{i}.csv", lookup_row(r, f"{i}.json", "0" * 64)) for i, r in enumerate(made))
    )
    leagues = table.groupby("league")["method"].agg(list).tolist()
    assert sorted(leagues) == [["b", "a"], ["c"], ["d"]]
