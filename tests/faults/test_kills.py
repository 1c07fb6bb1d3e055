"""Every long stage, killed ten times at random moments, ends with the files of an undisturbed run, to the bit.

SIGTERM is what a scheduler sends first: the stage must leave by itself, with the code 143 (until it listens, the signal
ends it). Stages must go on from what they have saved. SIGKILL comes to the stage
alone, as from a system short of memory, or to it and its workers at once, as in a power cut. After some of the latter
the last checkpoint is torn, too: cut off, or with a bit changed.

Compared are all files that a stage writes, but for `cost.json`, the columns `seconds` of tables and the entries `cost`,
`provenance`, `wall_seconds` and `seconds` of records, which tell times and the machine.
"""

import random
import signal
import time

import pytest

from tests.faults.server import Server
from tests.faults.small_jobs import SET, Jobs

pytestmark = pytest.mark.slow
N_KILLS = 10
N_MOST_RUNS = 40
SEED = 20
STAGES = [
    f"fetch_{SET}",
    f"prepare_{SET}",
    f"feature_net_{SET}",
    f"supernet_tnas_{SET}",
    f"database_{SET}",
    f"search_metantk_{SET}",
    f"search_tnas_{SET}",
    f"train_metantk_{SET}",
    f"evaluate_metantk_{SET}",
    f"meta_train_generator_{SET}",
    f"meta_train_predictor_{SET}",
    f"meta_learn_tnas_{SET}",
    f"adapt_tnas_{SET}",
    f"search_metad2a_{SET}",
]
POOLED = (f"database_{SET}", f"search_metantk_{SET}")
"""Stages whose workers are processes, which must die with them; how many there are changes no result."""
WITHOUT_STATE = (f"fetch_{SET}",)
"""Stages that begin anew: fetch keeps what it has downloaded, and this set is not downloaded."""
TORN: dict[str, int] = {}
"""Stage -> torn checkpoints that a later run saw."""
LEFT, TERMINATED, KILLED = 128 + signal.SIGTERM, -signal.SIGTERM, -signal.SIGKILL


@pytest.fixture(scope="module")
def server():
    with Server() as server:
        yield server


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, server):
    """The small project, whose jobs are made as they are needed; and how long each took."""
    jobs, seconds = Jobs(tmp_path_factory.mktemp("undisturbed") / "project"), {}

    def made(name: str) -> tuple[Jobs, float]:
        """The project with this job done, and those before it."""
        for other, job in jobs.jobs.items():
            if other not in seconds:
                jobs.use_threads(1)
                seconds[other] = server.finish(jobs.folder, job.argv)
            if other == name:
                break
        return jobs, seconds[name]

    return made


def wait_for_progress(run, checkpoint, seconds: float) -> None:
    """Until a new checkpoint is there, so many seconds have passed, or its life is over."""

    def saved() -> int | None:
        return checkpoint.stat().st_mtime_ns if checkpoint.exists() else None

    known, deadline = saved(), time.monotonic() + seconds
    while run.alive and saved() in (None, known) and time.monotonic() < deadline:
        time.sleep(0.002)


def tear(path, rng) -> None:
    content = bytearray(path.read_bytes())
    place = rng.randrange(len(content))
    if rng.random() < 0.5:
        del content[place:]
    else:
        content[place] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_killed_ten_times_ends_as_an_undisturbed_one(name, undisturbed, server, capsys):
    rng = random.Random(f"{SEED} {name}")
    jobs, life = undisturbed(name)
    job, folder = jobs.jobs[name], jobs.folder
    checkpoint = folder / job.checkpoint
    previous = checkpoint.with_name(f"{checkpoint.name}.previous")
    files, wanted = jobs.bytes_of(job), jobs.contents(job)
    told = {"SIGTERM": 0, "SIGKILL": 0, "whole group": 0}
    torn, recovered, resumed, left, ended, tearing = 0, 0, 0, 0, 0, False
    going_on = f"going on from the state before, {job.checkpoint}.previous"

    def compare() -> None:
        found = jobs.contents(job)
        assert [path for path in wanted if found[path] != wanted[path]] == []
        assert not checkpoint.exists() and not previous.exists()

    jobs.use_threads(2 if name in POOLED else 1)
    for _ in range(N_MOST_RUNS):
        # as both tools do before they start a job
        jobs.remove(job)
        run, started = server.start(folder, job.argv), time.monotonic()
        if rng.random() < 0.25:
            time.sleep(rng.uniform(0, life))
        else:
            # the work between two kills is about a tenth, so that they are spread over the whole of it
            wait_for_progress(run, checkpoint, rng.uniform(life / 2, life))
            time.sleep(rng.uniform(0, life / N_KILLS))
        how = rng.choice(list(told))
        run.kill(signal.SIGTERM if how == "SIGTERM" else signal.SIGKILL, group=how == "whole group")
        code, log = run.wait(), run.log.read_text()
        resumed += "going on from " in log
        if tearing and "is damaged" in log:
            recovered, tearing = recovered + 1, False
            assert going_on in log
        if code == 0:
            # how fast the machine is changes
            ended, life = ended + 1, min(life, time.monotonic() - started)
            compare()
            continue
        wanted_codes = (LEFT, TERMINATED) if how == "SIGTERM" else (KILLED,)
        assert code in wanted_codes, f"{how} gave {code}:\n{log[-3000:]}"
        assert code != LEFT or "stopped by SIGTERM" in log
        assert code != TERMINATED or not log, f"SIGTERM was not listened to:\n{log[-3000:]}"
        left += code == LEFT
        told[how] += 1
        if how == "whole group" and checkpoint.exists() and previous.exists() and not tearing:
            tear(checkpoint, rng)
            torn, tearing = torn + 1, True
        if sum(told.values()) == N_KILLS:
            break
    jobs.remove(job)
    server.finish(folder, job.argv)
    resumed += "going on from " in run.log.read_text()
    if tearing:
        recovered += 1
        assert going_on in run.log.read_text()
    compare()
    jobs.restore(files)
    kills = ", ".join(f"{how} {n}" for how, n in told.items())
    with capsys.disabled():
        print(f"\n{name}, seed {SEED}: {sum(told.values())} kills survived ({kills}; {torn} checkpoints torn, "
              f"{recovered} seen by a later run); {resumed} runs went on from a state; {ended} ended before they were "
              "killed", end=" ")  # fmt: skip
    TORN[name] = recovered
    assert sum(told.values()) == N_KILLS
    assert left or not told["SIGTERM"]
    assert resumed or name in WITHOUT_STATE


def test_torn_checkpoints_were_among_what_was_survived():
    if missing := [name for name in STAGES if name not in TORN]:
        pytest.skip(f"only some stages were killed, {', '.join(missing)} were not")
    assert sum(TORN.values()) > len(STAGES)
