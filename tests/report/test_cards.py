"""The proxies' report card: its shape, the published figures beside it, and what the page shows."""

import re
import xml.etree.ElementTree as ElementTree

import pandas
import pytest

from pipeline.core.errors import ArtifactError
from pipeline.report import cards
from pipeline.report.schema import check_card
from tests.made_cards import TAUS, card
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


def body(page: str, start: str, end: str = "</table>") -> str:
    """The part of a page from `start` to the next `end`."""
    return page[page.index(start) :].split(end)[0]


def test_proxies_stand_in_the_order_of_their_tau_and_undefined_ones_last():
    names = re.findall(r'<th scope="row" class="left"><a href="[^"]*">([^<]*)<', cards.render_card(card()))
    wanted = sorted(TAUS, key=lambda name: -(TAUS[name] or -1))
    assert [name.replace(" + ", "+").replace(" ", "_") for name in names] == wanted
    assert names[-1] == "zico"


def test_the_page_shows_figures_with_intervals_published_values_and_differences():
    page = cards.render_card(card())
    (flops,) = re.findall(r"<tr class=\"control\">\s*<th[^>]*><a[^>]*>flops<.*?</tr>", page, re.DOTALL)
    wanted = ["0.550", "0.510 to 0.590", "0.715", "0.165", "0.720", "0.65", "0.710", "12.0 %", "213 ms", "0.623"]
    assert [text for text in [*wanted, "−0.073"] if text not in flops] == []
    assert "a random sample of 200 of 15,625 architectures" in page and "top 20 of 200" in page


def test_a_proxy_without_any_figure_has_dashes_and_no_scatter():
    page = cards.render_card(card())
    zico = body(page, ">zico</a>", "</tr>")
    assert zico.count("–") >= 6 and '<span class="warn">400</span>' in zico
    assert "<b>zico</b>: no finite score" in page and ">None<" not in page and ">nan" not in page


def test_every_scatter_has_a_dot_per_finite_score():
    made = card()
    page = cards.render_card(made)
    for name, scores in made["scatter"]["scores"].items():
        figure = body(page, f'id="scatter-{name.replace("+", "--")}"', "</figure>")
        assert figure.count("<circle") == sum(score is not None for score in scores)
    assert "3 without a finite score" in page


def test_a_whole_space_is_thinned_to_at_most_1500_dots_a_figure():
    page = cards.render_card(card(n=15625))
    for figure in re.findall(r"<figure id=.*?</figure>", page, re.DOTALL):
        assert figure.count("<circle") <= 1500
    assert "all 15,625 architectures" in page and "evenly thinned" in page


def test_three_architectures_are_enough():
    assert "top 1 of 3" in cards.render_card(card(n=3))


def test_a_proxy_without_scores_is_listed_without_a_link():
    made = card()
    del made["scatter"]["scores"]["naswot"]
    page = cards.render_card(made)
    assert "scatter-naswot" not in page and ">naswot<" in page


def test_a_card_without_a_single_defined_figure_is_a_page():
    made = card()
    for proxy in made["proxies"]:
        proxy["figures"] = {name: {"value": None, "low": None, "high": None} for name in proxy["figures"]}
        proxy.update(seconds_per_architecture=None, published=[], tau_between_seeds=None, variance_within=None)
    made["scatter"]["scores"] = {name: [None] * 200 for name in TAUS}
    check_card(made, "c.json")
    assert cards.render_card(made).count(">undefined<") == len(TAUS)


def test_unchecked_figures_are_left_out_by_name():
    page = cards.render_card(card())
    left_out = body(page, "Left out", "</p>")
    assert "ntk regression error" in left_out and "linear regions" in left_out
    # the contradicted tau of 0.47 is in no table
    assert "0.470" not in body(page, 'id="published"')


def test_an_unknown_space_has_nothing_published():
    page = cards.render_card(card(space="darts", proxies=[{**one, "published": []} for one in card()["proxies"]]))
    assert "Published elsewhere" not in page


def test_the_page_needs_no_network_and_every_inner_link_has_its_target():
    page = cards.render_card(card())
    assert set(re.findall(r"https?://[^\"'\s<]+", page)) == {"http://www.w3.org/2000/svg"} and "url(" not in page
    root = ElementTree.fromstring(page.replace("<!DOCTYPE html>", ""))
    identifiers = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(identifiers) == len(set(identifiers))
    links = [element.get("href") for element in root.iter("a")]
    assert {link[1:] for link in links} <= set(identifiers) and all(link.startswith("#") for link in links)


def test_the_page_names_sample_settings_table_commit_and_all_hashes():
    made = card()
    page, origin = cards.render_card(made), made["provenance"]
    wanted = [made["sample"]["digest"], "n_region_samples", origin["commit"], origin["command"]]
    wanted += [origin["data_digest"], origin["table"]["sha256"], *origin["files"].values()]
    assert [text for text in wanted if text not in page] == []


def test_markup_in_a_title_stays_text():
    page = cards.render_card(card(title="<script>alert(1)</script>"))
    assert "<script" not in page and "&lt;script&gt;" in page


def test_a_regret_that_rounding_pushed_below_zero_is_zero():
    made = card()
    made["proxies"][0]["figures"]["regret_of_best"] = {"value": 0.0, "low": -1.1e-16, "high": 0.001}
    check_card(made, "c.json")
    assert "0.00 to 0.10" in cards.render_card(made) and "-0.00" not in cards.render_card(made)


def test_settings_are_written_as_in_the_configuration():
    page = cards.render_card(card(settings={"proxies": ["flops", "snip"], "channels": None, "parity": False}))
    assert "proxies <code>flops, snip</code>" in page
    assert "channels <code>null</code>" in page and "parity <code>false</code>" in page
