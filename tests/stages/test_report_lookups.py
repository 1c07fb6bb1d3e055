"""The page of looked-up results: what stands in one table, what is verified, and that the page stands by itself."""

import json
import pathlib
import re
import xml.etree.ElementTree as ElementTree

import pandas
import pytest

from pipeline.core.artifacts import digest
from pipeline.core.errors import ArtifactError
from pipeline.stages import report_lookups
from tests.made_lookups import looked_up, write_lookup
from tests.made_results import run_stage
from tests.stages.test_report import Links


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def reported(*rows: str) -> tuple[str, pandas.DataFrame]:
    """Run the stage in the present folder; the page and the table."""
    out = ("--out", "results/lookups.html", "--table", "results/lookups.csv")
    run_stage(report_lookups, ["--space", "nas_bench_201", "--rows", *(rows or ("results/looked_up",)), *out])
    return pathlib.Path("results/lookups.html").read_text(), pandas.read_csv("results/lookups.csv")


def provenance(**changes) -> dict:
    return {**looked_up()["provenance"], **changes}


def other_table() -> dict:
    return {**looked_up()["provenance"]["table"], "sha256": digest("another table")}


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"budget": "gpu"}, "budget"),
        ({"provenance": provenance(data_digest=digest("another copy"))}, "images (another copy of the data)"),
        ({"provenance": provenance(table=other_table())}, "table of accuracies"),
        ({"protocol": {**looked_up()["protocol"], "part": "valid"}}, "kind of accuracy"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_results_that_differ_in_anything_but_the_method_never_share_a_table(folder, changes, words):
    write_lookup(folder, looked_up("tenas"))
    write_lookup(folder, looked_up("tegnas_evo"))
    write_lookup(folder, looked_up("tegnas_rl", **changes))
    page, table = reported()
    leagues = table.set_index("method")["league"]
    assert leagues["tenas"] == leagues["tegnas_evo"] != leagues["tegnas_rl"]
    assert page.count('<table class="board">') == 2
    assert f"2 separate tables: results that differ in {words} are never" in page


def test_methods_of_one_table_stand_in_the_order_of_their_accuracies(folder):
    write_lookup(folder, looked_up("low", found={0: 0.90}))
    write_lookup(folder, looked_up("high", found={0: 0.94}))
    page, table = reported()
    assert table["method"].tolist() == ["high", "low"]
    (board,) = re.findall(r'<table class="board">.*?</table>', page, re.DOTALL)
    assert board.index(">high<") < board.index(">low<") < board.index(">mean of the space<") < board.index(">optimum<")


def test_the_page_shows_the_numbers_of_the_result(folder):
    write_lookup(folder, looked_up())
    page, _ = reported()
    wanted = [
        "93.50",
        "93.90 · 93.50 · 93.10",
        "Rank of 15,625",
        "0.87",
        "92.80",
        "+0.70",
        "3 / 0 / 0",
        "87.06",
        "12.24",
    ]
    wanted += ["94.37", "1.2 min", "1.2 k networks", "66 architectures each", "1.07 M", "imagenet16 42.38"]
    wanted += ["agrees between repeats no better than chance", "not the benchmark&#39;s own file", "official data"]
    assert [text for text in wanted if text not in page] == []


def test_the_difference_counts_seed_by_seed(folder):
    write_lookup(folder, looked_up(found={0: 0.93, 1: 0.93, 2: 0.91}, control={0: 0.92, 1: 0.93, 2: 0.92}))
    page, _ = reported()
    assert "<td>0.00<small>1 / 1 / 1" in page


def test_a_method_without_a_control_and_without_curves_is_shown_with_dashes(folder):
    write_lookup(folder, looked_up("tenas", control=None, anytime=[], search_stability=None))
    page, table = reported()
    assert table["control_accuracy"].isna().all()
    assert "Chosen so far:" not in page and "Random: accuracy" not in page


def test_both_curves_are_drawn_with_the_single_seeds_behind_them(folder):
    write_lookup(folder, looked_up())
    page, _ = reported()
    figure = next(part for part in page.split("<svg") if 'aria-label="Chosen so far: accuracy, %"' in part)
    assert figure.count('class="s0 thin"') == figure.count('class="s7 thin"') == 3
    assert figure.count('class="s0"') == figure.count('class="s7"') == 1


def test_a_control_that_stands_alone_in_the_curves_is_named(folder):
    only = [curve for curve in looked_up()["anytime"] if curve["of"] == "control"]
    write_lookup(folder, looked_up("tenas", anytime=only))
    assert "Chosen so far by random search: accuracy, %" in reported()[0]


def test_the_page_names_command_commit_hardware_and_all_hashes(folder):
    made = write_lookup(folder, looked_up())["provenance"]
    page, _ = reported()
    wanted = [made["command"], made["commit"], "A processor, 2 threads", made["data_digest"], made["table"]["sha256"]]
    wanted += [*made["files"], *made["files"].values(), *made["params_digest"].values()]
    assert [text for text in wanted if text not in page] == []


def test_published_figures_stand_apart_and_unchecked_ones_give_no_number(folder):
    write_lookup(folder, looked_up("tenas"))
    page, table = reported()
    board, published = page.split('<section class="published">')
    assert "93.9 ± 0.47" in published and "91.78" in published and "never ranked" in published
    assert "0.47" not in board and table["method"].tolist() == ["tenas"]


def test_the_page_needs_no_network_and_every_inner_link_has_its_target(folder):
    write_lookup(folder, looked_up())
    write_lookup(folder, looked_up("tenas", "cifar100", {0: 0.71}, control=None))
    page, _ = reported()
    links = Links()
    links.feed(page)
    assert not {"script", "link", "iframe", "object", "img"} & links.tags
    outer = {link for link in links.found if not link.startswith("#")}
    assert outer == {"tegnas_evo_cifar10.json", "tenas_cifar100.json"}
    assert "url(" not in page and set(re.findall(r"https?://[^\"'\s<]+", page)) == {"http://www.w3.org/2000/svg"}
    root = ElementTree.fromstring(page.replace("<!DOCTYPE html>", ""))
    identifiers = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(identifiers) == len(set(identifiers))
    assert {link[1:] for link in links.found if link.startswith("#")} <= set(identifiers)


def test_markup_in_a_data_sets_title_stays_text(folder):
    write_lookup(folder, looked_up(dataset_title="<script>alert(1)</script>"))
    page, _ = reported()
    assert "<script" not in page and "&lt;script&gt;" in page


def test_a_result_that_was_changed_afterwards_is_refused(folder):
    write_lookup(folder, looked_up())
    path = pathlib.Path("results/tegnas_evo_cifar10.json")
    result = json.loads(path.read_text())
    result["accuracy"]["mean"] = 0.99
    path.write_text(json.dumps(result))
    with pytest.raises(ArtifactError, match=r"tegnas_evo_cifar10\.json is not the file.*--forcerun look_up -- "):
        reported()


@pytest.mark.parametrize("role", ["genotype", "trace", "drawing"])
def test_a_file_shown_with_a_result_must_be_the_recorded_one(folder, role):
    result = write_lookup(folder, looked_up())
    path = pathlib.Path(result["artifacts"][role])
    path.write_text(path.read_text() + "\n")
    with pytest.raises(ArtifactError, match=f"the {role} of results/tegnas_evo_cifar10.json"):
        reported()
    path.unlink()
    with pytest.raises(ArtifactError, match="is missing"):
        reported()


def test_the_row_of_a_trained_result_is_refused(folder):
    pathlib.Path("results/looked_up").mkdir(parents=True)
    pathlib.Path("results/looked_up/a.csv").write_text("method,dataset,budget\nmetantk,doublemnist,laptop\n")
    with pytest.raises(ArtifactError, match=r"a\.csv is not the row of a looked-up result"):
        reported()


def test_no_rows_at_all_is_an_error_that_says_what_to_run(folder):
    pathlib.Path("results/looked_up").mkdir(parents=True)
    with pytest.raises(ArtifactError, match="Make a looked-up result first.*results/tenas_cifar10.json"):
        reported()


def test_equal_results_give_equal_pages(folder):
    write_lookup(folder, looked_up())
    assert reported()[0] == reported()[0]


def test_the_stage_needs_no_torch():
    import subprocess
    import sys

    code = "import sys, pipeline.stages.report_lookups; sys.exit('torch' in sys.modules)"
    root = pathlib.Path(__file__).parent.parent.parent
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0


def test_results_of_another_space_are_on_its_own_page(folder):
    write_lookup(folder, looked_up("tenas"))
    write_lookup(folder, looked_up("tegnas_rl", space="darts"))
    page, table = reported()
    assert table["method"].tolist() == ["tenas"]
    assert "tegnas_rl" not in page
