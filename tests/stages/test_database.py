"""The database stage: its files, every oracle, and that neither a kill nor the number of workers changes them."""

import json
import pathlib
import random
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from pipeline import spaces
from pipeline.core.artifacts import sha256, write_json
from pipeline.core.config import resolve
from pipeline.core.errors import ArtifactError, DataError
from pipeline.core.rng import stream_seed
from pipeline.data.database import COLUMNS, Database
from pipeline.recipes import oracles
from pipeline.recipes.database import DatabaseConfig
from tests import tiny_set
from tests.data.tiny_sources import cifar10, made, make_mirror, outputs
from tests.stages.frozen import run

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SMALL = {
    "n_classes": 3, "n_base_tasks": 6, "n_validation_tasks": 2, "n_novel_tasks": 2, "cells_per_task": 3,
    "n_architectures": 8,
}  # fmt: skip
KNOBS = {
    "train": {"image_size": 8, "channels": 4, "n_cells": 1, "epochs": 2, "batch_size": 8},
    "proxy": {"proxy": "synflow", "image_size": 8, "channels": 4, "n_cells": 1},
    "table": {"dataset": "cifar10", "part": "test"},
}
# the command line, but with a checkpoint after every answer
IMPATIENT = """
import sys
from pipeline.__main__ import main
from pipeline.core import checkpoint
checkpoint.SAVE_EVERY_SECONDS = 0.0
sys.exit(main(sys.argv[1:]))
"""
TAGS = ("laptop", "gpu", "paper")
FILES = ("tasks", "triples", "report")


def frozen(folder: pathlib.Path, oracle: str = "train", dataset: str = "tiny", **knobs) -> pathlib.Path:
    params = {
        "database": resolve(DatabaseConfig, SMALL | knobs | {"oracle": oracle}, ("laptop",), TAGS, "database"),
        "oracle": resolve(oracles.get(oracle), KNOBS[oracle], ("laptop",), TAGS, f"oracle.{oracle}"),
    }
    content = {"stage": "database", "dataset": dataset, "budget": "laptop", "seed": 0, "params": params, "code": "0"}
    write_json(folder / "database.json", content)
    return folder / "database.json"


