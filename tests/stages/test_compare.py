"""Joining measurements into a result: numbers by hand, refusals, provenance, the schema."""

import json
import pathlib
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pandas
import pytest

from pipeline.core.artifacts import digest, sha256, write_json
from pipeline.core.errors import ArtifactError
from pipeline.report.schema import check_card, check_classifier, check_lookup, check_result
from pipeline.stages import compare
from tests.made_results import CONTROL, FOUND, arguments, compared, example, run_stage, without, write_inputs

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_paired_difference_is_that_of_episode_means_over_architectures(folder):
    # control, mean of two architectures by episode: 0.5 0.5 0.6 0.4; found: 0.6 0.6 0.6 0.4
    difference = example(folder)["control"]["paired_difference"]["1"]
    assert difference["mean"] == pytest.approx((0.1 + 0.1 + 0 + 0) / 4)
    # deviation of 0.1 0.1 0 0 is 0.1 / sqrt(3), its standard error half of that, t with 3 degrees of freedom 3.1824463
    assert difference["ci95"] == pytest.approx(3.1824463 * 0.1 / 3**0.5 / 2, rel=1e-6)
    assert (difference["win"], difference["tie"], difference["loss"]) == (2, 2, 0)


ADAPTED = {
    "kind": "adapted",
    "provenance.recipe_digest": digest("another learner"),
    "protocol.read_out": "linear_probe",
}


def adapting(folder, *against: str, **more):
    """A learner beside a control that was trained otherwise, and other methods on the same episodes."""
    write_inputs(folder, "random", CONTROL)
    write_inputs(folder, "metantk", FOUND, changes=ADAPTED | {"protocol.image_size": 16} | more)
    argv = arguments("metantk")
    for name in against:
        argv += ["--against", f"results/measured/{name}_doublemnist.json", f"results/episodes/{name}_doublemnist.csv"]
    run_stage(compare, argv)
    return json.loads(pathlib.Path("results/metantk_doublemnist.json").read_text())


def test_learners_with_recipes_of_their_own_are_compared_episode_by_episode(folder):
    transductive = {"protocol.setting": "transductive"}
    write_inputs(folder, "maml", {1: {0: [0.5, 0.6, 0.7, 0.4]}, 5: {0: [0.8, 0.8, 0.8, 0.8]}}, changes=transductive)
    result = adapting(folder, "maml")
    assert result["control"]["same_recipe"] is False and result["control"]["setting"] == "inductive"
    assert result["paired"]["maml"]["setting"] == "transductive"
    of_shot = result["paired"]["maml"]["by_shot"]["1"]
    assert of_shot["n_episodes"] == 4 and of_shot["difference"]["mean"] == pytest.approx(0.0)
    assert [of_shot["difference"][name] for name in ("win", "tie", "loss")] == [1, 2, 1]
    assert result["artifacts"]["against_maml"] in result["provenance"]["files"]


def test_where_a_learner_was_tested_on_fewer_episodes_both_sides_are_taken_on_those(folder):
    found = {k: {0: values[0][:2]} for k, values in FOUND.items()}
    write_inputs(folder, "random", CONTROL)
    write_inputs(folder, "metantk", found, changes=ADAPTED)
    run_stage(compare, arguments("metantk"))
    result = json.loads(pathlib.Path("results/metantk_doublemnist.json").read_text())
    assert result["control"]["accuracy"]["1"]["mean"] == pytest.approx((0.5 + 0.5) / 2)
    assert result["control"]["paired_difference"]["1"]["mean"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    "change, word",
    [
        ({"budget": "gpu"}, "budgets"),
        ({"provenance.episodes_digest": digest("others")}, "test episodes"),
        ({"protocol.n_way": 4}, "shapes of tasks"),
        ({"protocol.n_query": 4}, "shapes of tasks"),
    ],
)
def test_learners_that_saw_other_tasks_are_refused(folder, change, word):
    with pytest.raises(ArtifactError, match=word):
        adapting(folder, **change)


def test_a_result_without_kind_needs_both_read_outs(folder):
    result = example(folder)
    with pytest.raises(ArtifactError, match="prototypes"):
        check_result(without(result, "prototypes"), "x")


def test_the_relative_improvement_is_in_percent_of_the_controls_accuracy(folder):
    improvements = example(folder)["control"]["relative_improvement_percent"]
    assert improvements["1"] == pytest.approx(100 * (0.55 - 0.5) / 0.5)
    assert improvements["5"] == pytest.approx(100 * (0.85 - 0.7) / 0.7)


