"""Names and texts of others: nothing of them is run, by a shell or by a browser."""

import copy
import os
import pathlib
import re
import tarfile

import pandas
import pytest
import yaml

from pipeline import data, methods, spaces
from pipeline.core.errors import ArtifactError, ConfigError, DataError
from pipeline.data.archives import Tree
from pipeline.data.common_layouts import image_files
from pipeline.data.fetching import folder_files
from pipeline.report.cards import render_card
from pipeline.report.drawing import draw_architectures
from pipeline.report.lookups import lookup_table, render_lookups, stacked_lookups
from pipeline.report.page import render
from pipeline.report.parts import Entry, template
from pipeline.report.svg import Svg, is_drawing
from pipeline.report.tables import result_row, stacked
from pipeline.stages.driver import any_of
from pipeline.stages.report import entry
from pipeline.stages.settings import folders
from tests import made_results
from tests.made_cards import card
from tests.made_lookups import looked_up, lookup_row, trace_rows, write_lookup
from tests.made_results import graph

HOSTILE = "<script>alert(1)</script>\"'&<img src=x onerror=alert(1)>"
ROOT = pathlib.Path(__file__).parents[2]
SHELL_NAMES = ["a b", "$(touch x)", "`touch x`", "a;touch x", "a\nb", "a'b", 'a"b', "a|b", "../a", "-a", "a&b", "ä", ""]


@pytest.mark.parametrize("name", [*SHELL_NAMES, 1, True, None, float("inf"), (1, 2)], ids=repr)
def test_a_folder_whose_name_a_shell_could_read_otherwise_is_refused(name):
    with pytest.raises(ConfigError, match="small letters and digits"):
        folders({"data": {"folders": {name: {"path": "/pictures"}}}})


@pytest.mark.parametrize("name", SHELL_NAMES)
def test_a_rules_pattern_takes_names_as_they_are(name):
    pattern = re.compile(any_of(["omniglot", "a.b"]))
    assert not pattern.fullmatch(name) and not pattern.fullmatch("axb") and pattern.fullmatch("a.b")


@pytest.mark.parametrize("registry", [data, methods, spaces], ids=lambda module: module.__name__)
def test_registered_names_are_words_to_a_shell(registry):
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in registry.names())


def test_rules_hand_a_shell_nothing_but_names_of_the_workflow_and_its_own_paths():
    allowed = re.compile(
        r"wildcards\.(dataset|method|space)|(input|output)\.?[a-z_]*|log|params\.(table|against|needed)|"
        r"PREPARED_ARGUMENTS|META_ARGUMENTS"
    )
    n_rules = 0
    for path in sorted((ROOT / "workflow/rules").glob("*.smk")):
        for command in re.findall(r"^    shell:\n((?:        .*\n)+)", path.read_text() + "\n", re.MULTILINE):
            n_rules += 1
            placeholders = re.findall(r"\{+([^{}]+)\}+", command)
            assert placeholders and all(allowed.fullmatch(one) for one in placeholders), (path, placeholders)
    assert n_rules == sum(len(re.findall(r"^rule ", p.read_text(), re.M)) for p in ROOT.glob("workflow/rules/*.smk"))


def test_dvcs_commands_hold_nothing_but_names_that_the_freeze_stage_has_checked():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    for name, stage in stages.items():
        for command in [stage["cmd"]] if isinstance(stage["cmd"], str) else stage["cmd"]:
            assert set(re.findall(r"\$\{([^}]+)\}", command)) <= {
                f"item.{key}" for key in ("dataset", "method", "space", "source")
            } | {"item"}, name
            assert not re.search(r"[;&`<>]|\$\(", command), name
        if stage.get("matrix"):
            # no command runs before the stage that checks params.yaml, on whose files all others depend
            assert any("build/params/" in str(dep) for dep in stage["deps"]), name


def test_paths_of_users_never_reach_a_command():
    written = "".join(path.read_text() for path in [*ROOT.glob("workflow/**/*.smk"), ROOT / "dvc.yaml"])
    assert not re.search(r"mirror|folders|\bpath\b=", re.sub(r"#.*", "", written))
    for path in [*ROOT.glob("pipeline/**/*.py"), *ROOT.glob("scripts/*.py")]:
        assert not re.search(r"shell=True|os\.system\(|os\.popen\(|(?<!\.)\b(eval|exec)\(", path.read_text()), path


@pytest.mark.parametrize("name", ["a b", "$(touch x)", "`x`", "a'b", 'a"b', "a;b", "-rf", "<script>", "ä", "*"])
def test_class_folders_of_any_printable_name_are_read(name, tmp_path):
    (tmp_path / name).mkdir()
    (tmp_path / name / "1.png").write_bytes(b"x")
    assert [found for found, _ in folder_files(tmp_path)] == [f"{name}/1.png"]
    assert [found for found, _ in image_files(Tree.holding(tmp_path, "images", tmp_path).under("images"))]


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "\x1b[31mred", "a\u2028b", "a\x00b", "a\udce4b"], ids=ascii)
def test_names_that_a_terminal_or_a_table_would_obey_are_refused(name, tmp_path):
    with pytest.raises(DataError, match="control characters"):
        list(image_files(Tree({f"{name}/1.png": None}, "x.tar", tmp_path)))


def test_links_to_nothing_pipes_and_names_of_other_encodings_in_a_folder_are_refused(tmp_path):
    for name, make in {
        "gone.png": lambda path: path.symlink_to("nothing"),
        "loop.png": lambda path: path.symlink_to("loop.png"),
        "pipe.png": os.mkfifo,
        "\udce4.png": lambda path: path.write_bytes(b""),
    }.items():
        path = tmp_path / name
        make(path)
        with pytest.raises(DataError, match="no file|not UTF-8"):
            folder_files(tmp_path)
        path.unlink()


