"""Stages of `dvc repro` as jobs of a SLURM cluster: what Snakemake's profile does for its jobs, for DVC's.

With FEWSHOT_NAS_SUBMIT=slurm a stage that DVC starts submits itself and waits. It asks for what the cluster's table
says; how often a job that failed is tried again, and whether a pre-empted one is started again, stands in the profile.
"""

import argparse
import contextlib
import os
import pathlib
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.core.errors import ConfigError, JobError, UnknownNameError
from pipeline.core.progress import say
from pipeline.core.stopping import leave_if_asked
from pipeline.stages import folder, seals
from pipeline.stages.site import SITE, Group, read_yaml, site, submitted_rules

VARIABLE = "FEWSHOT_NAS_SUBMIT"
SLURM = "slurm"
PROFILE = SITE.with_name("config.yaml")
LOGS = pathlib.Path("logs")
POLL_SECONDS = 0.2
SLOW_POLL_SECONDS = 5
"""Between two questions to the scheduler."""
ENDED = (
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED",
    "TIMEOUT",
)  # fmt: skip


def is_wanted(stage: str) -> bool:
    """Whether this stage, as it was started, is to submit itself. Raises UnknownNameError."""
    where = os.environ.get(VARIABLE)
    if not where or not os.environ.get("DVC_STAGE"):
        return False
    if where != SLURM:
        raise UnknownNameError(f"value of {VARIABLE}:", where, [SLURM], "Without it DVC's stages run where DVC runs.")
    return stage in submitted_rules()


def submit(stage: str, argv: Sequence[str], arguments: argparse.Namespace) -> int:
    """Run a stage as a job and wait for it, as often as the profile tries; returns 0.

    Args:
        argv: the command, from the name of the stage on.
        arguments: the same, parsed.

    Raises ConfigError where the cluster cannot be asked, JobError when the last try has failed; Stopped when told to.
    """
    ours, profile = site(), _profile()
    group, name = ours.groups[ours.group_of[stage]], pathlib.Path(arguments.params).stem
    log = LOGS / f"{name}.log"
    with folder.claim(folder.DVC):
        LOGS.mkdir(exist_ok=True)
        for attempt in range(1, profile.get("retries", 0) + 2):
            log.unlink(missing_ok=True)
            asked_for = [f"--job-name={name}", f"--comment=dvc_{name}", f"--output={log}", "--open-mode=append"]
            asked_for += ["--requeue"] if profile.get("slurm-requeue") else []
            code, job = _run([*asked_for, *options(group, attempt)], argv)
            printed = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
            print(printed, end="", flush=True)
            if code == 0:
                _wait_for_files(arguments, profile.get("latency-wait", 5))
                return 0
            say(f"SLURM job {job} of {name} failed in try {attempt}; what it printed is in {log}")
    raise JobError(
        f"{name} failed on the cluster in all of {attempt} tries, the last as job {job} (code {code}); what it printed "
        f"is in {log}. Mend the cause, or give its group more in {SITE.name}, and run the same command again: it goes "
        "on from what was saved."
    )


def _profile() -> dict[str, Any]:
    """What the profile of Snakemake says. Raises ConfigError."""
    profile = read_yaml(PROFILE, "The profile")
    if not isinstance(profile, dict):
        raise ConfigError(f"The profile {PROFILE} must hold `key: value` lines, not {profile!r}.")
    return profile


def options(group: Group, attempt: int) -> list[str]:
    """What sbatch is asked for in this try, the first being 1; each asks for twice the memory and time before it."""

    def grown(first: int, most: int | None) -> int:
        return min(first * 2 ** (attempt - 1), most or sys.maxsize)

    found = {
        "partition": group.partition,
        "cpus-per-task": group.cpus,
        "mem": grown(group.mem_mb, group.max_mem_mb),
        "time": grown(group.minutes, group.max_minutes),
        "gpus": f"{group.gpu_model}:{group.gpus}" if group.gpu_model else group.gpus or None,
        "account": group.account,
        "qos": group.qos,
        "constraint": group.constraint,
    }
    return [
        *(f"--{name}={value}" for name, value in found.items() if value is not None),
        *shlex.split(group.extra or ""),
    ]


