"""Looking up what a search found: figures against hand-made tables, and refusals."""

import json

import numpy as np
import pandas as pd
import pytest

from pipeline import spaces
from pipeline.core.artifacts import write_json
from pipeline.core.errors import ArtifactError, UnknownNameError
from pipeline.data.accuracy_tables import AccuracyTable
from pipeline.stages import look_up
from tests.stages.frozen import run

TEXTS = [f"|{op}~0|+|none~0|none~1|+|none~0|none~1|nor_conv_1x1~2|" for op in ("none", "skip_connect", "nor_conv_3x3")]
ACCURACIES = [50.0, 80.0, 70.0]


def table() -> AccuracyTable:
    return AccuracyTable("table.csv", TEXTS, {("cifar10", "test"): np.array(ACCURACIES) / 100}, {}, 200)


def test_candidates_of_a_method_that_learned_stand_beside_the_connected_cells():
    texts = [f"|none~0|+|none~0|none~1|+|{op}~0|none~1|none~2|" for op in ("none", "skip_connect", "nor_conv_3x3")]
    accuracies = {("cifar10", "test"): np.array(ACCURACIES) / 100}
    rated = pd.DataFrame({"seed": 0, "event": "evaluated", "genotype": texts[1:], "prediction": [2.0, 1.0]})
    genotype = {"dataset": "cifar10", "learned": {"indicators": {"prediction": True}, "best_of": 2}}
    space = spaces.get("nas_bench_201")()
    found = look_up.learned_of(genotype, space, AccuracyTable("table.csv", texts, accuracies, {}, 200), rated)
    assert found["learned"]["in_table"]["uniform_mean"] == pytest.approx(0.75)
    assert found["learned"]["in_table"]["first"] == [0.8]


