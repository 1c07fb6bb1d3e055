"""Results recomputed: the same, within tolerance, different, or not to be recomputed, each with the cause."""

import dataclasses
import json
import pathlib
import sys

import pandas as pd
import pytest

from pipeline.__main__ import main
from pipeline.core.artifacts import write_json
from pipeline.stages import verify
from tests import made_results
from tests.stages.frozen import run
from tests.stages.test_look_up import write_inputs as write_lookup

RESULT = pathlib.Path("results/metantk_doublemnist.json")
MEASURED = pathlib.Path("results/measured/metantk_doublemnist.json")
TABLE = pathlib.Path("results/episodes/metantk_doublemnist.csv")
WEIGHTS = pathlib.Path("models/metantk_doublemnist/weights.safetensors")
EPISODES = pathlib.Path("data/episodes/doublemnist.csv")


class StandIn:
    """What stands in the place of the stage that tests: it gives what was stored, with changes.

    Attributes:
        changes: what comes out otherwise, keys joined by dots.
        episodes: rows of the table of episodes that come out otherwise, with their accuracies.
    """

    def __init__(self):
        self.changes, self.episodes = {}, {}

    def __call__(self, arguments):
        assert arguments.weights == str(WEIGHTS) and arguments.episodes == str(EPISODES)
        measured = json.loads(MEASURED.read_text())
        for key, value in self.changes.items():
            *path, last = key.split(".")
            inner = measured
            for part in path:
                inner = inner[part]
            inner[last] = value
        frame = pd.read_csv(TABLE)
        for row, accuracy in self.episodes.items():
            frame.loc[row, "accuracy"] = accuracy
        return measured, frame, None


@pytest.fixture
def tested(tmp_path, monkeypatch) -> StandIn:
    """A few-shot result with all its files, in the present folder."""
    monkeypatch.chdir(tmp_path)
    made_results.with_sources()
    stage = StandIn()
    monkeypatch.setitem(verify.KINDS, "few_shot", dataclasses.replace(verify.KINDS["few_shot"], assess=stage))
    return stage


def said(capsys, code: int, path: pathlib.Path = RESULT) -> str:
    before = {file: file.stat().st_mtime_ns for file in pathlib.Path().rglob("*")}
    assert main(["verify", str(path)]) == code
    assert {file: file.stat().st_mtime_ns for file in pathlib.Path().rglob("*")} == before, "it wrote something"
    return capsys.readouterr().out


def test_a_result_that_comes_out_again_is_identical(tested, capsys):
    assert said(capsys, 0) == f"{RESULT}: identical (1-shot 55.00 %, 5-shot 85.00 %)\n"


def test_another_number_is_told_with_its_place_and_both_values(tested, capsys):
    tested.changes = {"accuracy.5.mean": 0.8501}
    assert "different: accuracy.5.mean is 0.85000" in (words := said(capsys, 1)) and "and 0.8501 recomputed" in words


def edited(path: pathlib.Path, key: str, value) -> None:
    """Another value in a JSON file, at a key joined by dots."""
    content = json.loads(path.read_text())
    *places, last = key.split(".")
    inner = content
    for place in places:
        inner = inner[place]
    inner[last] = value
    write_json(path, content)


@pytest.mark.parametrize("hardware", [{}, {"provenance.hardware.threads": 1}], ids=["same", "another machine"])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("accuracy.1.mean", 0.5549),
        ("prototypes.5.ci95", 0.0201),
        ("control.accuracy.1.mean", 0.499),
        ("control.relative_improvement_percent.1", 400.0),
        ("control.paired_difference.1.mean", 0.9),
        ("search_cost.wall_seconds", 1.0),
        ("provenance.hardware.evaluate.threads", 64),
        ("provenance.versions.torch", "1.0"),
        ("provenance.params_digest.search", "0" * 64),
    ],
)
def test_what_was_edited_in_the_result_is_found_on_any_machine(tested, capsys, hardware, key, value):
    tested.changes = hardware
    edited(RESULT, key, value)
    assert f"different: {key} is {value} in the result and " in said(capsys, 1)


@pytest.mark.parametrize(
    "change", [{"threads": 1}, {"processor": "Another processor"}, {"device": "cuda", "accelerator": "A card"}]
)
def test_where_something_else_computes_a_small_difference_is_within_tolerance_and_a_large_one_is_not(
    tested, capsys, change
):
    hardware = {f"provenance.hardware.{name}": value for name, value in change.items()}
    tested.changes = hardware | {"accuracy.1.mean": 0.5540, "prototypes.5.mean": 0.7660}
    words = said(capsys, 0)
    assert "within tolerance" in words and "accuracy.1.mean is 0.55" in words and "0.005" in words
    assert all(name in words for name in change)
    tested.changes = hardware | {"accuracy.1.mean": 0.5560}
    assert "different: accuracy.1.mean" in said(capsys, 1)


def test_no_tolerance_is_given_to_counts_or_architectures(tested, capsys):
    for name, value in (("seeds", [1]), ("flops", 96_500_001.0)):
        tested.changes = {"provenance.hardware.threads": 1, name: value}
        assert f"different: {name}" in said(capsys, 1)


