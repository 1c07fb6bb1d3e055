"""The forecast: what it reads of Snakemake's plan, and what it tells."""

import json
import subprocess
import sys

import pytest

from pipeline import data
from pipeline.__main__ import main
from pipeline.core.errors import ArtifactError, ConfigError
from pipeline.stages import forecast
from pipeline.stages.common import FROZEN
from pipeline.stages.freeze import freeze
from pipeline.stages.settings import FOLDER_FAMILY, Freezer, load

PRINTED = """Building DAG of jobs...

[Wed Jan  1 10:00:00 2025]
Job 2: Getting the files of birds
Reason: Missing output files: data/raw/birds.tar
Shell command: python -m pipeline fetch --dataset birds --params build/params/fetch_birds.json --out data/raw/birds.tar 2>&1 | tee logs/fetch_birds.log

[Wed Jan  1 10:00:00 2025]
Job 1: Preparing the images of birds
Reason: Missing output files: data/prepared/birds.images.npy; Input files updated by another job: data/raw/birds.tar; Code has changed since last execution
Shell command: python -m pipeline prepare --raw data/raw/birds.tar --params build/params/prepare_birds.json --images data/prepared/birds.images.npy 2>&1 | tee logs/prepare_birds.log

[Wed Jan  1 10:00:00 2025]
Job 0: Searching
Reason: Input files updated by another job: data/prepared/birds.images.npy
Shell command: python -m pipeline search --images data/prepared/birds.images.npy --params build/params/search_ntk_birds.json --genotype search/ntk_birds/genotype.json 2>&1 | tee logs/search_ntk_birds.log
Job stats:
job       count
"""  # noqa: E501
COSTS = {
    "start": 2.0,
    "channels_exponent": 1.5,
    "coefficients": {"prepare": 0.01, "train:darts_fewshot": 1e-9},
    "spaces": {"darts_fewshot": {"operations": [7] * 18, "in_groups": 6}},
}


def test_each_job_waits_for_the_one_that_makes_what_it_reads():
    jobs = forecast.planned(PRINTED)
    assert {name: job.after for name, job in jobs.items()} == {
        "fetch_birds": set(),
        "prepare_birds": {"fetch_birds"},
        "search_ntk_birds": {"prepare_birds"},
    }


def test_where_all_is_finished_nothing_is_planned():
    assert forecast.planned("Building DAG of jobs...\nNothing to be done.\n") == {}
    assert forecast.lines({}, {}, 1, 30) == ["nothing to be made: all jobs are finished, or params.yaml lists none"]


def test_the_forecast_tells_jobs_path_hours_and_what_it_does_not_know():
    jobs = forecast.planned(PRINTED)
    expected = {"fetch_birds": (60.0, ""), "prepare_birds": (3540.0, ""), "search_ntk_birds": (None, "it is new")}
    told = "\n".join(forecast.lines(jobs, expected, 2, 2, {"fetch_birds"}))
    assert "3 jobs, at least 1.00 core-hours" in told and "GPU: 1 job, at least 0.02 hours" in told
    assert "critical path at least 1 h 0 min: fetch_birds > prepare_birds" in told
    assert "on 2 nodes, one job at a time on each: at least 1 h 0 min" in told
    assert "and 1 other job (" in told and "unknown  search_ntk" in forecast.lines(jobs, expected, 2, 3)[2]
    assert "1 job cannot be estimated and counted as nothing:" in told and "1 job  it is new" in told


def test_where_all_is_known_the_figures_are_no_lower_bounds():
    jobs = forecast.planned(PRINTED)
    told = "\n".join(forecast.lines(jobs, dict.fromkeys(jobs, (1200.0, "")), 1, 30))
    assert "3 jobs, 1.00 core-hours" in told and "on 1 node, " in told
    assert "at least" not in told and "cannot be estimated" not in told


def test_the_clusters_table_tells_which_jobs_ask_for_a_gpu():
    names = {"prepare_birds", "search_ntk_birds", "meta_train_generator_birds", "features_birds_by_cats", "rate_darts"}
    assert forecast.accelerated(names) == names - {"prepare_birds", "rate_darts"}


@pytest.fixture
def frozen(tmp_path, monkeypatch):
    """A folder where the laptop's parameters are frozen, as seen from its inside."""
    freezer = Freezer(load())
    monkeypatch.chdir(tmp_path)
    freeze(freezer)
    return tmp_path


