"""The report: what is ranked together, what is verified, and that the page stands by itself."""

import html.parser
import json
import pathlib
import re
import xml.etree.ElementTree as ElementTree

import numpy
import pandas
import pytest

from pipeline.core.artifacts import digest
from pipeline.core.errors import ArtifactError
from pipeline.report import anchors
from pipeline.report.parts import n_untrained
from pipeline.stages import report
from tests.made_results import CONTROL, FOUND, compared, example, run_stage, write_inputs

OUT = ("--out", "results/report.html", "--leaderboard", "results/leaderboard.csv")
EPISODES = numpy.random.default_rng(0).normal(0, 0.1, 60)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def reported(*rows: str) -> tuple[str, pandas.DataFrame]:
    """Run the stage in the present folder; the page and the leaderboard."""
    run_stage(report, ["--rows", *(rows or ("results/rows",)), *OUT])
    return pathlib.Path("results/report.html").read_text(), pandas.read_csv("results/leaderboard.csv")


def accuracies(mean: float, noise: float, stream: int) -> dict:
    """60 episodes of one architecture; the episodes' difficulty is common to all methods."""
    own = numpy.random.default_rng(stream).normal(0, noise, 60)
    return {k: {0: (mean + (k > 1) * 0.1 + EPISODES + own).clip(0, 1).tolist()} for k in (1, 5)}


def make(folder, method: str, values: dict, **changes) -> None:
    write_inputs(folder, method, values, changes=changes)
    compared(method)


def test_methods_that_the_episodes_cannot_tell_apart_share_a_rank(folder):
    make(folder, "random", accuracies(0.50, 0.05, 1))
    make(folder, "metantk", accuracies(0.60, 0.05, 2))
    make(folder, "ntk", accuracies(0.597, 0.05, 3))
    make(folder, "conv4", accuracies(0.40, 0.05, 4))
    board = reported()[1].set_index("method")
    assert board["rank_1shot"].to_dict() == {"metantk": 1, "ntk": 1, "random": 3, "conv4": 4}
    assert board["league"].nunique() == 1


@pytest.mark.parametrize(
    "change",
    [
        {"budget": "gpu"},
        {"protocol.n_query": 10},
        {"provenance.recipe_digest": digest("longer training")},
        {"provenance.data_digest": digest("another copy")},
        {"provenance.episodes_digest": digest("other episodes")},
    ],
    ids=lambda change: next(iter(change)),
)
def test_results_that_differ_in_anything_but_the_method_are_never_ranked_together(folder, change):
    make(folder, "random", accuracies(0.50, 0.05, 1))
    make(folder, "metantk", accuracies(0.60, 0.05, 2))
    write_inputs(folder, "random", accuracies(0.50, 0.05, 1), changes=change)
    make(folder, "ntk", accuracies(0.40, 0.05, 3), **change)
    page, board = reported()
    assert board.set_index("method")["rank_1shot"].to_dict() == {"metantk": 1, "random": 2, "ntk": 1}
    leagues = board.set_index("method")["league"]
    assert leagues["metantk"] == leagues["random"] != leagues["ntk"]
    assert "2 separate rankings" in page


def test_budgets_are_printed_with_every_result_and_ranking(folder):
    make(folder, "random", CONTROL)
    page, _ = reported()
    assert page.count('<span class="budget">laptop</span>') == 2


def test_the_control_stands_in_the_table_even_without_a_result_of_its_own(folder):
    example(folder)
    page, board = reported()
    assert board["method"].tolist() == ["metantk"]
    (row,) = re.findall(r'<tr class="control.*?</tr>', page, re.DOTALL)
    assert "control: 2 architectures" in row and "50.00" in row and "70.00" in row


