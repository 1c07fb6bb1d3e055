"""The main job on a real SLURM cluster, disturbed in every way a cluster disturbs: the results stay the same."""

import copy
import csv
import hashlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable

import psutil
import pytest
import yaml

from pipeline.stages.site import submitted_rules
from tests.cluster.slurm import Cluster, ask
from tests.data.tiny_sources import folder_files, write
from tests.e2e.project import SMALL, Project

pytestmark = pytest.mark.slow

SITE = {
    "groups": {
        "light": {"partition": "cpu", "mem_mb": 400, "minutes": 5, "together": 3},
        "cpu": {"partition": "cpu", "mem_mb": 500, "minutes": 10},
        "gpu": {"partition": "gpu", "gpus": 1, "gpu_model": "toy", "mem_mb": 600, "max_mem_mb": 1000, "minutes": 20},
    }
}
# little to search in: most of the time is the cluster's; but search and training can be caught half-way
SMALL_SPACE = {"space": "nas_bench_201"}
QUICK_SEARCH = {
    **SMALL["search"]["metantk"], **SMALL_SPACE,
    "image_size": 8, "n_region_samples": 20, "prune_number": 1, "repeat": 2,
}  # fmt: skip
PARAMS = {
    **SMALL,
    "search": {"metantk": QUICK_SEARCH, "random": {**SMALL_SPACE, "n_architectures": 1}},
    "train": {"epochs": 4},
}
CANCELLED = "CANCELLED"
PROFILE = (
    # a test run in the background may ignore this signal, and so would what it starts
    "env", "--default-signal=INT",
    "snakemake", "--workflow-profile", "workflow/profiles/slurm",
    "--slurm-init-seconds-before-status-checks", "1",
)  # fmt: skip


OF_TIME_AND_PLACE = re.compile(r"second|memory|hardware|^commits?$|^files$|^sha256$")


