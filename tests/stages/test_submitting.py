"""Stages of `dvc repro` as jobs of a cluster: what they ask for, and when. `tests/cluster` submits real ones."""

import functools
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from pipeline.__main__ import main
from pipeline.core.errors import UnknownNameError
from pipeline.stages import submitting
from pipeline.stages.site import SITE_VARIABLE, Group
from pipeline.stages.submitting import VARIABLE, is_wanted, options

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def submitted(monkeypatch):
    monkeypatch.setenv(VARIABLE, "slurm")
    monkeypatch.setenv("DVC_STAGE", "search@metantk-doublemnist")
    return monkeypatch


def test_only_stages_that_dvc_starts_and_the_table_knows_are_submitted(submitted):
    assert is_wanted("search") and is_wanted("episodes")
    assert not is_wanted("fetch") and not is_wanted("freeze") and not is_wanted("compare")
    submitted.delenv("DVC_STAGE")
    assert not is_wanted("search")


def test_nothing_is_submitted_unless_asked_for(submitted):
    submitted.delenv(VARIABLE)
    assert not is_wanted("search")


def test_another_scheduler_is_refused_with_what_is_known(submitted):
    submitted.setenv(VARIABLE, "slrum")
    with pytest.raises(UnknownNameError, match="Did you mean 'slurm'"):
        is_wanted("search")


def test_each_try_asks_for_twice_the_memory_and_time_up_to_the_limits():
    group = Group(mem_mb=100, max_mem_mb=300, minutes=10)
    asked = [[word for word in options(group, attempt) if "mem" in word or "time" in word] for attempt in (1, 2, 3)]
    assert asked == [["--mem=100", "--time=10"], ["--mem=200", "--time=20"], ["--mem=300", "--time=40"]]


def test_what_the_table_leaves_out_is_not_asked_for():
    assert options(Group(), 1) == ["--cpus-per-task=1", "--mem=4000", "--time=60"]


def test_accelerators_are_asked_for_by_number_and_by_type_where_it_is_named():
    assert "--gpus=2" in options(Group(gpus=2), 1)
    assert "--gpus=a100:2" in options(Group(gpus=2, gpu_model="a100"), 1)


def test_further_arguments_of_sbatch_stay_words():
    assert options(Group(extra="--nice=5 --comment='a b'"), 1)[-2:] == ["--nice=5", "--comment=a b"]


def test_where_there_is_no_scheduler_the_user_is_told_what_to_do(submitted, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    submitted.setenv("PATH", str(tmp_path))
    files = [f"--{name}={name}" for name in ("images", "index", "manifest", "out")]
    assert main(["episodes", *files, "--params", "build/params/episodes_x.json"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "needs sbatch, which is not found here" in said and f"unset {VARIABLE}" in said


class Scheduler:
    """Programs by the names of SLURM's that write down how they are called and answer as told.

    Args:
        sbatch: what sbatch does, in the language of the shell.
        states: what squeue says, call after call; the last stays. "down": the scheduler does not answer.
    """

    def __init__(self, folder: pathlib.Path, sbatch: str, states: tuple[str, ...] = ("",)):
        self.calls = folder / "calls"
        self.calls.write_text("")
        (folder / "states").write_text("".join(f"{state}\n" for state in states))
        squeue = (
            'state=$(head -n 1 states); [ "$(wc -l < states)" -gt 1 ] && sed -i 1d states\n'
            '[ "$state" = down ] && { echo "Unable to contact slurm controller" >&2; exit 1; }\n'
            '[ -z "$state" ] && { echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1; }\n'
            'echo "$state"\n'
        )
        for name, script in {"sbatch": f"cat > script\n{sbatch}\n", "squeue": squeue, "scancel": ""}.items():
            program = folder / name
            program.write_text(f'#!/bin/sh\necho "{name} $*" >> calls\n{script}')
            program.chmod(0o755)

    def asked(self, name: str) -> list[str]:
        return [line for line in self.calls.read_text().splitlines() if line.split()[0] == name]


@pytest.fixture
def alone(submitted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    submitted.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    submitted.delenv(SITE_VARIABLE, raising=False)
    submitted.setattr(submitting, "POLL_SECONDS", 0.01)
    submitted.setattr(submitting, "SLOW_POLL_SECONDS", 0.01)
    return tmp_path


FILES = [f"--{name}={name}" for name in ("images", "index", "manifest", "out")]
STAGE = ["episodes", *FILES, "--params", "build/params/episodes_x.json"]


def test_a_job_that_sbatch_lost_sight_of_is_waited_for_and_not_submitted_again(alone, capsys):
    scheduler = Scheduler(alone, "echo 7; exit 1", ("down", "RUNNING", "COMPLETING", "COMPLETED"))
    assert main(STAGE) == 0
    assert len(scheduler.asked("sbatch")) == 1 and len(scheduler.asked("squeue")) == 4
    assert "SLURM job 7 may go on" in capsys.readouterr().err


@pytest.mark.parametrize("state", ["FAILED", "TIMEOUT", ""])
def test_a_job_that_failed_is_submitted_as_often_as_the_profile_says(alone, state, capsys):
    scheduler = Scheduler(alone, "echo 7; exit 3", (state,))
    assert main(STAGE) == 1
    assert [call.split("--mem=")[1].split()[0] for call in scheduler.asked("sbatch")] == ["2000", "4000", "8000"]
    assert "in all of 3 tries, the last as job 7 (code 3)" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("sbatch", ["sleep 2; echo 7; sleep 60", "echo 7; sleep 60"], ids=["early", "later"])
def test_an_interrupt_cancels_the_job_even_before_its_number_is_known(alone, sbatch):
    scheduler = Scheduler(alone, sbatch)
    command = [sys.executable, "-m", "pipeline", *STAGE]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    # where the tests run in the background, interrupts are ignored, and that is passed on
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with open("said", "w") as said:
        run = subprocess.Popen(command, stderr=said, env=environment, preexec_fn=heard)
    deadline = time.monotonic() + 60
    while not scheduler.asked("sbatch") or (
        sbatch.startswith("echo") and "submitted" not in pathlib.Path("said").read_text()
    ):
        assert time.monotonic() < deadline and run.poll() is None, pathlib.Path("said").read_text()
        time.sleep(0.05)
    run.send_signal(signal.SIGINT)
    assert run.wait(30) != 0
    assert scheduler.asked("scancel") == ["scancel 7"]
    assert "SLURM job 7 was cancelled" in pathlib.Path("said").read_text()
