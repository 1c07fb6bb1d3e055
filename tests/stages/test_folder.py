"""One tool at a time, and a folder that can be written to."""

import argparse
import os
import pathlib
import subprocess
import sys
import types

import pytest

from pipeline.__main__ import run
from pipeline.core.errors import ArtifactError
from pipeline.stages.folder import CLAIMS, DVC, SNAKEMAKE, claim, require_writable

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("first", "second"), [(SNAKEMAKE, DVC), (DVC, SNAKEMAKE)])
def test_while_one_tool_is_at_work_the_other_is_refused_and_afterwards_not(first, second):
    with claim(first), pytest.raises(ArtifactError, match=f"{first} is at work in this folder"):
        claim(second)
    claim(second).close()


@pytest.mark.parametrize("tool", [SNAKEMAKE, DVC])
def test_two_of_the_same_tool_are_left_to_its_own_locks(tool):
    with claim(tool), claim(tool):
        pass


def test_the_claim_of_a_killed_process_is_gone():
    code = "import os, pipeline.stages.folder as f; held = f.claim(f.SNAKEMAKE); os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT)}).returncode == -9
    assert CLAIMS.is_dir()
    claim(DVC).close()


def test_a_stage_of_dvc_does_not_begin_while_snakemake_runs(monkeypatch):
    begun = []
    stage = types.SimpleNamespace(run=lambda arguments: begun.append("begun"))
    monkeypatch.setenv("DVC_STAGE", "train")
    with claim(SNAKEMAKE), pytest.raises(ArtifactError, match="snakemake is at work"):
        run(stage, argparse.Namespace())
    assert not begun
    run(stage, argparse.Namespace())
    assert begun


def test_folders_that_cannot_be_written_to_are_named(monkeypatch):
    pathlib.Path("results").mkdir()
    require_writable()
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != "results" and real(path, mode))
    with pytest.raises(ArtifactError, match="No permission to write to results/"):
        require_writable()


READ_ONLY = """
mount --bind results results && mount -o remount,bind,ro results && {python} -c "
from pipeline.core.errors import ArtifactError
from pipeline.core.artifacts import write_json
from pipeline.stages.folder import require_writable
for act in (require_writable, lambda: write_json('results/a.json', 1)):
    try:
        act()
    except ArtifactError as error:
        assert 'No permission to write' in str(error) and 'results' in str(error), error
    else:
        raise SystemExit(4)
"
"""


def test_a_read_only_file_system_is_told_and_nothing_is_written():
    pathlib.Path("results").mkdir()
    own = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*own, "mount --bind results results"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a folder of their own")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = READ_ONLY.format(python=sys.executable)
    done = subprocess.run([*own, command], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert not list(pathlib.Path("results").iterdir())
