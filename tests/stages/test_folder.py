"""One tool at a time, and a folder that can be written to."""

import argparse
import fcntl
import os
import pathlib
import subprocess
import sys
import threading
import types

import pytest

from pipeline.__main__ import run
from pipeline.core.errors import ArtifactError
from pipeline.stages.folder import CLAIMS, DVC, SNAKEMAKE, claim, require_writable

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pipeline.stages.folder.PATIENCE_SECONDS", 0.1)
    return tmp_path


@pytest.mark.parametrize(("first", "second"), [(SNAKEMAKE, DVC), (DVC, SNAKEMAKE)])
def test_while_one_tool_is_at_work_the_other_is_refused_and_afterwards_not(first, second):
    with claim(first), pytest.raises(ArtifactError, match=f"{first} is at work in this folder"):
        claim(second)
    claim(second).close()


def test_of_two_snakemakes_the_second_is_refused_and_stages_of_dvc_are_left_to_its_own_locks():
    with claim(SNAKEMAKE), pytest.raises(ArtifactError, match="snakemake is at work in this folder"):
        claim(SNAKEMAKE)
    with claim(DVC), claim(DVC):
        pass


def test_a_lock_that_is_held_for_a_moment_is_waited_for(monkeypatch):
    monkeypatch.setattr("pipeline.stages.folder.PATIENCE_SECONDS", 60)
    held = claim(SNAKEMAKE)
    threading.Timer(0.3, held.close).start()
    claim(SNAKEMAKE).close()


DVC_PROJECT = """
stages:
  copy:
    cmd: cp given made
    deps: [given]
    outs: [made]
"""


@pytest.fixture
def dvc(folder):
    """A small project of DVC's, and its commands, as (exit code, what was printed)."""

    def run(*command: str) -> tuple[int, str]:
        environment = {**os.environ, "HOME": str(folder), "PYTHONPATH": str(ROOT)}
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        done = subprocess.run([sys.executable, "-m", *command], env=environment, **output)
        return done.returncode, done.stdout

    run("dvc", "init", "-q", "--no-scm")
    pathlib.Path("dvc.yaml").write_text(DVC_PROJECT)
    for name in ("given", "made"):
        pathlib.Path(name).write_text("as before")
    return run


def test_dvc_deletes_nothing_while_snakemake_runs_and_does_its_work_afterwards(dvc):
    pathlib.Path("given").write_text("anew")
    with claim(SNAKEMAKE):
        code, printed = dvc("dvc", "repro")
        assert code == 255 and "Unable to acquire lock" in printed
        assert pathlib.Path("made").read_text() == "as before"
    assert dvc("dvc", "repro")[0] == 0
    assert pathlib.Path("made").read_text() == "anew"


def test_what_a_run_made_is_recorded_under_the_lock_that_it_holds(dvc):
    pathlib.Path("list.json").write_text('{"made": [["made"]], "kept": []}')
    with claim(SNAKEMAKE):
        assert dvc("pipeline", "track", "commit", "--files", "list.json")[0] != 0
        code, printed = dvc("pipeline", "track", "commit", "--locked", "--files", "list.json")
        assert code == 0 and "recorded 1 stage" in printed, printed
    assert "up to date" in dvc("dvc", "status")[1]


def test_what_an_earlier_run_made_and_did_not_record_is_recorded_once(dvc):
    pathlib.Path("list.json").write_text('{"made": [], "kept": [["made"]]}')
    code, printed = dvc("pipeline", "track", "commit", "--files", "list.json")
    assert code == 0 and "recorded 1 stage" in printed, printed
    assert "up to date" in dvc("dvc", "status")[1]
    code, printed = dvc("pipeline", "track", "commit", "--files", "list.json")
    assert code == 0 and "recorded" not in printed, printed


def test_snakemake_does_not_start_while_a_command_of_dvc_holds_its_lock():
    folder = pathlib.Path(".dvc/tmp")
    folder.mkdir(parents=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ArtifactError, match="dvc is at work in this folder"):
            claim(SNAKEMAKE)
    claim(SNAKEMAKE).close()


def test_where_dvc_locks_by_links_its_lock_is_left_alone():
    pathlib.Path(".dvc").mkdir()
    pathlib.Path(".dvc/config.local").write_text("[core]\n    hardlink_lock = True\n")
    with claim(SNAKEMAKE):
        assert not pathlib.Path(".dvc/tmp").exists()


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
