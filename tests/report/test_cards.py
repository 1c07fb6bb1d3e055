"""The proxies' report card: its shape, the published figures beside it, and what the page shows."""

import pandas
import pytest

from pipeline.core.errors import ArtifactError
from pipeline.report import cards
from pipeline.report.schema import check_card
from tests.made_cards import card
from tests.made_results import without


def test_a_card_with_undefined_figures_has_the_shape():
    check_card(card(), "c.json")
    check_card(card(n=3), "c.json")


@pytest.mark.parametrize(
    "place", ["kind", "sample.digest", "target.n_epochs", "scatter.scores", "provenance.table.lacks", "top_fraction"]
)
def test_a_missing_key_is_named(place):
    with pytest.raises(ArtifactError, match=place.split(".")[-1]):
        check_card(without(card(), place), "c.json")


def test_a_correlation_beyond_one_is_refused_with_its_place():
    made = card()
    made["proxies"][2]["figures"]["spearman"]["value"] = 1.3
    with pytest.raises(ArtifactError, match=r"proxies\.2\.figures\.spearman\.value"):
        check_card(made, "c.json")


def test_infinite_scores_must_be_null():
    made = card()
    made["scatter"]["scores"]["flops"][0] = "inf"
    with pytest.raises(ArtifactError, match=r"scatter\.scores\.flops\.0"):
        check_card(made, "c.json")


def test_as_many_scores_as_architectures_are_needed():
    made = card()
    made["scatter"]["scores"]["flops"] = made["scatter"]["scores"]["flops"][:-1]
    with pytest.raises(ArtifactError, match="not 200 values of flops"):
        check_card(made, "c.json")


def test_scores_of_a_proxy_that_is_not_on_the_card_are_refused():
    made = card()
    made["scatter"]["scores"]["zen"] = made["scatter"]["scores"]["flops"]
    with pytest.raises(ArtifactError, match="scores of no proxy: zen"):
        check_card(made, "c.json")


def test_every_published_figure_has_a_source_and_says_whether_it_was_checked():
    table = pandas.read_csv(cards.TABLE, keep_default_na=False)
    assert (table["source"] != "").all() and set(table["verified"]) == {"yes", "no"}
    assert not table.duplicated(["space", "dataset", "proxy", "figure", "source", "note"]).any()
    assert table["value"].between(-1, 1).all()
    # what was checked is about a data set that is named
    assert (table.query("verified == 'yes'")["dataset"] != "").all()


def test_a_source_that_has_tau_and_spearman_has_the_larger_spearman():
    table = pandas.read_csv(cards.TABLE, keep_default_na=False).query("verified == 'yes'")
    wide = table.pivot_table(index=["dataset", "proxy", "source"], columns="figure", values="value").dropna()
    assert len(wide) == 30 and (wide["spearman"] > wide["kendall_tau_b"]).all()


def test_published_figures_are_found_by_the_proxys_name_and_unchecked_ones_never():
    found = cards.published_figures("nas_bench_201", "cifar10")
    values = {(entry["source"][:5], entry["figure"]): entry["value"] for entry in found["naswot"]}
    assert values == {("VKDNW", "kendall_tau_b"): 0.571, ("VKDNW", "spearman"): 0.762, ("NASLi", "spearman"): 0.787}
    assert "ntk_regression_error" not in found
    taus = [e["value"] for e in found["coupled_ntk_condition+linear_regions"] if e["figure"] == "kendall_tau_b"]
    assert taus == [0.536, 0.536]
    assert cards.published_figures("nas_bench_201", "doublemnist") == cards.published_figures("darts", "cifar10") == {}


def test_unchecked_figures_are_named_without_their_numbers():
    found = cards.unchecked_figures("nas_bench_201", "cifar100")
    assert {entry["proxy"] for entry in found} >= {"linear_regions", "ntk_regression_error"}
    assert all("value" not in entry for entry in found)


def test_the_difference_is_ours_less_the_published_one():
    (tau, *_) = cards.published_beside("nas_bench_201", "cifar10", "flops", {"kendall_tau_b": {"value": 0.6}})
    assert tau["figure"] == "kendall_tau_b" and tau["difference"] == pytest.approx(0.6 - 0.623)
    undefined = cards.published_beside("nas_bench_201", "cifar10", "flops", {"kendall_tau_b": {"value": None}})
    assert [entry["difference"] for entry in undefined] == [None] * len(undefined)