def test_a_row_names_its_control_and_says_whether_that_is_of_the_same_space(folder):
    example(folder)
    make(folder, "conv4", FOUND, space="conv4")
    write_inputs(folder, "random201", CONTROL, changes={"space": "nas_bench_201"})
    write_inputs(folder, "metad2a", FOUND, changes={"space": "nas_bench_201"})
    files = {"control": "results/measured/random201_doublemnist.json",
             "control-accuracies": "results/episodes/random201_doublemnist.csv"}  # fmt: skip
    assert compared("metad2a", **files)["control"]["space"] == "nas_bench_201"
    page, board = reported()
    wanted = (
        "1 architecture of darts_fewshot; beside random, of the same space",
        "1 architecture of conv4; beside random, of another space: darts_fewshot",
        "1 architecture of nas_bench_201; beside random201, of the same space",
        "control: 2 architectures of darts_fewshot",
        "control: 2 architectures of nas_bench_201",
    )
    assert [page.count(words) for words in wanted] == [1] * len(wanted)
    row = board.set_index("method").loc["conv4"]
    assert (row["space"], row["control_space"]) == ("conv4", "darts_fewshot")


def test_the_page_shows_the_numbers_of_the_result(folder):
    example(folder)
    page, _ = reported()
    wanted = ["55.00", "+10.0 %", "+5.00", "2 / 2 / 0", "prototypes 49.50", "untrained 30.00", "1.76 M", "96.5 M FLOPs"]
    wanted += ["504 networks", "1.2 min", "5.2 min", "agrees between repeats no better than chance", "official data"]
    assert [text for text in wanted if text not in page] == []


def test_untrained_networks_are_shown_with_the_number_of_their_episodes(folder):
    example(folder)
    assert reported()[0].count("± 2.00</span>, 2 episodes<") == 2


def test_a_single_query_episode_and_result_are_singular_on_the_page(folder):
    one = {1: {0: [0.5, 0.5]}}
    write_inputs(folder, "random", one, changes={"protocol.n_query": 1, "protocol.n_episodes": 1})
    compared("random")
    page, _ = reported()
    assert "1 result on 1 data set." in page and "1 query per class · 1 episode ·" in page


def test_a_result_that_tells_no_episodes_of_each_shot_tells_those_of_its_protocol():
    told = {"protocol": {"n_untrained_episodes": 300}, "untrained": {"1": {"mean": 0.3}, "5": {"n_episodes": 200}}}
    assert [n_untrained(told, shot) for shot in ("1", "5")] == [300, 200]


def test_the_page_names_command_commit_hardware_and_all_hashes(folder):
    result = example(folder)
    page, _ = reported()
    provenance = result["provenance"]
    wanted = [provenance["command"], provenance["commit"], "A processor, 2 threads"]
    wanted += [*provenance["files"], *provenance["files"].values(), *provenance["params_digest"].values()]
    wanted += [provenance[name] for name in ("data_digest", "episodes_digest", "recipe_digest")]
    assert [text for text in wanted if text not in page] == []


def test_a_mirrors_variant_of_the_data_is_labelled(folder):
    changes = {"provenance.official_data": False}
    write_inputs(folder, "random", CONTROL, changes=changes)
    make(folder, "metantk", FOUND, **changes)
    page, _ = reported()
    assert "a mirror's variant of the data" in page.replace("&#39;", "'") and ">official data<" not in page


class Links(html.parser.HTMLParser):
    """Collects what a browser would load or could be led to."""

    def __init__(self):
        super().__init__()
        self.found, self.tags = [], set()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.found += [value for name, value in attributes if name in ("src", "href", "data", "action", "xlink:href")]


def test_the_page_needs_no_network_and_no_script(folder):
    example(folder)
    page, _ = reported()
    links = Links()
    links.feed(page)
    assert not {"script", "link", "iframe", "object", "img"} & links.tags
    assert [link for link in links.found if not link.startswith("#") and link != "metantk_doublemnist.json"] == []
    assert "url(" not in page and "@import" not in page
    assert set(re.findall(r"https?://[^\"'\s<]+", page)) == {"http://www.w3.org/2000/svg"}


def test_the_page_is_well_formed_and_every_inner_link_has_its_target(folder):
    example(folder)
    page, _ = reported()
    root = ElementTree.fromstring(page.replace("<!DOCTYPE html>", ""))
    identifiers = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(identifiers) == len(set(identifiers))
    links = [element.get("href") for element in root.iter("a")]
    assert {link[1:] for link in links if link.startswith("#")} <= set(identifiers)