def test_a_larger_knob_in_a_frozen_file_lengthens_its_job_alone(frozen, tmp_path):
    (tmp_path / "costs.json").write_text(json.dumps(COSTS))
    costs = forecast.read_costs(tmp_path / "costs.json")
    before = forecast.Estimator(costs)
    short = before.estimate("train_metantk_doublemnist")[0]
    # 2 epochs of 6,400 images of 32 pixels in 5 cells of 16 channels
    assert short == pytest.approx(2.0 + 1e-9 * 2 * 6400 * 32**2 * 5 * 16**1.5)
    path = FROZEN / "train_metantk_doublemnist.json"
    content = json.loads(path.read_text())
    content["params"]["train"]["epochs"] *= 10
    path.write_text(json.dumps(content))
    after = forecast.Estimator(costs)
    assert after.estimate("train_metantk_doublemnist")[0] - 2.0 == pytest.approx(10 * (short - 2.0))
    for name in ("prepare_doublemnist", "train_random_doublemnist", "compare_metantk_doublemnist"):
        assert after.estimate(name)[0] == before.estimate(name)[0]


def test_every_frozen_job_has_a_work_or_is_told_to_be_unknown(frozen, tmp_path):
    spaces = {name: {"operations": [5] * 6, "in_groups": 0} for name in ("darts", "darts_fewshot", "nas_bench_201")}
    (tmp_path / "costs.json").write_text(json.dumps({**COSTS, "spaces": spaces}))
    estimator = forecast.Estimator(forecast.read_costs(tmp_path / "costs.json"))
    for path in FROZEN.glob("*.json"):
        value = estimator.estimate(path.stem)[0]
        assert value is None or value >= 2.0, path


def test_a_prepared_data_set_counts_as_it_is(frozen):
    folder = frozen / "data/prepared"
    folder.mkdir(parents=True)
    (folder / "doublemnist.manifest.json").write_text(json.dumps({"n_images": 1000, "image_size": 16}))
    assert forecast.images_of("doublemnist") == forecast.Images(640, 360, 16)
    assert forecast.images_of("miniimagenet") == forecast.Images(64 * 600, 36 * 600, 32)


def test_the_size_of_every_data_set_that_comes_with_the_project_is_known_and_of_others_told_to_be_unknown(
    frozen, tmp_path
):
    for name in data.names():
        if name != FOLDER_FAMILY:
            images = forecast.images_of(name)
            assert images.n_train > 0 and images.n_rest > 0 and images.side <= forecast.LARGEST_SIDE
    assert forecast.images_of("birds") is None
    estimator = forecast.Estimator(forecast.Costs(2.0, 1.5, {"prepare": 0.01}, {}))
    (FROZEN / "prepare_birds.json").write_text(json.dumps({"stage": "prepare", "dataset": "birds", "params": {}}))
    assert estimator.estimate("prepare_birds") == (
        None,
        "prepare: the number of images of birds is not known before they are prepared",
    )


@pytest.mark.parametrize(
    "name, section, knobs, words",
    [
        ("search_tenas", "search", {"space": "mine"}, "search:tenas:mine: this kind of job was not measured"),
        ("meta_learn_maml", "meta_learn", None, "meta_learn of maml: how much work its parameters mean is not known"),
    ],
    ids=["a space", "other knobs"],
)
def test_what_was_not_measured_is_told_with_its_kind_and_stops_no_forecast(frozen, name, section, knobs, words):
    path = FROZEN / f"{name}_doublemnist.json"
    content = json.loads(path.read_text())
    content["params"][section] = {**content["params"][section], **knobs} if knobs else {"n_rounds": 9}
    path.write_text(json.dumps(content))
    assert forecast.Estimator(forecast.Costs(2.0, 1.5, {}, {})).estimate(path.stem) == (None, words)


def test_a_file_without_coefficients_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="missing"):
        forecast.read_costs(tmp_path / "none.json")
    (tmp_path / "other.json").write_text('{"start": 1}')
    with pytest.raises(ConfigError, match="benchmarks/costs.py"):
        forecast.read_costs(tmp_path / "other.json")


@pytest.mark.parametrize(
    "words",
    [["--config=--unlock"], ["--config", "budget"], [""], ["--costs", "."]],
    ids=["option", "key", "empty", "folder"],
)
def test_what_snakemake_would_take_for_something_else_is_refused(words, capsys):
    assert main(["forecast", *words]) == 1
    assert "error: " in capsys.readouterr().err


def test_forecasting_imports_no_torch():
    code = "import sys, pipeline.stages.forecast; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
