"""A thousand results at once can be planned, and a forecast names the jobs that Snakemake plans."""

import json
import subprocess
import sys

import pytest

from pipeline.stages import forecast
from tests.e2e.project import ROOT, SMALL, Project

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def test_a_thousand_results_are_planned(tmp_path):
    out = tmp_path / "figures.json"
    command = [sys.executable, str(ROOT / "benchmarks/planning.py"), "--targets", "1000", "--out", str(out)]
    subprocess.run(command, check=True)
    figures = json.loads(out.read_text())
    assert figures["n_targets"] == 1000 and figures["n_jobs"] > 3000
    told = " ".join(figures["forecast_says"])
    assert f"{figures['n_jobs']} jobs, " in told and "ask a cluster for a GPU" in told and "critical path" in told


def test_a_forecast_names_the_jobs_that_snakemake_plans(tmp_path, monkeypatch):
    project = Project.copied(tmp_path / "project", SMALL)
    planned = project.snakemake("-n")
    monkeypatch.chdir(project.folder)
    jobs = forecast.plan([], [])
    assert sorted(jobs) == planned
    assert jobs["compare_metantk_doublemnist"].after >= {"evaluate_metantk_doublemnist", "evaluate_random_doublemnist"}
    assert jobs["report"].after == {"compare_metantk_doublemnist", "compare_random_doublemnist"}
    costs = str(ROOT / "benchmarks/figures/costs_cpu.json")
    printed = project.run("python", "-m", "pipeline", "forecast", "--costs", costs, "results/random_doublemnist.json")
    assert "core-hours" in printed and "metantk" not in printed