def timeless(project: Project, name: str):
    """What a file says, without what differs between any two runs: times, memory, hardware, digests of such files."""

    def kept(value):
        if isinstance(value, dict):
            return {key: kept(item) for key, item in value.items() if not OF_TIME_AND_PLACE.search(key)}
        return [kept(item) for item in value] if isinstance(value, list) else value

    path = project.folder / name
    if path.suffix == ".json":
        return kept(json.loads(path.read_text()))
    if path.suffix == ".csv":
        with open(path, newline="") as file:
            return kept(list(csv.DictReader(file)))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def made_files(project: Project) -> list[str]:
    """All artifacts but the page, which repeats the results with their times."""
    folders = [project.folder / name for name in ("data", "search", "models", "results")]
    paths = [path for folder in folders for path in folder.rglob("*") if path.is_file() and path.name != "report.html"]
    return sorted(str(path.relative_to(project.folder)) for path in paths)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    cluster = Cluster(tmp_path_factory.mktemp("cluster") / "slurm")
    # a test run that is told to end takes its cluster with it
    before = signal.signal(signal.SIGTERM, lambda *_: pytest.exit("told to end"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        signal.signal(signal.SIGTERM, before)


def site_table(project: Project) -> str:
    """The project's own table with the groups of the cluster here; returns its path."""
    table = yaml.safe_load((project.folder / "workflow/profiles/slurm/site.yaml").read_text())
    table |= copy.deepcopy(SITE)
    table["rules"]["gpu"] += table["rules"].pop("gpu_long")
    path = project.folder.parent / "site.yaml"
    path.write_text(yaml.safe_dump(table))
    return str(path)


class Run:
    """A run through the profile, and what is done to its jobs while it goes on.

    Args:
        project: where it runs, with the cluster's table at `site`.
    """

    def __init__(self, cluster: Cluster, project: Project, site: str):
        self.cluster, self.project, self.asked = cluster, project, 0.0
        project.environment["FEWSHOT_NAS_SITE"] = site
        self.begin()

    def begin(self, *targets: str) -> None:
        self.begun = time.time()
        self.running = self.project.start(*PROFILE, *targets)

    def when_saved(self, **actions: Callable[[str], None]) -> None:
        """Do something to each of these jobs (search_metantk) once it has saved a checkpoint in this run."""
        while actions:
            assert self.running.poll() is None, f"no checkpoint was seen of {', '.join(actions)}:\n{self.printed()}"
            for job in list(actions):
                path = self.project.folder / f"build/checkpoints/{job}_doublemnist.pt"
                if path.exists() and path.stat().st_mtime > self.begun:
                    actions.pop(job)(job)
            self.release()
            time.sleep(0.02)

    def interrupt(self, job: str = "") -> None:
        """As Ctrl-C does."""
        self.running.send_signal(signal.SIGINT)
        assert self.running.wait(timeout=120) != 0

    def preempt(self, job: str) -> None:
        """As the scheduler does where a partition of higher priority needs the node."""
        rule, method = job.split("_")
        submitted = [
            one for one in self.cluster.jobs()
            if one["Comment"] in (f"rule_{rule}_wildcards_{method}_doublemnist", f"dvc_{job}_doublemnist")
        ]  # fmt: skip
        assert submitted[-1]["JobState"] == "RUNNING"
        ask("scontrol", "requeue", submitted[-1]["JobId"])

    def kill(self, job: str) -> None:
        """As a system short of memory does to the process of a stage."""
        (process,) = (
            process
            for process in psutil.process_iter(["cmdline", "cwd"])
            if f"build/params/{job}_doublemnist.json" in (process.info["cmdline"] or [])
            and process.info["cmdline"][1:3] == ["-m", "pipeline"]
            and process.info["cwd"] == str(self.project.folder)
            # one that has submitted itself only waits
            and "FEWSHOT_NAS_SUBMIT" not in process.environ()
        )
        process.kill()

    def release(self) -> None:
        """Let pre-empted jobs start at once: SLURM keeps them back for two minutes."""
        if time.monotonic() < self.asked + 1:
            return
        self.asked = time.monotonic()
        for line in ask("squeue", "-h", "-t", "PD", "-o", "%i %r", check=False).splitlines():
            if line.endswith("BeginTime"):
                ask("scontrol", "update", f"job={line.split()[0]}", "StartTime=now", check=False)

    def finish(self) -> None:
        while self.running.poll() is None:
            self.release()
            time.sleep(0.2)
        assert self.running.returncode == 0, self.printed()

    def printed(self) -> str:
        return (self.project.folder.parent / "started.log").read_text()[-6000:]


def end(running: subprocess.Popen) -> None:
    """End a run of Snakemake and what it has started here, whatever it is doing."""
    if running.poll() is None:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """The same grid made without a cluster, begun here and waited for where it is needed."""
    project = Project.copied(tmp_path_factory.mktemp("quiet") / "project", PARAMS)
    project.running = project.start("snakemake", "--cores", "1")
    try:
        yield project
    finally:
        end(project.running)


@pytest.fixture(scope="module")
def disturbed(cluster, quiet, tmp_path_factory):
    """A run that has made the whole grid through the profile while its jobs were disturbed."""
    project = Project.copied(tmp_path_factory.mktemp("disturbed") / "project", PARAMS)
    run = Run(cluster, project, site_table(project))
    try:
        run.when_saved(search_metantk=run.interrupt)
        run.left_after_interrupt = cluster.left_after(30)
        run.begin()
        run.when_saved(search_metantk=run.preempt, train_metantk=run.preempt, train_random=run.kill)
        run.finish()
        yield run
    finally:
        # the cluster cancels the jobs
        end(run.running)


def test_interrupting_snakemake_cancels_its_jobs(disturbed):
    assert disturbed.left_after_interrupt == []
    assert any(job["JobState"] == CANCELLED for job in disturbed.cluster.jobs_of("search"))


def test_pre_empted_jobs_start_again_under_their_number_and_end_well(disturbed):
    for rule in ("search", "train"):
        (job,) = (job for job in disturbed.cluster.jobs_of(rule) if job["Restarts"] != "0")
        assert job["Restarts"] == "1" and job["JobState"] == "COMPLETED"


def test_a_job_that_failed_is_submitted_again_with_more_memory_and_time(disturbed):
    jobs = disturbed.cluster.jobs_of("train")
    failed, again = (
        job for job in jobs if job["Comment"].endswith("random_doublemnist") and job["JobState"] != CANCELLED
    )
    assert (failed["JobState"], failed["MinMemoryNode"], failed["TimeLimit"]) == ("FAILED", "600M", "00:20:00")
    assert (again["JobState"], again["MinMemoryNode"], again["TimeLimit"]) == ("COMPLETED", "1000M", "00:40:00")


def test_every_job_asked_for_what_its_group_says_and_light_ones_were_not_submitted(disturbed):
    groups = yaml.safe_load((disturbed.project.folder.parent / "site.yaml").read_text())["rules"]
    jobs = disturbed.cluster.jobs()
    submitted = {job["Comment"].split("_")[1] for job in jobs}
    assert submitted == {"prepare", "episodes", "search", "train", "evaluate"}
    for job in jobs:
        (name,) = (group for group, rules in groups.items() if job["Comment"].split("_")[1] in rules)
        assert job["Partition"] == SITE["groups"][name]["partition"]
        assert job.get("TresPerJob") == ("gres:gpu:toy:1" if name == "gpu" else None)
        assert job["CPUs/Task"] == "1" and job["Requeue"] == "1"


def test_the_results_are_those_of_an_undisturbed_run_without_a_cluster(disturbed, quiet):
    assert quiet.running.wait() == 0, (quiet.folder.parent / "started.log").read_text()[-6000:]
    assert made_files(disturbed.project) == made_files(quiet)
    for name in made_files(quiet):
        assert timeless(disturbed.project, name) == timeless(quiet, name), name
    for method in ("metantk", "random"):
        assert disturbed.project.result(method) == quiet.result(method)
    assert not list((disturbed.project.folder / "build/checkpoints").iterdir())


def test_disturbed_jobs_went_on_from_their_checkpoints(disturbed):
    for job in ("search_metantk", "train_metantk", "train_random"):
        name = f"{job}_doublemnist"
        log = (disturbed.project.folder / f"logs/{name}.log").read_text()
        assert f"going on from build/checkpoints/{name}.pt" in log, log


def test_what_the_jobs_printed_is_found(disturbed):
    """A log for each job, and SLURM's own for those that failed."""
    logs = disturbed.project.folder / "logs"
    for job in ("prepare_doublemnist", "search_metantk_doublemnist", "train_random_doublemnist"):
        assert (logs / f"{job}.log").stat().st_size > 0
    assert list(logs.glob("slurm/rule_train/random_doublemnist/*.log"))


def test_after_a_run_through_the_profile_dvc_has_nothing_to_do(disturbed):
    project = disturbed.project
    assert "up to date" in project.run("dvc", "status")
    project.edit({"evaluate": {"n_resamples": 21}})
    before = len(disturbed.cluster.jobs())
    disturbed.begin()
    disturbed.finish()
    made = disturbed.cluster.jobs()[before:]
    assert sorted(job["Comment"] for job in made) == [
        f"rule_evaluate_wildcards_{method}_doublemnist" for method in ("metantk", "random")
    ]
    assert "up to date" in project.run("dvc", "status")
    assert project.dvc_repro() == []


def test_dvc_repro_submits_its_stages_with_the_same_table_and_tries(disturbed):
    """A training is pre-empted and one is killed; Snakemake then has nothing to do."""
    project, cluster = disturbed.project, disturbed.cluster
    project.edit({"train": {"epochs": 5}})
    project.environment["FEWSHOT_NAS_SUBMIT"] = "slurm"
    before = len(cluster.jobs())
    try:
        disturbed.begun = time.time()
        disturbed.running = project.start("dvc", "repro")
        disturbed.when_saved(train_metantk=disturbed.preempt, train_random=disturbed.kill)
        disturbed.finish()
    finally:
        end(disturbed.running)
        del project.environment["FEWSHOT_NAS_SUBMIT"]
    jobs = {name: [] for name in ("train_metantk", "train_random", "evaluate_metantk", "evaluate_random")}
    for job in cluster.jobs()[before:]:
        jobs[job["Comment"].removeprefix("dvc_").removesuffix("_doublemnist")].append(job)
    failed, again = jobs.pop("train_random")
    assert (failed["JobState"], failed["MinMemoryNode"], failed["TimeLimit"]) == ("FAILED", "600M", "00:20:00")
    assert (again["JobState"], again["MinMemoryNode"], again["TimeLimit"]) == ("COMPLETED", "1000M", "00:40:00")
    assert {name: [job["Restarts"] for job in of] for name, of in jobs.items()} == {
        "train_metantk": ["1"], "evaluate_metantk": ["0"], "evaluate_random": ["0"],
    }  # fmt: skip
    for job in (failed, again, *(job for of in jobs.values() for job in of)):
        assert (job["Partition"], job["TresPerJob"], job["CPUs/Task"]) == ("gpu", "gres:gpu:toy:1", "1")
    assert "going on from" in (project.folder / "logs/train_random_doublemnist.log").read_text()
    assert project.snakemake("-n") == []
    assert "up to date" in project.run("dvc", "status")


def test_the_rules_that_the_table_must_hold_are_those_that_snakemake_knows(quiet):
    printed = quiet.run("snakemake", "--list-rules", "--quiet")
    known = set(re.findall(r"^\w+$", printed, re.MULTILINE))
    assert set(submitted_rules()) == known - {
        "all", "default", "compare", "contrast", "fetch", "look_up", "report", "report_lookups",
    }  # fmt: skip


def test_jobs_of_seconds_of_several_data_sets_are_one_job_of_the_cluster(disturbed, tmp_path):
    cluster, names = disturbed.cluster, [f"pictures{number}" for number in range(3)]
    for file, content in folder_files().items():
        write(tmp_path / "pictures" / file, content)
    folder = {"path": str(tmp_path / "pictures"), "base": 5, "validation": 2, "novel": 5}
    params = {
        "data": {"folders": dict.fromkeys(names, folder)},
        "prepare": {"max_image_size": 8, "min_images_per_class": 2},
        "episodes": {"n_episodes": 4, "n_query": 2, "k_shots": [1]},
    }
    project = Project.copied(tmp_path / "project", params)
    project.environment["FEWSHOT_NAS_SITE"] = disturbed.project.environment["FEWSHOT_NAS_SITE"]
    project.snakemake(*(f"data/prepared/{name}.manifest.json" for name in names))
    before, targets = len(cluster.jobs()), [f"data/episodes/{name}.csv" for name in names]
    project.run(*PROFILE, *targets)
    (job,) = cluster.jobs()[before:]
    assert job["JobState"] == "COMPLETED" and job["NumCPUs"] == "3"
    assert all((project.folder / target).is_file() for target in targets)


def test_how_many_jobs_the_cluster_ran(disturbed, capsys):
    jobs = disturbed.cluster.jobs()
    requeued = [job for job in jobs if job["Restarts"] != "0"]
    with capsys.disabled():
        print(f"\n{len(jobs)} SLURM jobs ran, {len(requeued)} of them were requeued")
    assert disturbed.cluster.active() == []
    assert len(requeued) == 3