def paths_of(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    return {name: folder / f"{name}.{'csv' if name == 'triples' else 'json'}" for name in FILES}


def machine(folder: pathlib.Path, threads: int = 1) -> None:
    write_json(folder / "build/machine.json", {"mirror": None, "device": "cpu", "threads": threads})


def images(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """The tiny set, as a manifest says of official images."""
    files = tiny_set.write(folder / "prepared", n_images=8)
    write_json(files["manifest"], json.loads(files["manifest"].read_text()) | {"official": True, "sources": []})
    return files


def build(folder: pathlib.Path, monkeypatch, oracle: str = "train", threads: int = 1, files=None, **options) -> dict:
    monkeypatch.chdir(folder)
    machine(folder, threads)
    knobs = options.pop("knobs", {})
    params = frozen(folder, oracle, **knobs)
    run("database", params=params, **(files or images(folder)), **paths_of(folder), **options)
    return paths_of(folder)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch:
        return folder, build(folder, patch)


def without_time(paths: dict) -> tuple:
    """All that two runs of the same work must have in common."""
    report = json.loads(paths["report"].read_text())
    for name in ("cost", "provenance"):
        del report[name]
    lines = [line.split(",") for line in paths["triples"].read_text().splitlines()]
    place = COLUMNS.index("seconds")
    return paths["tasks"].read_bytes(), [line[:place] + line[place + 1 :] for line in lines], report


def table_of(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """A table of all cells."""
    space = spaces.get("nas_bench_201")()
    lines = [f"{i},{space.to_text(one)},{20 + 60 * i / 15625}\n" for i, one in enumerate(space.enumerate())]
    table, facts = folder / "table.csv", folder / "table.json"
    table.write_text("index,arch_str,cifar10_test\n" + "".join(lines))
    content = {"name": "NAS-Bench-201", "space": "nas_bench_201", "source": "made", "sha256": "1" * 64}
    write_json(facts, content | {"official": False, "table_sha256": sha256(table)})
    return {"table": table, "table-facts": facts}


def test_the_reader_takes_what_the_stage_writes(built):
    database = Database.open(**built[1])
    assert [len(database.triples(split)) for split in ("base", "validation", "novel")] == [18, 6, 6]
    assert [task.split for task in database.tasks] == ["base"] * 6 + ["validation"] * 2 + ["novel"] * 2
    assert len(database.best("base", 1 / 3)) == 6
    assert database.report["digests"]["triples"] and database.digest


def test_every_row_tells_where_its_number_comes_from(built):
    table = pd.read_csv(built[1]["triples"])
    assert tuple(table.columns) == COLUMNS
    frozen_digest = json.loads(built[1]["report"].read_text())["digests"]["params"]
    assert set(table["params_digest"]) == {frozen_digest} and set(table["oracle"]) == {"train"}
    assert (table["seconds"] > 0).all() and table["accuracy"].between(0, 100).all()
    for row in table.itertuples():
        assert row.seed == stream_seed(0, "triple", row.task, row.genotype)


def test_the_report_says_what_was_asked_and_what_it_cost(built):
    report = json.loads(built[1]["report"].read_text())
    assert report["oracle"]["name"] == "train" and "held-out images of the task's own classes" in str(report["oracle"])
    assert report["oracle"]["knobs"]["epochs"] == 2
    assert report["statistics"]["counts"]["triples"] == 30 and report["failures"] == []
    assert report["splits"] == {
        "classes": {"base": 6, "validation": 5, "novel": 5},
        "meaning": "the data set's own base, validation and novel classes",
    }
    cost = report["cost"]
    assert 0 < cost["seconds_per_triple"] == pytest.approx(cost["device_seconds"] / 30)
    assert cost["wall_seconds"] > 0 and report["provenance"]["official_data"] is True


def test_no_checkpoint_stays_behind(built):
    assert list((built[0] / "build/checkpoints").iterdir()) == []


@pytest.mark.parametrize("threads", [2, 3])
def test_the_number_of_workers_changes_nothing_but_the_time(built, tmp_path, monkeypatch, threads):
    assert without_time(build(tmp_path, monkeypatch, threads=threads)) == without_time(built[1])


def test_a_build_killed_at_random_moments_ends_like_an_undisturbed_one(built, tmp_path):
    machine(tmp_path, threads=2)
    words = {"params": frozen(tmp_path), **images(tmp_path), **paths_of(tmp_path)}
    arguments = ["database", *(word for name, value in words.items() for word in (f"--{name}", str(value)))]
    command = [sys.executable, "-c", IMPATIENT, *arguments]
    checkpoint = tmp_path / "build/checkpoints/database_tiny.pt"
    rng, n_killed = random.Random(0), 0
    for _ in range(3):
        process = subprocess.Popen(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        while process.poll() is None and not (checkpoint.exists() and checkpoint.stat().st_mtime_ns > before):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.1))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            n_killed += 1
        process.wait(timeout=60)
        assert process.returncode == 0 or not paths_of(tmp_path)["report"].exists()
    assert n_killed > 0
    subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, check=True)
    assert without_time(paths_of(tmp_path)) == without_time(built[1])
    assert not checkpoint.exists()


def test_a_proxy_database_says_that_it_holds_no_accuracies(tmp_path, monkeypatch):
    paths = build(tmp_path, monkeypatch, "proxy", knobs={"n_base_tasks": 2})
    report = json.loads(paths["report"].read_text())
    assert "no accuracy" in report["oracle"]["meaning"] and report["oracle"]["unit"] == "the proxy's own"
    assert len(Database.open(**paths).triples("base")) == 6


def test_a_table_database_says_that_its_accuracies_are_of_the_whole_data_set(tmp_path, monkeypatch):
    table = table_of(tmp_path)
    paths = build(tmp_path, monkeypatch, "table", **table)
    report = json.loads(paths["report"].read_text())
    assert "on all classes of cifar10" in report["oracle"]["meaning"]
    by_text = dict(pd.read_csv(table["table"])[["arch_str", "cifar10_test"]].itertuples(index=False))
    for triple in Database.open(**paths).triples("base"):
        assert triple.accuracy == pytest.approx(by_text[triple.genotype])
    variance = report["statistics"]["variance"]["pooled"]
    assert variance["inside_architecture"] == pytest.approx(0, abs=1e-9)


def test_the_table_oracle_wants_its_table(tmp_path, monkeypatch):
    with pytest.raises(ArtifactError, match="--table and --table-facts must name"):
        build(tmp_path, monkeypatch, "table")
    table = table_of(tmp_path)
    table["table"].write_text(table["table"].read_text() + "\n")
    with pytest.raises(ArtifactError, match=r"table\.csv is not the file that .*table\.json describes"):
        build(tmp_path, monkeypatch, "table", **table)


def test_a_classification_source_has_its_classes_split_by_the_seed_and_says_so(tmp_path, monkeypatch):
    prepared = tmp_path / "data"
    made(prepared, "cifar10", mirror=make_mirror(tmp_path / "mirror", cifar10))
    paths = build(tmp_path, monkeypatch, "proxy", files=outputs(prepared, "cifar10"), knobs={"n_classes": 2})
    report = json.loads(paths["report"].read_text())
    assert report["splits"]["classes"] == {"base": 6, "validation": 2, "novel": 2}
    assert "60 : 20 : 20" in report["splits"]["meaning"]
    used = [{one for task in Database.open(**paths).tasks if task.split == s for one in task.classes}
            for s in ("base", "validation", "novel")]  # fmt: skip
    assert not used[0] & used[1] and not used[0] & used[2] and not used[1] & used[2]


def test_too_few_classes_are_refused_before_any_training(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"needs 6 classes .*5 validation classes"):
        build(tmp_path, monkeypatch, knobs={"n_classes": 6})
