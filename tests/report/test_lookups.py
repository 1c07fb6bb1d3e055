"""Looked-up results: their shape, their rows, and what the page says of them."""

import pandas
import pytest

from pipeline.core.errors import ArtifactError
from pipeline.report.lookups import PUBLISHED, lookup_row, lookup_table, mean_curve, published, stacked_lookups
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
        stacked_lookups([("x.csv", frame)], "nas_bench_201")


def test_rows_of_one_league_stand_together_the_best_first():
    made = [looked_up("a", found={0: 0.90}), looked_up("b", found={0: 0.93}), looked_up("c", "cifar100", {0: 0.70}),
            looked_up("d", found={0: 0.94}, budget="gpu")]  # fmt: skip
    table = lookup_table(
        stacked_lookups(
            ((f"{i}.csv", lookup_row(r, f"{i}.json", "0" * 64)) for i, r in enumerate(made)), "nas_bench_201"
        )
    )
    leagues = table.groupby("league")["method"].agg(list).tolist()
    assert sorted(leagues) == [["b", "a"], ["c"], ["d"]]


def test_the_mean_of_steps_holds_each_value_until_the_next_point():
    # hand-worked: at 3 the first still has 0.4, the second 0.8
    found = mean_curve([[[1, 0.2], [2, 0.4], [4, 0.6]], [[1, 0.0], [3, 0.8], [5, 1.0]]])
    assert [x for x, _ in found] == [1, 2, 3, 4]
    assert [y for _, y in found] == pytest.approx([0.1, 0.2, 0.6, 0.7])


def test_one_curve_is_its_own_mean_and_none_have_none():
    assert mean_curve([[[1, 0.2], [7, 0.4]]]) == [(1, 0.2), (7, 0.4)] and mean_curve([]) == []


def test_every_published_accuracy_has_a_source_and_says_whether_it_was_checked():
    table = pandas.read_csv(PUBLISHED)
    assert table["source"].notna().all() and set(table["verified"]) == {"yes", "no"}
    assert table["accuracy"].between(20, 100).all()
    # nothing lies above the optimum
    best = table[table["method"] == "optimum"].set_index("dataset")["accuracy"]
    assert (table["accuracy"] <= table["dataset"].map(best)).all()


def test_published_accuracies_are_found_by_space_and_data_set_and_unchecked_ones_only_named():
    rows, unchecked = published("nas_bench_201", "imagenet16")
    assert (rows[0]["method"], rows[0]["accuracy"], rows[0]["sd"]) == ("TE-NAS", "42.38", "0.46")
    assert unchecked == ["TE-NAS (third-party table, contradicted by other sources)"]
    assert published("darts", "cifar10") == ([], [])