def test_published_figures_stand_apart_and_unchecked_ones_give_no_number(folder):
    for method, values in (("random", CONTROL), ("metantk", FOUND)):
        write_inputs(folder, method, values, dataset="miniimagenet")
    compared("metantk", "miniimagenet")
    page, board = reported()
    board_part, published = page.split('<section class="published">')
    assert "52.84 ± 1.41" in published and "never ranked" in published and "52.84" not in board_part
    unchecked = pandas.read_csv(anchors.TABLE).query("verified == 'no'")
    assert "MetaNTK-NAS" in published.split("Left out")[1]
    for row in unchecked.to_dict("records"):
        assert f"{row['accuracy_5shot']}" not in published
    assert board["method"].tolist() == ["metantk"]


def test_the_command_that_makes_a_result_again_names_the_budget_once(folder):
    command = example(folder)["provenance"]["command"]
    page, _ = reported()
    (told,) = re.findall(r"<dt>Make them again</dt><dd>(.*?)</dd>", page)
    assert "--config budget=" in command and told == f"<code>{command}</code>"


def test_a_result_that_was_changed_afterwards_is_refused(folder):
    example(folder)
    path = pathlib.Path("results/metantk_doublemnist.json")
    result = json.loads(path.read_text())
    result["accuracy"]["1"]["mean"] = 0.99
    path.write_text(json.dumps(result))
    with pytest.raises(ArtifactError, match=r"metantk_doublemnist\.json is not the file that was recorded") as error:
        reported()
    assert "`snakemake --cores 4 --forcerun compare -- results/metantk_doublemnist.json`" in str(error.value)


@pytest.mark.parametrize("role", ["trace", "curve", "drawing", "accuracies"])
def test_a_file_shown_with_a_result_must_be_the_recorded_one(folder, role):
    result = example(folder)
    path = pathlib.Path(result["artifacts"][role])
    path.write_text(path.read_text() + "\n")
    with pytest.raises(ArtifactError, match=f"the {role} of results/metantk_doublemnist.json"):
        reported()
    path.unlink()
    with pytest.raises(ArtifactError, match="is missing"):
        reported()


def test_a_missing_result_is_named_with_the_way_out(folder):
    example(folder)
    pathlib.Path("results/metantk_doublemnist.json").unlink()
    with pytest.raises(ArtifactError, match=r"results/metantk_doublemnist\.json is missing.*snakemake"):
        reported()


def test_no_rows_at_all_is_an_error_that_says_what_to_run(folder):
    pathlib.Path("results/rows").mkdir(parents=True)
    with pytest.raises(ArtifactError, match="no result to report.*snakemake"):
        reported()


def test_row_files_may_be_named_one_by_one(folder):
    make(folder, "random", CONTROL)
    make(folder, "metantk", FOUND)
    board = reported("results/rows/metantk_doublemnist.csv")[1]
    assert board["method"].tolist() == ["metantk"]


def test_equal_results_give_equal_pages(folder):
    example(folder)
    assert reported()[0] == reported()[0]


def test_markup_in_a_data_sets_title_stays_text(folder):
    changes = {"dataset_title": "<script>alert(1)</script>"}
    write_inputs(folder, "random", CONTROL, changes=changes)
    make(folder, "metantk", FOUND, **changes)
    page, _ = reported()
    assert "<script" not in page and "&lt;script&gt;" in page


def test_the_p_value_is_that_of_scipys_paired_test():
    from scipy.stats import ttest_rel

    numbers = numpy.random.default_rng(3)
    a, b = (pandas.Series(numbers.normal(mean, 0.1, 40)) for mean in (0.5, 0.55))
    assert report.paired_p_value(a, b) == pytest.approx(ttest_rel(a, b).pvalue)
    assert report.paired_p_value(a, a) == 1.0
    assert report.paired_p_value(pandas.Series([0.5, 0.5]), pandas.Series([0.25, 0.25])) == 0.0
