"""Search with meta-trained networks: what it proposes, how it ranks, what it may read, what it says."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch

from pipeline import methods, spaces
from pipeline.core.artifacts import read_json, sha256, write_json
from pipeline.core.checkpoint import Checkpoint
from pipeline.core.config import build, resolve
from pipeline.core.errors import ArtifactError, CapabilityError
from pipeline.core.rng import stream_seed, torch_stream
from pipeline.data.features import FeatureSet, digest_of
from pipeline.recipes.learned_search import Drawings
from pipeline.recipes.measuring import TABULAR_SETS
from pipeline.recipes.proposing import Proposer, encoded
from pipeline.stages.meta_trained import read_predictor
from pipeline.strategies.runner import Context
from tests.small_learning import Source, given
from tests.stages.frozen import run

CPU = torch.device("cpu")
SMALL = {"n_candidates": 12, "drawings_at_once": 20, "n_resamplings": 3, "seeds": [0], "control": True, "best_of": 2}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Source:
    made = Source(tmp_path_factory.mktemp("source"), generator_epochs=60, patience=60)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made.folder)
        for kind in ("generator", "predictor"):
            made.train(kind)
    return made


@pytest.fixture(scope="module")
def space():
    return spaces.get("nas_bench_201")()


def search(source, things=None, checkpoint=None, seed=0, **knobs):
    config = build(methods.get("metad2a").Config, SMALL | knobs)
    context = Context(
        source.prepared, seed=seed, n_cells=2, device=CPU, checkpoint=checkpoint, given=things or given(source)
    )
    return methods.get("metad2a").search(config, context), context.journal


@pytest.fixture(scope="module")
def found(source):
    return search(source)


def rows_of(journal, event="evaluated"):
    return [row for row in journal.rows if row["event"] == event]


def test_candidates_are_different_cells_of_the_space(found, space):
    texts = [row["genotype"] for row in rows_of(found[1])]
    assert len(texts) == len(set(texts)) == SMALL["n_candidates"]
    assert all(space.to_text(space.from_text(text)) == text for text in texts)


def test_candidates_are_the_first_different_connected_ones_that_the_generator_draws(found, source, space):
    things, seed = given(source), stream_seed(0, "search", 0)
    network = things["cell_generator"].network
    images, chance = torch_stream(seed, "proposal drawings"), torch_stream(seed, "proposals")
    drawings = Drawings(things["data_features"], 3, images)
    wanted, n_proposed, n_valid, n_connected = [], 0, 0, 0
    while len(wanted) < SMALL["n_candidates"]:
        latents = torch.cat([network.encode(drawings(1)) for _ in range(20)])
        types, adjacency = network.sample(latents, chance)
        for one, edges in zip(types, adjacency, strict=True):
            n_proposed += 1
            if space.is_valid(one, edges):
                n_valid += 1
                genotype = space.from_types(one)
                n_connected += space.is_connected(genotype)
                text = space.to_text(genotype)
                wanted += [text] * (space.is_connected(genotype) and text not in wanted)
            if len(wanted) == SMALL["n_candidates"]:
                break
    assert [row["genotype"] for row in rows_of(found[1])] == wanted
    (told,) = found[1].account["candidates"]
    assert (told["n_proposed"], told["n_valid"], told["n"]) == (n_proposed, n_valid, len(wanted))
    assert told["n_connected"] == n_connected and told["connected"] == n_connected / n_valid
    assert told["uniqueness"] == len(wanted) / n_connected


def test_the_ranking_is_that_of_the_mean_of_single_predictions(found, source, space):
    things, seed = given(source), stream_seed(0, "search", 0)
    predictor = things["cell_predictor"]
    drawings = Drawings(things["data_features"], 3, torch_stream(seed, "rating drawings"))
    images = [drawings(1) for _ in range(SMALL["n_resamplings"])]
    rows = rows_of(found[1])
    slow = []
    for row in rows:
        types = space.to_types(space.from_text(row["genotype"]))[None]
        with torch.no_grad():
            targets = [float(predictor.network(one, types)) for one in images]
        slow.append(sum(predictor.normalisation.to_accuracy(one) for one in targets) / len(targets))
    assert [row["prediction"] for row in rows] == pytest.approx(slow, rel=1e-5)
    order = sorted(range(len(rows)), key=lambda i: -slow[i])
    assert [rows[i]["rank"] for i in order] == list(range(len(rows)))
    assert space.to_text(found[0][0].genotype) == rows[order[0]]["genotype"]


def test_the_control_ranks_as_many_uniform_cells_by_the_same_drawings(found, space):
    rows = rows_of(found[1], "control")
    control = found[1].controls[0]
    assert len(rows) == control["n_architectures"] == SMALL["n_candidates"]
    assert max(rows, key=lambda row: row["prediction"])["genotype"] == control["genotype"]


def test_equal_seeds_give_equal_searches_and_others_do_not(found, source):
    again, other = search(source), search(source, seed=1)
    assert again[0] == found[0]
    texts = [[row["genotype"] for row in rows_of(journal)] for _, journal in (found, again, other)]
    assert texts[0] == texts[1] != texts[2]


def test_a_search_that_stops_between_seeds_goes_on_to_the_same_end(source, tmp_path, monkeypatch):
    whole, journal = search(source, seeds=[0, 1])
    checkpoint = Checkpoint(tmp_path / "search.pt", {})
    saved = Checkpoint.save

    def stop(self, state):
        saved(self, state)
        if 0 in state["journal"]["found"]:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        search(source, seeds=[0, 1], checkpoint=checkpoint)
    monkeypatch.setattr(Checkpoint, "save", saved)
    again, resumed = search(source, seeds=[0, 1], checkpoint=checkpoint)
    assert again == whole and resumed.account["candidates"] == journal.account["candidates"]
    assert [row["genotype"] for row in resumed.rows] == [row["genotype"] for row in journal.rows]


def test_only_images_that_a_search_may_read_are_read(found, source):
    things = given(source)
    features = things["data_features"]
    array = np.array(features.array)
    others = np.setdiff1d(np.arange(len(array)), source.prepared.rows_of_split("base"))
    array[others] = np.nan
    other, journal = search(source, things | {"data_features": dataclasses.replace(features, array=array)})
    assert other == found[0]
    assert [row["prediction"] for row in journal.rows] == [row["prediction"] for row in found[1].rows]


def test_a_class_with_few_images_lowers_the_images_of_all(source):
    drawings = Drawings(source.features, 100, torch.Generator())
    assert drawings.n_images == 6 and drawings(2).shape == (2, 6, 6, 8)


def test_drawings_are_encoded_a_few_at_a_time_with_the_same_result(source, monkeypatch):
    network = given(source)["cell_predictor"].network
    whole = encoded(network, Drawings(source.features, 3, torch.Generator().manual_seed(3)), 7, CPU)
    monkeypatch.setattr("pipeline.recipes.proposing.NUMBERS_AT_ONCE", 300)
    parts = encoded(network, Drawings(source.features, 3, torch.Generator().manual_seed(3)), 7, CPU)
    torch.testing.assert_close(whole, parts)


def test_a_network_that_draws_no_valid_cell_is_an_error_with_counts(source, space):
    class Hopeless(Proposer):
        def __call__(self, n, generator):
            return [None] * n

    from pipeline.strategies.generate_and_rank import GenerateAndRank

    propose = Hopeless(given(source)["cell_generator"].network, space, None, CPU)
    with pytest.raises(CapabilityError, match="0 turned up in 1000 proposals"):
        GenerateAndRank(space, [], torch.Generator(), n_candidates=1, propose=propose)


def test_what_was_learned_from_is_told_with_its_cost(found, source):
    account, ledger = found[1].account, found[1].ledger
    assert account["digests"]["database"] == source.database.digest
    assert account["features_network"]["substitute"]
    assert ledger["amortised"]["database"] == {"wall_seconds": 40.0, "device_seconds": 60.0}
    assert ledger["generator_seconds"] > 0 and ledger["predictor_seconds"] > 0
    assert ledger["features"] == {"wall_seconds": 7.0, "device_seconds": 7.0}
    assert "cost" not in account["features_network"]
    json.dumps(account), json.dumps(ledger)


def test_agreement_of_predictions_is_of_the_candidates_alone_and_no_verdict_on_the_search(found):
    stability = found[1].stability
    assert [one["n_candidates"] for one in stability["rounds"]] == [SMALL["n_candidates"]]
    assert stability["verdict"] == {} and stability["warning"] is None and "under one predictor" in stability["meaning"]
    agreement = stability["between_repeats"]["prediction"]
    assert -1 <= agreement["low"] <= agreement["tau"] <= agreement["high"] <= 1


def test_a_few_shot_set_whose_novel_classes_were_seen_is_warned_of(source, capsys):
    things = given(source)
    # a target whose novel classes are base classes of the source
    prepared = dataclasses.replace(
        source.prepared, split_classes={**source.prepared.split_classes, "novel": source.prepared.classes_of("base")}
    )
    features = dataclasses.replace(
        things["data_features"], prepared=prepared, facts={**things["data_features"].facts, "warning": "Seen by it."}
    )
    _, journal = search(source, things | {"data_features": features})
    warnings = journal.account["warnings"]
    assert "Seen by it." in warnings
    assert any("Meta-training on Tiny saw images of 6 of the 6 novel classes" in warning for warning in warnings)
    assert "warning: Seen by it." in capsys.readouterr().err


def test_no_warning_of_classes_comes_where_the_novel_ones_are_new(found):
    assert not any("novel classes" in warning for warning in found[1].account["warnings"])


def test_networks_of_another_database_are_refused(source):
    things = given(source)
    predictor = things["cell_predictor"]
    other = dataclasses.replace(predictor, facts={**predictor.facts, "database_digest": "8" * 64})
    with pytest.raises(ArtifactError, match="another database"):
        search(source, things | {"cell_predictor": other})


def test_a_space_that_encodes_nothing_is_refused(source):
    with pytest.raises(CapabilityError, match="darts"):
        search(source, space="darts")


def frozen(folder):
    tags = ("laptop", "gpu", "paper", *TABULAR_SETS)
    params = {
        "search": resolve(methods.get("metad2a").Config, SMALL, ("laptop",), tags, "search.metad2a"),
        "network": {"channels": 4, "n_cells": 2, "stem": "plain", "stem_multiplier": 1},
    }
    content = {"stage": "search", "dataset": "tiny", "method": "metad2a", "budget": "laptop", "seed": 0, "code": "0"}
    write_json(folder / "search.json", content | {"params": params})
    return folder / "search.json"


def stage_arguments(source, folder) -> dict:
    inputs = {name.replace("_", "-"): path for name, path in source.inputs.items()}
    for kind in ("generator", "predictor"):
        paths = source.outputs(kind)
        inputs |= {kind: paths["weights"], f"{kind}-facts": paths["facts"]}
    outputs = {
        name: folder / f"{name}.{end}" for name, end in (("genotype", "json"), ("trace", "csv"), ("cost", "json"))
    }
    return {"method": "metad2a", **source.prepared_paths, **inputs, "params": frozen(folder), **outputs}


def test_the_search_stage_takes_what_the_method_needs_and_writes_what_it_says(source, found, tmp_path, monkeypatch):
    monkeypatch.chdir(source.folder)
    arguments = stage_arguments(source, tmp_path)
    run("search", **arguments)
    genotype, cost = read_json(arguments["genotype"]), read_json(arguments["cost"])
    assert genotype["architectures"][0]["genotype"] == spaces.get("nas_bench_201")().to_text(found[0][0].genotype)
    assert genotype["learned"]["source"] == "tiny" and genotype["controls"][0]["n_architectures"] == 12
    assert set(cost["amortised"]) == {"feature_network", "database", "generator", "predictor"}
    assert cost["features"]["wall_seconds"] == 7.0 and cost["network_evaluations"] == 0


def test_the_search_stage_refuses_a_missing_file_and_one_without_use(source, tmp_path, monkeypatch):
    monkeypatch.chdir(source.folder)
    arguments = stage_arguments(source, tmp_path)
    lacking = {name: path for name, path in arguments.items() if name != "predictor"}
    with pytest.raises(ArtifactError, match="metad2a needs --predictor"):
        run("search", **lacking)
    params = read_json(arguments["params"])
    params["params"]["search"] = {"space": "nas_bench_201", "n_architectures": 1}
    write_json(arguments["params"], params | {"method": "random"})
    with pytest.raises(ArtifactError, match="random has no use for --database-report"):
        run("search", **arguments | {"method": "random"})
    assert not arguments["genotype"].exists()


def test_weights_that_are_not_those_of_the_facts_are_refused(source, tmp_path):
    paths = source.outputs("predictor")
    copied = {name: shutil.copy(path, tmp_path) for name, path in paths.items()}
    facts = read_json(copied["facts"])
    write_json(copied["facts"], facts | {"weights_sha256": "7" * 64})
    with pytest.raises(ArtifactError, match="is not the file"):
        read_predictor(copied["weights"], copied["facts"], CPU)
    with pytest.raises(ArtifactError, match="meta-train-predictor"):
        read_predictor(copied["weights"], source.outputs("generator")["facts"], CPU)


def test_features_of_another_length_are_refused(source, tmp_path):
    prepared = source.prepared
    np.save(tmp_path / "f.npy", np.zeros((len(prepared.labels), 5), dtype=np.float32))
    facts = {**source.features.facts, "dim": 5, "features_sha256": sha256(tmp_path / "f.npy")}
    write_json(tmp_path / "f.json", facts | {"digest": digest_of(facts)})
    other = FeatureSet.open(tmp_path / "f.npy", tmp_path / "f.json", prepared)
    with pytest.raises(ArtifactError, match="other features"):
        search(source, given(source) | {"data_features": other})
