"""The search stage: its files, and that killing it at any moment changes nothing but the time."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from pipeline import data, methods, spaces
from pipeline.__main__ import main
from pipeline.core.artifacts import write_json
from pipeline.core.config import resolve
from tests import tiny_set

ROOT = pathlib.Path(__file__).parents[2]
OUTPUTS = ("genotype", "trace", "cost")
SMALL = {"channels": 2, "image_size": 8, "repeat": 1, "prune_number": 6, "n_region_samples": 60, "tasks_per_batch": 1}
# the command line, but with a checkpoint at least every tenth of a second
IMPATIENT = """
import sys
from pipeline.__main__ import main
from pipeline.core import checkpoint
checkpoint.SAVE_EVERY_SECONDS = 0.1
sys.exit(main(sys.argv[1:]))
"""


def job(folder: pathlib.Path, method: str, knobs: dict) -> list[str]:
    """Write inputs and frozen parameters for a search in `folder`; returns the command's arguments."""
    paths = tiny_set.write(folder / "prepared")
    config = resolve(methods.get(method).Config, knobs, ("laptop",), ("laptop", "gpu", "paper", *TAGS), "search")
    params = {"network": {"channels": 16, "n_cells": 2}, "search": config}
    frozen = {"stage": "search", "method": method, "dataset": "tiny", "budget": "laptop", "seed": 3, "code": "-"}
    write_json(folder / "params.json", {**frozen, "params": params})
    write_json(folder / "build/machine.json", {"mirror": None, "device": "cpu", "threads": 2})
    arguments = ["search", "--method", method, "--params", "params.json"]
    for name, path in paths.items():
        arguments += [f"--{name}", str(path)]
    for name in OUTPUTS:
        arguments += [f"--{name}", str(output(folder, name))]
    return arguments


TAGS = ("8cells", *data.names())


def output(folder: pathlib.Path, name: str) -> pathlib.Path:
    return folder / "out" / f"{name}.{'csv' if name == 'trace' else 'json'}"


def start(folder: pathlib.Path, arguments: list[str], program: list[str]) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, *program, *arguments], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    )


def finish(folder: pathlib.Path, arguments: list[str], program: tuple[str, ...] = ("-m", "pipeline")) -> str:
    process = start(folder, arguments, list(program))
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return errors


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    arguments = job(folder, "metantk", SMALL)
    return folder, finish(folder, arguments)


def test_the_genotype_file_names_what_was_found_and_from_what(undisturbed):
    folder, _ = undisturbed
    content = json.loads(output(folder, "genotype").read_text())
    space = spaces.get("darts_fewshot")()
    (architecture,) = content["architectures"]
    genotype = space.from_text(architecture["genotype"])
    assert architecture["graph"] == json.loads(json.dumps(space.graph(genotype)))
    assert architecture["seed"] == 0
    assert {name: content[name] for name in ("method", "dataset", "budget", "space")} == {
        "method": "metantk", "dataset": "tiny", "budget": "laptop", "space": "darts_fewshot",
    }  # fmt: skip
    assert content["network"] == {"channels": 16, "n_cells": 2}
    assert len(content["params_digest"]) == len(content["data_digest"]) == 64


def test_the_stability_of_the_ranking_is_in_the_genotype_file_and_bad_news_in_the_log(undisturbed):
    folder, log = undisturbed
    stability = json.loads(output(folder, "genotype").read_text())["stability"]
    assert set(stability["between_repeats"]) == {"metantk_condition", "linear_regions"}
    assert len(stability["rounds"]) == 5
    assert stability["warning"] in log and "set search.metantk.repeat to" in stability["warning"]


def test_the_trace_has_its_columns_and_a_line_per_measured_network(undisturbed):
    folder, _ = undisturbed
    trace = pd.read_csv(output(folder, "trace"))
    wanted = "seed round step event cell edge operation metantk_condition linear_regions rank seconds"
    assert " ".join(trace.columns[:11]) == wanted
    assert list(trace.columns[11:]) == ["metantk_condition_change_0", "linear_regions_change_0"]
    assert len(trace) == 127 + 4 + 5 + 4 + 5
    assert list(trace["step"]) == list(range(len(trace)))
    assert trace["seconds"].gt(0).all()


def test_the_cost_file_counts_time_networks_and_memory(undisturbed):
    folder, _ = undisturbed
    cost = json.loads(output(folder, "cost").read_text())
    assert cost["network_evaluations"] == 2 * 145
    assert cost["wall_seconds"] > 0
    assert cost["device_seconds"] > 0
    assert cost["peak_memory_mib"] > 100
    assert cost["not_finite"] == {"metantk_condition": 0, "linear_regions": 0}
    assert cost["hardware"]["device"] == "cpu"


def test_no_checkpoint_stays_behind(undisturbed):
    folder, _ = undisturbed
    assert list((folder / "build/checkpoints").iterdir()) == []


def without_seconds(path: pathlib.Path) -> pd.DataFrame:
    return pd.read_csv(path).drop(columns="seconds")


def test_a_search_killed_at_random_moments_ends_with_the_genotype_file_of_an_undisturbed_one(undisturbed, tmp_path):
    whole, _ = undisturbed
    arguments = job(tmp_path, "metantk", SMALL)
    checkpoint = tmp_path / "build/checkpoints/search_metantk_tiny.pt"
    rng, n_killed = random.Random(0), 0
    for _ in range(3):
        process = start(tmp_path, arguments, ["-c", IMPATIENT])
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        while process.poll() is None and not (checkpoint.exists() and checkpoint.stat().st_mtime_ns > before):
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 1.0))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            n_killed += 1
        process.communicate(timeout=60)
        assert not output(tmp_path, "genotype").exists() or process.returncode == 0
    assert n_killed > 0
    finish(tmp_path, arguments)
    assert output(tmp_path, "genotype").read_bytes() == output(whole, "genotype").read_bytes()
    pd.testing.assert_frame_equal(without_seconds(output(tmp_path, "trace")), without_seconds(output(whole, "trace")))


@pytest.mark.parametrize("method", ["random", "conv4"])
def test_methods_without_a_search_write_the_same_kinds_of_files(method, tmp_path):
    finish(tmp_path, job(tmp_path, method, {}))
    content = json.loads(output(tmp_path, "genotype").read_text())
    assert content["architectures"]
    assert content["stability"] is None
    trace = pd.read_csv(output(tmp_path, "trace"))
    assert len(trace) == 0
    assert list(trace.columns[:3]) == ["seed", "round", "step"]
    assert json.loads(output(tmp_path, "cost").read_text())["network_evaluations"] == 0


def test_images_that_are_not_those_of_the_manifest_are_not_searched_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = job(tmp_path, "random", {})
    tiny_set.damage(tmp_path / "prepared/tiny.images.npy")
    assert main(arguments) == 1
    assert "tiny.images.npy is not the file that" in " ".join(capsys.readouterr().err.split())
    assert not output(tmp_path, "genotype").exists()