def leaves(value, path=()):
    """(path, text) of all texts inside nested values."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from [((*path, key), inner)] if isinstance(inner, str) else leaves(inner, (*path, key))


def replaced(value, path, text):
    changed = copy.deepcopy(value)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = text
    return changed


def shown(result: dict, curve=None) -> Entry:
    drawing = draw_architectures([{"seed": 0, "genotype": HOSTILE, "graph": graph()}], HOSTILE)
    return Entry(result, f"results/{HOSTILE}.json", "0" * 64, drawing, pandas.DataFrame(trace_rows(True)), curve)


def lookups_page(result: dict) -> str:
    table = stacked_lookups([("x.csv", lookup_row(result, "results/x.json", "0" * 64))], "nas_bench_201")
    lookup_table(table)
    return render_lookups([shown(result)], table, "results")


def few_shot_page(result: dict) -> str:
    table = stacked([("x.csv", result_row(result, "results/x.json", "0" * 64))])
    curve = pandas.DataFrame({"seed": 0, "epoch": [1, 2], "loss": [3.0, 1.5], "train_accuracy": [0.2, 0.6]})
    return render([shown(result, curve)], table, [{1: 1, 5: 1}], "results")


def with_beside(result: dict) -> dict:
    """A result that is compared with another method, too, of a hostile name."""
    by_shot = {
        shot: {"n_episodes": 4, "accuracy": 0.5, "other": 0.4, "difference": difference}
        for shot, difference in result["control"]["paired_difference"].items()
    }
    paired = {HOSTILE: {"read_out": "linear_probe", "setting": "inductive", "by_shot": by_shot}}
    return result | {"paired": paired}


PAGES = {
    "lookups": (lambda: looked_up("tenas"), lookups_page),
    "few-shot": (lambda: with_beside(made_results.example(pathlib.Path())), few_shot_page),
    "card": (lambda: card(n=20), render_card),
}


@pytest.mark.parametrize("every", [12, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", PAGES)
def test_no_text_of_a_result_becomes_a_tag_of_the_page(name, every, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, page_of = PAGES[name]
    result, n_shown = make(), 0
    before = page_of(result).count("&lt;script&gt;alert(1)")
    places = [path for path, _ in leaves(result)]
    for path in places[::every]:
        try:
            page = page_of(replaced(result, path, HOSTILE))
        # a text that names something, a budget for one, is looked up first
        except (KeyError, ValueError, IndexError, ArtifactError):
            continue
        n_shown += page.count("&lt;script&gt;alert(1)") > before
        assert "<script" not in page and "<img" not in page, path
    assert n_shown * every > 5


def test_templates_let_only_the_reports_own_drawings_through_unescaped():
    assert template("page.html.j2").environment.autoescape is True
    written = "".join(path.read_text() for path in ROOT.glob("pipeline/report/*.j2"))
    assert set(re.findall(r"(\S+) *\| *safe\b", written)) == {
        "figure", "intervals", "plot.figure", "result.anytime", "result.drawing", "result.stability.figure",
        "result.trace",
    }  # fmt: skip
    assert "autoescape" not in written


def test_texts_in_drawings_are_escaped_in_words_tips_attributes_and_captions():
    drawing = Svg(10, 10, HOSTILE)
    drawing.text(0, 0, HOSTILE, class_=HOSTILE)
    drawing.label(0, 0, f"{HOSTILE}_{{{HOSTILE}}}")
    drawing.circle(0, 0, 1, "s0", tip=HOSTILE)
    for text in (drawing.render(), draw_architectures([{"seed": 0, "genotype": "x", "graph": graph()}], HOSTILE)):
        assert "<script" not in text and "<img" not in text and "&lt;script" in text
        assert is_drawing(text)


@pytest.mark.parametrize(
    "odd",
    [
        "<script>alert(1)</script>",
        '<text onclick="alert(1)">x</text>',
        "<style>@import url(http://x)</style>",
        '<a href="javascript:alert(1)"><text>x</text></a>',
        "<foreignObject><img src=x onerror=alert(1)></foreignObject>",
        "<!-- --><text>x</text>",
        "<![CDATA[x]]>",
        '<image href="http://x/y.png"/>',
        '<set attributeName="onmouseover" to="alert(1)"/>',
        '<text x="0"<script>',
    ],
)
def test_a_drawing_that_holds_more_than_shapes_and_words_is_none(odd):
    text = draw_architectures([{"seed": 0, "genotype": "x", "graph": graph()}], "Cells")
    assert is_drawing(text) and not is_drawing(text.replace("</svg>", f"{odd}</svg>"))


def test_a_drawing_with_a_script_is_not_put_on_a_page_even_with_the_right_hash(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tests.made_lookups.draw_architectures", lambda *_: "<svg ><script>alert(1)</script></svg>")
    result = write_lookup(tmp_path, looked_up("tenas"))
    row = lookup_row(result, "results/tenas_cifar10.json", None).iloc[0].to_dict()
    from pipeline.core.artifacts import sha256

    row["sha256"] = sha256(row["result"])
    with pytest.raises(ArtifactError, match="other things than shapes and words"):
        entry(row, ("drawing",), lambda *_: None)


def test_a_tar_of_hostile_names_leaves_nothing_outside_its_scratch_folder(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name in ("../../evil.png", "$(touch evil)/1.png"):
            archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(DataError):
        Tree.opened(tmp_path / "x.tar", tmp_path / "scratch")
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar"]