def test_the_control_is_the_random_method_with_all_its_architectures(folder):
    control = example(folder)["control"]
    assert control["method"] == "random" and control["n_architectures"] == 2
    assert control["accuracy"]["1"]["mean"] == pytest.approx(0.5)


def test_the_random_method_stands_beside_itself_without_a_difference(folder):
    write_inputs(folder, "random", CONTROL)
    control = compared("random")["control"]
    assert control["relative_improvement_percent"] == {"1": 0.0, "5": 0.0}
    assert control["paired_difference"]["1"] == {"mean": 0.0, "ci95": 0.0, "win": 0, "tie": 4, "loss": 0}


def test_only_the_read_out_of_the_protocol_is_compared(folder):
    result = example(folder, **{"protocol.read_out": "linear_probe"})
    # the second read-out is worse by a tenth everywhere, so mixing both would pull the difference down
    assert result["control"]["paired_difference"]["5"]["mean"] == pytest.approx(0.15)


def test_every_file_that_was_joined_is_named_with_its_hash(folder):
    result = example(folder)
    files = result["provenance"]["files"]
    assert set(result["artifacts"].values()) == set(files)
    assert len(files) == 10 and files == {path: sha256(path) for path in files}
    assert result["drawing"] in files


def test_hardware_and_commit_of_each_stage_move_from_the_costs_to_the_provenance(folder):
    result = example(folder)
    assert (
        set(result["provenance"]["hardware"]) == set(result["provenance"]["commits"]) == {"search", "train", "evaluate"}
    )
    assert "hardware" not in result["search_cost"] and result["search_cost"]["network_evaluations"] == 504
    assert result["search_stability"]["verdict"] == {"metantk_condition": "signal", "linear_regions": "noise"}


def test_the_row_carries_the_hash_of_the_result_and_what_it_may_be_ranked_with(folder):
    result = example(folder)
    row = pandas.read_csv("results/rows/metantk_doublemnist.csv").iloc[0]
    assert row["result"] == "results/metantk_doublemnist.json" and row["sha256"] == sha256(row["result"])
    assert row["recipe_digest"] == result["provenance"]["recipe_digest"]
    assert row["protocol_digest"] == digest(result["protocol"])
    assert row["accuracy_1shot"] == pytest.approx(0.55) and row["difference_5shot"] == pytest.approx(0.15)
    assert row["k_shots"] == "1 5"


def test_the_drawing_shows_both_cells_and_every_operation(folder):
    result = example(folder)
    text = " ".join(ElementTree.parse(result["drawing"]).getroot().itertext())
    for word in ("normal cell", "reduce cell", "dil_conv_3x3", "conv_1x5_5x1", "max_pool_3x3", "output"):
        assert word in text


def test_equal_inputs_give_equal_bytes(folder):
    example(folder)
    names = ("metantk_doublemnist.json", "drawings/metantk_doublemnist.svg", "rows/metantk_doublemnist.csv")
    paths = [pathlib.Path("results") / name for name in names]
    before = [path.read_bytes() for path in paths]
    compared("metantk")
    assert [path.read_bytes() for path in paths] == before


@pytest.mark.parametrize(
    "change, word",
    [
        ({"budget": "gpu"}, "budgets"),
        ({"provenance.episodes_digest": digest("others")}, "test episodes"),
        ({"provenance.data_digest": digest("another copy")}, "images"),
        ({"provenance.recipe_digest": digest("longer training")}, "training recipes"),
        ({"protocol.n_augmented_support": 0}, "protocols"),
    ],
)
def test_artifacts_that_do_not_belong_together_are_refused(folder, change, word):
    with pytest.raises(ArtifactError, match=word):
        example(folder, **change)
    assert not pathlib.Path("results/metantk_doublemnist.json").exists()


