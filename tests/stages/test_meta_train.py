"""The stages of meta-training: what they write, that a kill changes nothing, and what they refuse."""

import json
import random
import signal
import time

import numpy as np
import pandas as pd
import pytest

from pipeline.core.artifacts import write_json
from pipeline.core.errors import ArtifactError, ConfigError
from pipeline.core.tensors import read_tensors
from pipeline.stages import needs
from tests import tiny_set
from tests.small_learning import Source, database_of
from tests.stages.frozen import run

KINDS = ("generator", "predictor")
UNSTEADY = ("cost", "provenance")


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Source:
    made = Source(tmp_path_factory.mktemp("source"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made.folder)
        for kind in KINDS:
            made.train(kind)
    return made


def steady(paths) -> tuple:
    """All that two runs of the same work must have in common, to the bit."""
    facts = json.loads(paths["facts"].read_text())
    held_out = facts["held_out"].get("generated_vs_uniform") or {}
    held_out.pop("wall_seconds", None)
    curve = pd.read_csv(paths["curve"]).drop(columns="seconds")
    return paths["weights"].read_bytes(), curve.to_csv(), {k: v for k, v in facts.items() if k not in UNSTEADY}


@pytest.mark.parametrize("kind", KINDS)
def test_a_meta_training_writes_weights_curve_and_facts(kind, source):
    paths = source.outputs(kind)
    facts, curve = json.loads(paths["facts"].read_text()), pd.read_csv(paths["curve"])
    assert curve["epoch"].tolist() == [1, 2, 3, 4]
    best = facts["training"]["best_epoch"]
    worth = -curve["validation_reconstruction"] if kind == "generator" else curve["validation_within_tasks"]
    assert best == 1 + worth.argmax() == curve["best_epoch"].iloc[-1] and curve["chosen_by"].tolist() == worth.tolist()
    assert facts["database_digest"] == source.database.digest and facts["features_digest"] == source.features.digest
    assert facts["size"]["feature_dim"] == 8 and facts["parameters"] == sum(
        value.numel() for value in read_tensors(paths["weights"], "meta-train").values()
    )
    assert not list((source.folder / "build/checkpoints").glob(f"*{kind}*"))


def test_held_out_figures_of_the_predictor_are_about_the_novel_tasks(source):
    held_out = json.loads(source.outputs("predictor")["facts"].read_text())["held_out"]
    assert (held_out["n_tasks"], held_out["n_triples"]) == (3, 18)
    assert held_out["within_tasks"]["spearman"]["n"] == 3
    assert -1 <= held_out["pooled"]["kendall"]["low"] <= held_out["pooled"]["kendall"]["high"] <= 1


def test_held_out_figures_of_the_generator_count_what_it_draws_and_ask_the_oracle(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    facts = json.loads(Source(tmp_path, generator_epochs=60, patience=60).train("generator")["facts"].read_text())
    drawn = facts["held_out"]["drawn"]
    assert drawn["n"] == 42 and drawn["n_valid"] / 42 == drawn["validity"] > 0.8
    assert 1 < drawn["n_different"] <= drawn["n_valid"]
    assert facts["n_pairs"] == {"base": 24, "validation": 9, "novel": 9}
    beside = facts["held_out"]["generated_vs_uniform"]
    # one architecture for each held-out task, beside the six of the database
    assert (beside["n_tasks"], beside["n_generated"], beside["n_uniform"], beside["n_failed"]) == (3, 3, 18, 0)
    assert beside["measured"] == "by the database's oracle: made up for tests"
    gap = beside["generated"]["mean"] - beside["uniform"]["mean"]
    assert beside["difference"]["mean"] == pytest.approx(gap)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["images", "features"])
def test_images_and_features_that_were_changed_since_are_not_learned_from(kind, name, tmp_path, monkeypatch):
    changed = Source(tmp_path)
    tiny_set.damage(changed.arguments(kind)[name])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtifactError, match=f"{name}.npy is not the file that"):
        changed.train(kind)


def test_a_search_does_not_open_features_that_were_changed_since(tmp_path):
    source = Source(tmp_path)
    entry = needs.get("data_features")
    paths = {name: str(source.inputs[name]) for name in entry.files}
    assert entry.open(paths, source.prepared, None).digest == source.features.digest
    tiny_set.damage(source.inputs["features"])
    with pytest.raises(ArtifactError, match="features.npy is not the file that"):
        entry.open(paths, source.prepared, None)


@pytest.mark.parametrize("kind", KINDS)
def test_a_meta_training_killed_at_random_moments_ends_as_an_undisturbed_one(kind, tmp_path, monkeypatch):
    knobs = {f"{kind}_epochs": 30, "cells_per_held_out_task": 1}
    whole, killed = Source(tmp_path / "whole", **knobs), Source(tmp_path / "killed", **knobs)
    monkeypatch.chdir(whole.folder)
    wanted = steady(whole.train(kind))
    moments = random.Random(0)
    checkpoint = killed.folder / f"build/checkpoints/meta_train_{kind}_tiny.pt"
    for _ in range(2):
        process = killed.start(kind)
        while process.poll() is None and not checkpoint.exists():
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert checkpoint.exists() and not killed.outputs(kind)["facts"].exists()
    process = killed.start(kind)
    _, log = process.communicate(timeout=300)
    assert process.returncode == 0, log
    assert steady(killed.outputs(kind)) == wanted


@pytest.mark.parametrize("kind", KINDS)
def test_another_seed_learns_other_weights(kind, source, tmp_path, monkeypatch):
    other = Source(tmp_path)
    write_json(tmp_path / f"{kind}.json", json.loads((tmp_path / f"{kind}.json").read_text()) | {"seed": 1})
    monkeypatch.chdir(tmp_path)
    weights = [of["weights"].read_bytes() for of in (other.train(kind), source.outputs(kind))]
    assert weights[0] != weights[1]


def test_a_database_of_other_images_is_refused(source, tmp_path, monkeypatch):
    monkeypatch.chdir(source.folder)
    report = json.loads(source.inputs["database_report"].read_text())
    report["digests"]["data"] = "9" * 64
    write_json(tmp_path / "report.json", report)
    arguments = source.arguments("predictor") | {"database-report": tmp_path / "report.json"}
    with pytest.raises(ArtifactError, match="other images"):
        run("meta_train_predictor", **arguments)


def test_a_database_without_validation_tasks_is_refused_with_the_way_out(source, tmp_path, monkeypatch):
    monkeypatch.chdir(source.folder)
    paths = database_of(tmp_path, source.prepared, n_validation_tasks=0)
    arguments = source.arguments("predictor") | {name.replace("_", "-"): path for name, path in paths.items()}
    with pytest.raises(ConfigError, match="n_validation_tasks"):
        run("meta_train_predictor", **arguments)


def test_targets_as_published_are_a_hundredth(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = Source(tmp_path, small_targets=True)
    facts = [json.loads(of.outputs("predictor")["facts"].read_text()) for of in (source,)]
    small.train("predictor")
    facts.append(json.loads(small.outputs("predictor")["facts"].read_text()))
    assert [one["normalisation"]["scale"] for one in facts] == [1.0, 0.01]
    accuracies = [triple.accuracy for triple in source.database.triples("base")]
    assert facts[0]["normalisation"]["mean"] == pytest.approx(np.mean(accuracies))
    assert facts[0]["normalisation"]["std"] == pytest.approx(np.std(accuracies, ddof=1))