def _run(asked_for: Sequence[str], argv: Sequence[str]) -> tuple[int, str]:
    """Submit a command and wait; returns its exit code and the number of the job."""
    # the job computes; its batch script is the stage itself, so that it hears SIGTERM
    script = f"#!/bin/sh\nunset {VARIABLE}\nexec {shlex.join([sys.executable, '-m', 'pipeline', *argv])}\n"
    try:
        sbatch = subprocess.Popen(
            ["sbatch", "--wait", "--parsable", *asked_for],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            # Ctrl-C is for this process, which cancels the job
            start_new_session=True,
        )  # fmt: skip
    except FileNotFoundError:
        raise ConfigError(
            f"{VARIABLE}={SLURM} needs sbatch, which is not found here. Run `dvc repro` on a node that may submit "
            f"jobs, or unset {VARIABLE} to compute here."
        ) from None
    sbatch.stdin.write(script)
    sbatch.stdin.close()
    job = _accepted(sbatch)
    if not job:
        raise ConfigError(f"sbatch refused {' '.join(asked_for)}: {sbatch.stderr.read().strip()}")
    say(f"submitted as SLURM job {job}")
    with _cancelled_on_the_way_out(job):
        while sbatch.poll() is None:
            leave_if_asked()
            time.sleep(POLL_SECONDS)
        return _outcome(sbatch.returncode, job), job


def _accepted(sbatch: subprocess.Popen) -> str:
    """Number of the job, "" where it was refused. An interrupt waits for it: without it the job cannot be cancelled."""

    def number() -> str:
        return sbatch.stdout.readline().split(";")[0].strip()

    try:
        return number()
    except KeyboardInterrupt:
        say("interrupted; waiting for the number of the job, to cancel it")
        if job := number():
            _cancel(job)
        raise


def _outcome(code: int, job: str) -> int:
    """Exit code of a job whose sbatch has ended.

    sbatch also ends badly where it loses sight of the job, as when the scheduler is started anew. Such a job is waited
    for, so that no second one begins beside it.
    """
    if code == 0:
        return 0
    told = False
    while (state := _state(job)) is None or (state and state not in ENDED):
        if not told:
            say(f"sbatch ended with code {code}, but SLURM job {job} may go on; waiting for it")
            told = True
        deadline = time.monotonic() + SLOW_POLL_SECONDS
        while time.monotonic() < deadline:
            leave_if_asked()
            time.sleep(POLL_SECONDS)
    return 0 if state == "COMPLETED" else code


def _state(job: str) -> str | None:
    """What SLURM says of a job: "" where it knows it no more, None where it does not answer."""
    done = subprocess.run(["squeue", "-h", "-t", "all", "-o", "%T", "-j", job], text=True, capture_output=True)
    if done.returncode == 0:
        return done.stdout.strip()
    return "" if "Invalid job id" in done.stderr else None


@contextlib.contextmanager
def _cancelled_on_the_way_out(job: str) -> Iterator[None]:
    try:
        yield
    except BaseException:
        _cancel(job)
        raise


def _cancel(job: str) -> None:
    done = subprocess.run(["scancel", job], text=True, capture_output=True)
    failed = f"could not be cancelled ({done.stderr.strip()}); `scancel {job}` when SLURM answers again"
    say(f"SLURM job {job} {failed if done.returncode else 'was cancelled'}")


def _wait_for_files(arguments: argparse.Namespace, seconds: float) -> None:
    """Until what the job wrote is seen from here: file systems of several nodes take a moment."""
    expected = [value for value in vars(arguments).values() if isinstance(value, str) and os.path.dirname(value)]
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not all(map(os.path.exists, expected)):
        time.sleep(POLL_SECONDS)
    seals.check(seals.project_files(vars(arguments).values()))
