"""A copy of the project in a folder of its own, made small, with both tools at hand."""

import csv
import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(sys.executable).parent
PARTS = ("Snakefile", "dvc.yaml", "params.yaml", "profiles", "workflow", "pipeline", ".dvcignore", ".gitignore")

# The real workflow on the real default images, with as little of everything as keeps each stage meaningful.
SMALL = {
    "grid": {"datasets": ["doublemnist"], "methods": ["metantk", "random"]},
    "compute": {"threads": 1},
    "prepare": {"max_images_per_class": 24, "max_image_size": 16},
    "episodes": {"n_episodes": 12, "n_query": 3},
    "network": {"channels": 4, "n_cells": 3},
    "search": {
        "metantk": {
            "channels": 4, "repeat": 1, "prune_number": 6, "n_region_samples": 60,
            "image_size": 16, "tasks_per_batch": 1,
        },
        "random": {"n_architectures": 2},
    },
    "train": {"epochs": 2},
    "evaluate": {"n_augmented_support": 1, "n_untrained_episodes": 6, "n_resamples": 20},
}  # fmt: skip


class Project:
    """One working copy of the project.

    Args:
        folder: where it is made.
    """

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        # a home of its own keeps the tools' caches and locks apart from the user's
        home = folder.parent / "home"
        home.mkdir(exist_ok=True)
        self.environment = {
            **os.environ,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(home),
            "GIT_AUTHOR_NAME": "test", "GIT_AUTHOR_EMAIL": "test@example.org",
            "GIT_COMMITTER_NAME": "test", "GIT_COMMITTER_EMAIL": "test@example.org",
        }  # fmt: skip
        for name in ("DVC_STAGE", "DVC_ROOT", "MAKEFLAGS"):
            self.environment.pop(name, None)

    @classmethod
    def plain(cls, folder: pathlib.Path, params: dict) -> "Project":
        """A fresh copy of this checkout with `params` laid over params.yaml."""
        folder.mkdir(parents=True)
        for name in PARTS:
            source, target = ROOT / name, folder / name
            if source.is_symlink():
                target.symlink_to(os.readlink(source))
            elif source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        project = cls(folder)
        project.edit(params)
        return project

    @classmethod
    def copied(cls, folder: pathlib.Path, params: dict) -> "Project":
        """The same under git and DVC."""
        project = cls.plain(folder, params)
        project.run("git", "init", "-q", ".")
        project.run("dvc", "init", "-q")
        project.run("dvc", "config", "core.analytics", "false")
        project.save("start")
        return project

    def save(self, message: str) -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", message, "--allow-empty")

    def run(self, *command: str, ok: bool = True, **more: str) -> str:
        """Run a command here; returns what it printed. With `ok`, a failure fails the test and shows the output."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**self.environment, **more},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.code = done.returncode
        assert not ok or done.returncode == 0, (
            f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-6000:]}"
        )
        return done.stdout

    def params(self) -> dict:
        return yaml.safe_load((self.folder / "params.yaml").read_text())

    def edit(self, changes: dict) -> None:
        """Lay nested values over params.yaml."""

        def merge(into: dict, changes: dict) -> dict:
            for key, value in changes.items():
                nested = isinstance(value, dict) and isinstance(into.get(key), dict)
                into[key] = merge(into[key], value) if nested else value
            return into

        merged = merge(self.params(), changes)
        (self.folder / "params.yaml").write_text(yaml.safe_dump(merged, sort_keys=False))

    def json(self, name: str) -> dict:
        return json.loads((self.folder / name).read_text())

    def result(self, method: str) -> list:
        """What a method found, trained and reached, to be compared between projects."""
        stem = f"{method}_doublemnist"
        files = (f"search/{stem}/genotype.json", f"models/{stem}/weights.safetensors")
        digests = [hashlib.sha256((self.folder / name).read_bytes()).hexdigest() for name in files]
        result = self.json(f"results/{stem}.json")
        return [*digests, *(result[key] for key in ("accuracy", "prototypes", "untrained"))]

    def start(self, *command: str) -> subprocess.Popen:
        """Start a command here in a process group of its own; its output goes to the file `started.log`."""
        with open(self.folder.parent / "started.log", "w") as log:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def snakemake(self, *arguments: str, ok: bool = True, **more: str) -> list[str]:
        """Run Snakemake; returns the sorted names of the jobs that ran (with -n: that would run)."""
        return jobs_in(self.run("snakemake", "--cores", "2", "--printshellcmds", *arguments, ok=ok, **more))

    def dvc_repro(self, *arguments: str) -> list[str]:
        """Run `dvc repro`; returns the sorted names of the jobs that ran, `freeze` left out."""
        return jobs_in(self.run("dvc", "repro", *arguments))


def jobs_in(printed: str) -> list[str]:
    """Jobs by the names of their parameter files (search_metantk_doublemnist), from the commands a tool prints."""
    return sorted(set(re.findall(r"python -m pipeline .*--params build/params/(\S+)\.json", printed)))


DVC_JOBS = """
import json, pathlib
from dvc.repo import Repo
with Repo() as repo:
    root = pathlib.Path(repo.root_dir)
    rel = lambda item: str(pathlib.Path(item.fs_path).relative_to(root))
    print(json.dumps({" ".join(s.cmd.split()): [[rel(o) for o in s.outs], [rel(d) for d in s.deps if d.def_path]]
                      for s in repo.index.stages if s.addressing != "freeze"}))
"""


def described_jobs(project: Project) -> tuple[dict[str, tuple[set, set]], dict[str, tuple[set, set]]]:
    """By command what it writes and reads, as Snakemake and as DVC describe the jobs of a finished project."""
    printed = project.run("snakemake", "--detailed-summary", "--cores", "1")
    rows = csv.DictReader(io.StringIO(printed[printed.index("output_file") :]), delimiter="\t")
    snakemake_jobs: dict = {}
    for row in rows:
        command = " ".join(row["shellcmd"].split()).split(" 2>&1 | tee ")[0]
        outputs, inputs = snakemake_jobs.setdefault(command, (set(), set()))
        outputs.add(row["output_file"])
        # DVC depends on the folder of the rows, Snakemake on the rows
        shown = " report " in command
        inputs.update(
            "results/rows" if shown and name.startswith("results/rows/") else name
            for name in filter(None, row["input-file(s)"].split(","))
        )
    dvc_jobs = json.loads(project.run("python", "-c", DVC_JOBS).splitlines()[-1])
    return snakemake_jobs, {command: (set(outs), set(deps)) for command, (outs, deps) in dvc_jobs.items()}