def test_a_single_episode_that_comes_out_otherwise_is_told_with_its_line(tested, capsys):
    tested.episodes = {15: 0.0}
    assert f"different: {TABLE}, line 17, is 0,5,3,prototypes" in said(capsys, 1)


def test_where_something_else_computes_episodes_may_differ_but_not_their_mean(tested, capsys):
    tested.changes, tested.episodes = {"provenance.hardware.threads": 1}, {0: 0.601}
    assert f"within tolerance (1-shot 55.00 %, 5-shot 85.00 %): the largest difference is that {TABLE}.seed 0, " in (
        said(capsys, 0)
    )
    tested.episodes = {0: 0.7}
    assert f"different: {TABLE}.seed 0, 1-shot, linear_probe.mean is 0.5499" in said(capsys, 1)


def test_a_test_on_an_accelerator_may_be_repeated_on_the_processor(tested, capsys):
    tested.changes = {"provenance.reproducible": False, "provenance.hardware.device": "cuda", "accuracy.1.mean": 0.551}
    assert "within tolerance" in said(capsys, 0)


@pytest.mark.parametrize(
    ("path", "field"),
    [
        (WEIGHTS, "provenance.weights_sha256"),
        (EPISODES, "provenance.episodes_digest"),
        (MEASURED, f"provenance.files[{MEASURED}]"),
        (TABLE, f"provenance.files[{TABLE}]"),
        ("search/metantk_doublemnist/genotype.json", "provenance.files[search/metantk_doublemnist/genotype.json]"),
        ("results/measured/random_doublemnist.json", "provenance.files[results/measured/random_doublemnist.json]"),
        ("data/prepared/doublemnist.manifest.json", "provenance.data_digest"),
    ],
)
def test_a_file_that_is_not_the_one_the_result_names_is_told_before_anything_is_computed(tested, capsys, path, field):
    text = pathlib.Path(path).read_text()
    pathlib.Path(path).write_text(flipped(text))
    assert f"different: {field} is " in said(capsys, 1)


@pytest.mark.parametrize("stage", ["evaluate", "compare"])
def test_other_parameters_in_force_are_told_with_the_command_that_brings_back_those_of_the_result(
    tested, capsys, stage
):
    path = f"build/params/{stage}_metantk_doublemnist.json"
    edited(pathlib.Path(path), "budget", "gpu")
    words = said(capsys, 1)
    assert f"cannot be verified. {path} holds other parameters than those of the result, its budget 'gpu'" in words
    assert "commit 0123456789abcdef0123456789abcdef01234567 then" in words
    assert f"`snakemake -n --config budget=laptop -- {RESULT}`" in words


def flipped(text: str) -> str:
    """The text with its last letter or digit changed."""
    place = max(i for i, letter in enumerate(text) if letter.isalnum())
    return text[:place] + ("1" if text[place] != "1" else "2") + text[place + 1 :]


def test_files_that_are_gone_are_named_with_the_commands_that_make_them(tested, capsys):
    WEIGHTS.unlink()
    pathlib.Path("build/params/evaluate_metantk_doublemnist.json").unlink()
    words = said(capsys, 1)
    assert f"snakemake --cores 4 --config budget=laptop -- {WEIGHTS}" in words and f"dvc checkout {WEIGHTS}" in words
    assert "python -m pipeline freeze" in words


@pytest.fixture
def looked_up(tmp_path, monkeypatch) -> tuple[pathlib.Path, dict]:
    """A looked-up result in a folder of its own, and the files that it was made of."""
    monkeypatch.chdir(tmp_path)
    paths = write_lookup(pathlib.Path("files"))
    made_results.frozen("look_up", "tegnas_evo_cifar10")
    path = pathlib.Path("results/tegnas_evo_cifar10.json")
    run("look_up", **paths | {"out": path, "params": "build/params/look_up_tegnas_evo_cifar10.json"})
    return path, paths


def test_a_looked_up_result_is_recomputed_from_its_table(looked_up, capsys):
    path, paths = looked_up
    assert said(capsys, 0, path) == f"{path}: identical (70.00 %)\n"
    result = json.loads(path.read_text())
    write_json(path, result | {"rank": {"mean": 1.0, "per_seed": [1]}})
    assert "different: rank.mean is 1.0 in the result and 2.0 recomputed" in said(capsys, 1, path)
    table = paths["table"]
    table.write_text(table.read_text().replace("70.0", "79.0"))
    assert f"different: provenance.files[{table}]" in said(capsys, 1, path)


def test_a_looked_up_result_gets_no_tolerance_from_other_versions(looked_up, capsys):
    path, _ = looked_up
    edited(path, "provenance.versions.torch", "1.0")
    assert "identical" in said(capsys, 0, path)
    edited(path, "accuracy.mean", 0.701)
    assert "different: accuracy.mean is 0.701 in the result and 0.7 recomputed" in said(capsys, 1, path)