def test_architectures_of_another_data_set_copy_are_refused(folder):
    example(folder)
    path = pathlib.Path("search/metantk_doublemnist/genotype.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "data_digest": digest("another copy")}))
    with pytest.raises(ArtifactError, match="data_digest"):
        compared("metantk")


def test_a_control_that_was_tested_on_fewer_episodes_is_refused(folder):
    example(folder)
    table = pandas.read_csv("results/episodes/random_doublemnist.csv")
    table[table["episode"] < 3].to_csv("results/episodes/random_doublemnist.csv", index=False)
    with pytest.raises(ArtifactError, match="not tested on the same 1-shot episodes"):
        compared("metantk")


def test_an_architecture_without_one_of_the_episodes_is_refused(folder):
    example(folder)
    table = pandas.read_csv("results/episodes/random_doublemnist.csv")
    table.drop(index=0).to_csv("results/episodes/random_doublemnist.csv", index=False)
    with pytest.raises(ArtifactError, match="not all tested once"):
        compared("metantk")


def test_a_missing_input_is_named(folder):
    example(folder)
    pathlib.Path("models/metantk_doublemnist/curve.csv").unlink()
    with pytest.raises(ArtifactError, match=r"models/metantk_doublemnist/curve\.csv is missing"):
        compared("metantk")


def test_a_measured_file_that_lacks_something_is_named_with_it(folder):
    example(folder)
    path = pathlib.Path("results/measured/metantk_doublemnist.json")
    path.write_text(json.dumps(without(json.loads(path.read_text()), "provenance.episodes_digest")))
    with pytest.raises(ArtifactError, match=r"lacks provenance\.episodes_digest"):
        compared("metantk")


def test_a_single_episode_has_no_interval_instead_of_a_narrow_one(folder):
    one = {1: {0: [0.5, 0.7]}}
    write_inputs(folder, "random", one)
    table = pandas.read_csv("results/episodes/random_doublemnist.csv")
    table[table["episode"] == 0].to_csv("results/episodes/random_doublemnist.csv", index=False)
    assert compared("random")["control"]["paired_difference"]["1"]["ci95"] is None


def test_comparing_and_reporting_start_without_torch():
    code = "import sys, pipeline.stages.compare, pipeline.stages.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


BROKEN = {
    "an unknown budget": ("budget", "huge"),
    "an accuracy in percent": ("accuracy.1.mean", 55.0),
    "a negative half-width": ("accuracy.1.ci95", -0.01),
    "a shot that is no number": ("accuracy.one", {}),
    "a transductive test under another name": ("protocol.setting", "semi"),
    "a hash that is none": ("provenance.data_digest", "abc"),
    "data that are neither official nor not": ("provenance.official_data", "yes"),
    "no architecture": ("genotypes", []),
    "a key nobody knows": ("acuracy", {}),
    "an unknown key of the control": ("control.acuracy", {}),
    "another version": ("schema_version", 2),
    "a negative cost": ("search_cost.wall_seconds", -1.0),
    "a fraction of a win": ("control.paired_difference.1.win", 0.5),
    "a method's name that is no name": ("method", "Meta NTK"),
}


@pytest.mark.parametrize("place, value", BROKEN.values(), ids=BROKEN)
def test_the_schema_refuses(folder, place, value):
    result = example(folder)
    inner = result
    *path, last = place.split(".")
    for part in path:
        inner = inner[part]
    inner[last] = value
    with pytest.raises(ArtifactError, match=r"does not have the shape"):
        check_result(result, "it")


REQUIRED = (
    "budget", "protocol.n_query", "accuracy.1.ci95", "accuracy.5.data_aware", "untrained", "prototypes",
    "control.relative_improvement_percent", "provenance.episodes_digest", "provenance.recipe_digest",
    "provenance.official_data", "provenance.hardware", "provenance.command", "provenance.files", "search_stability",
)  # fmt: skip


@pytest.mark.parametrize("place", REQUIRED)
def test_the_schema_wants(folder, place):
    with pytest.raises(ArtifactError, match=place.split(".")[-1]):
        check_result(without(example(folder), place), "it")


def test_every_result_that_is_there_has_the_shape_of_its_kind():
    checks = {"looked_up": check_lookup, "trained": check_classifier, "proxy_card": check_card}
    for path in sorted((ROOT / "results").glob("*.json")):
        content = json.loads(path.read_text())
        checks.get(content.get("kind"), check_result)(content, str(path))


def test_the_frozen_parameters_of_the_comparison_are_on_record(folder):
    example(folder)
    frozen = {"stage": "compare", "dataset": "doublemnist", "method": "metantk", "budget": "laptop", "seed": 0,
              "params": {}, "code": "0" * 64}  # fmt: skip
    write_json("build/params/compare_metantk_doublemnist.json", frozen)
    result = compared("metantk", params="build/params/compare_metantk_doublemnist.json")
    assert result["provenance"]["params_digest"]["compare"] == digest(frozen)