def write_inputs(folder, dataset="cifar10", space="nas_bench_201", digest="0" * 64) -> dict:
    """Everything that the stage reads, of a search that found the second best of three architectures."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.csv").write_text(
        "index,arch_str,cifar10_test,cifar100_test\n"
        + "".join(
            f"{i},{text},{value},{value / 2}\n" for i, (text, value) in enumerate(zip(TEXTS, ACCURACIES, strict=True))
        )
    )
    facts = {
        "name": "NAS-Bench-201", "space": "nas_bench_201", "network": {"channels": 4, "n_cells": 3}, "source": "made",
        "sha256": "1" * 64, "official": False, "lacks": ["single seeds"],
    }  # fmt: skip
    write_json(folder / "table.json", facts)
    graph = {"cells": [{"name": "cell", "nodes": ["input", "output"], "edges": [[0, 1, "skip_connect"]]}]}
    genotype = {
        "method": "tegnas_evo", "dataset": dataset, "budget": "laptop", "space": space, "data_digest": digest,
        "architectures": [{"seed": 0, "genotype": TEXTS[2], "graph": graph}], "params_digest": "2" * 64,
        "controls": [{"seed": 0, "genotype": TEXTS[0], "n_architectures": 2}], "stability": None,
    }  # fmt: skip
    write_json(folder / "genotype.json", genotype)
    trace = pd.DataFrame(
        {
            "seed": 0,
            "event": ["evaluated", "evaluated", "repeated", "control", "control"],
            "genotype": [TEXTS[0], TEXTS[2], TEXTS[0], TEXTS[0], TEXTS[1]],
            "coupled_ntk_condition": [9.0, 2.0, 9.0, 9.0, float("inf")],
            "linear_regions": [5.0, 6.0, 5.0, 5.0, 9.0],
        }
    )
    trace.to_csv(folder / "trace.csv", index=False)
    spent = {"wall_seconds": 2.0, "device_seconds": 1.5, "network_evaluations": 4}
    cost = spent | {"controls": spent, "hardware": {"processor": "x"}, "commit": "c", "versions": {}}
    write_json(folder / "cost.json", cost)
    manifest = {
        "title": "CIFAR-10",
        "digest": "0" * 64,
        "official": False,
        "n_classes": 10,
        "image_size": 8,
        "sources": [],
    }
    write_json(folder / "manifest.json", manifest)
    write_json(
        folder / "params.json",
        {"stage": "look_up", "dataset": dataset, "budget": "laptop", "seed": 0, "params": {}, "code": "0"},
    )
    names = {"genotype": "json", "trace": "csv", "table": "csv", "manifest": "json", "params": "json"}
    paths = {name: folder / f"{name}.{end}" for name, end in names.items()}
    paths |= {"search-cost": folder / "cost.json", "table-facts": folder / "table.json"}
    return paths | {"out": folder / "result.json", "row": folder / "row.csv", "drawing": folder / "cells.svg"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    paths = write_inputs(tmp_path_factory.mktemp("look_up"))
    run("look_up", **paths)
    return json.loads(paths["out"].read_text()), paths


def test_accuracy_rank_and_regret_are_those_of_the_table(made):
    result, _ = made
    assert result["accuracy"] == {"mean": pytest.approx(0.7), "per_seed": [pytest.approx(0.7)]}
    assert result["rank"] == {"mean": 2.0, "per_seed": [2]}
    assert result["regret"]["mean"] == pytest.approx(0.1)
    assert result["best"] == {"genotype": TEXTS[1], "accuracy": pytest.approx(0.8)}
    assert result["elsewhere"] == {"cifar100": {"mean": pytest.approx(0.35)}}
    assert result["space_mean"]["mean"] == pytest.approx(2 / 3)


def test_the_control_stands_beside_with_its_own_cost(made):
    control = made[0]["control"]
    assert control["accuracy"]["mean"] == pytest.approx(0.5) and control["rank"]["per_seed"] == [3]
    assert control["n_architectures"] == [2] and control["search_cost"]["network_evaluations"] == 4


def test_the_incumbent_is_the_best_by_ranks_of_what_was_measured_so_far(made):
    curves = {one["of"]: one["points"] for one in made[0]["anytime"]}
    assert curves["method"] == [[1, pytest.approx(0.5)], [2, pytest.approx(0.7)]]
    # the second of the control is best by regions and worst by the kernel, which is not finite: equal sums, first wins
    assert curves["control"] == [[1, pytest.approx(0.5)], [2, pytest.approx(0.5)]]


def test_sizes_are_those_of_the_networks_the_table_is_about(made):
    from pipeline import spaces
    from pipeline.nets.cost import count_parameters

    space = spaces.get("nas_bench_201")()
    network = space.build(space.from_text(TEXTS[2]), n_classes=10, channels=4, n_cells=3)
    assert made[0]["parameters"]["per_seed"] == [count_parameters(network)]


def test_a_row_and_a_drawing_are_written_beside_the_result(made):
    _, paths = made
    row = pd.read_csv(paths["row"])
    assert len(row) == 1 and row["rank"][0] == 2 and row["space"][0] == "nas_bench_201"
    assert paths["drawing"].read_text().startswith("<svg")


def test_a_method_without_whole_architectures_has_no_curve():
    assert list(look_up.anytime(pd.DataFrame({"event": ["pruned"], "seed": [0]}), table(), "cifar10", {})) == []


@pytest.mark.parametrize("wrong", [{"space": "darts"}, {"digest": "3" * 64}])
def test_architectures_of_another_space_or_of_other_images_are_refused_and_nothing_is_written(wrong, tmp_path):
    paths = write_inputs(tmp_path, **wrong)
    with pytest.raises(ArtifactError, match="Run the search again"):
        run("look_up", **paths)
    assert not paths["out"].exists() and not paths["drawing"].exists()


def test_a_data_set_that_the_table_lacks_is_refused_with_those_it_has(tmp_path):
    paths = write_inputs(tmp_path, dataset="imagenet16")
    with pytest.raises(UnknownNameError, match="cifar10"):
        run("look_up", **paths)
