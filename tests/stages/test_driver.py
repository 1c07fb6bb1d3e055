"""What the Snakefile asks for before any job."""

import pytest

from pipeline.stages.driver import only_looks


@pytest.mark.parametrize("given", ["-n", "-np", "-nq", "-pn", "-knj4", "--dry-run", "-S", "-D", "--list", "--dag=dot"])
def test_a_snakemake_that_only_looks_is_recognised_by_its_options(given):
    assert only_looks(["--cores", "4", given, "results/report.html"])


@pytest.mark.parametrize(
    "given", ["-c4", "-pk", "-sSnakefile", "--nolock", "-dnew", "--notemp", "-Cseed=7n", "--unlock", "--", "-"]
)
def test_a_snakemake_that_runs_jobs_is_none_that_only_looks(given):
    assert not only_looks([given, "-p", "--config", "seed=7"])


def test_a_target_behind_two_dashes_is_no_option():
    assert not only_looks(["--cores", "4", "--", "-n"])