def as_classifier(path: pathlib.Path, params_digest: str, top1: float) -> None:
    """What was measured in a few-shot test, made what is measured of a classifier."""
    content = json.loads(path.read_text())
    accuracy = {"top1": {"mean": top1, "per_seed": [top1] * len(content["seeds"])}}
    protocol = {"setting": "classification", "n_test_images": 100, "image_size": 28}
    del content["provenance"]["episodes_digest"], content["prototypes"]
    content["provenance"]["params_digest"]["test"] = params_digest
    write_json(path, content | {"accuracy": accuracy, "untrained": accuracy, "protocol": protocol})


def test_a_trained_classifier_is_joined_and_tested_again(tested, monkeypatch, capsys):
    stem = "metantk_doublemnist"
    digests = {stage: made_results.frozen(stage, stem) for stage in ("test", "contrast")}
    as_classifier(MEASURED, digests["test"], 0.8)
    as_classifier(MEASURED.with_name("random_doublemnist.json"), digests["test"], 0.7)
    joined = {
        "measured": MEASURED,
        "control": MEASURED.with_name("random_doublemnist.json"),
        "genotype": f"search/{stem}/genotype.json",
        "search-cost": f"search/{stem}/cost.json",
        "train-cost": f"models/{stem}/cost.json",
        "params": f"build/params/contrast_{stem}.json",
    }
    run("contrast", **joined, out=RESULT, drawing=f"results/drawings/{stem}.svg")
    measured = json.loads(MEASURED.read_text())
    again = dataclasses.replace(verify.KINDS["trained"], assess=lambda arguments: (measured, None))
    monkeypatch.setitem(verify.KINDS, "trained", again)
    assert said(capsys, 0) == f"{RESULT}: identical (top1 80.00 %)\n"
    measured["provenance"]["hardware"]["threads"] = 1
    measured["accuracy"]["top1"]["mean"] = 0.801
    assert "within tolerance (top1 80.10 %): the largest difference is that accuracy.top1.mean is 0.8 " in said(
        capsys, 0
    )
    edited(RESULT, "control.difference.mean", 0.101)
    assert "different: control.difference.mean is 0.101 in the result and 0.1" in said(capsys, 1)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("kind", "guessed", "Unknown kind of result 'guessed'"),
        ("kind", [], "Unknown kind of result '[]'"),
        ("provenance", [], "does not have the shape of a result"),
        ("provenance.files", {"x" * 5000: "0" * 64}, "Missing: 'xxxx"),
        ("provenance.files", {"a\x00b": "0" * 64}, "Missing: 'a\\x00b'"),
        ("artifacts.measured", "\x1b[31m", "Missing: '\\x1b[31m'"),
        ("artifacts.genotype", "models/metantk_doublemnist/cost.json", "Run the search, train and evaluate stages"),
        ("artifacts.search_cost", "list.json", "not those that the compare stage reads (AttributeError"),
        ("artifacts", dict.fromkeys(("accuracies", "trace", "curve", "drawing"), "list.json"), "the files of measured"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_result_whose_values_nothing_can_be_done_with_is_refused_in_words(tested, capsys, key, value, words):
    pathlib.Path("list.json").write_text("[]")
    edited(RESULT, key, value)
    told = said(capsys, 1)
    assert f"{RESULT}: cannot be verified. " in told and words in told
    assert told.count("\n") == 1 and len(told) < 2000


def test_a_name_that_is_no_text_is_told_escaped(tested, capsys):
    RESULT.write_text(RESULT.read_text().replace(f'"{TABLE}": "', '"a\\ud800b": "'))
    assert r"Missing: 'a\ud800b'" in said(capsys, 1)


def test_a_result_nested_to_any_depth_is_refused_in_words(tested, capsys):
    text, limit = RESULT.read_text(), sys.getrecursionlimit()
    for depth in range(limit - 120, limit):
        RESULT.write_text(text.replace('"flops": 96500000.0', f'"flops": {"[" * depth}1{"]" * depth}'))
        assert not verify.told(str(RESULT))
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 120 and all(f"{RESULT}: cannot be verified. " in one for one in told)
    assert any("nested too deeply" in one for one in told)
    assert "does not have the shape" in told[0] and "is damaged" in told[-1]


@pytest.mark.parametrize(
    ("path", "text", "words"),
    [
        ("data/prepared/doublemnist.manifest.json", "[]", "is no manifest"),
        ("build/params/evaluate_metantk_doublemnist.json", "{}", "is not a frozen parameter file"),
        ("build/params/compare_metantk_doublemnist.json", "[]", "is not a frozen parameter file"),
        (RESULT, "[" * 100_000, "is damaged"),
    ],
)
def test_a_file_of_another_shape_is_told_and_the_next_result_gets_its_verdict(tested, capsys, path, text, words):
    pathlib.Path(path).write_text(text)
    write_json("results/other.json", {"a": 1})
    assert main(["verify", str(RESULT), "results", "results/other.json"]) == 1
    first, folder, last = capsys.readouterr().out.splitlines()
    assert f"{RESULT}: cannot be verified. " in first and words in first
    assert folder.startswith("results: cannot be verified. ")
    assert last.startswith("results/other.json: cannot be verified. It is no result of one method")
