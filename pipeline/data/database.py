"""A database of accuracies: which architecture reached what on which task, with where each number comes from.

Three files: `tasks.json` (the classes of each task), `triples.csv` (a row per architecture and task) and `report.json`
(statistics, digests, what the accuracies are). The times that trainings took are in the table but count in no digest.
"""

from __future__ import annotations

import math
import pathlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.core.artifacts import PathLike, csv_rows, digest, read_json, sha256
from pipeline.core.errors import ArtifactError, ConfigError, UnknownNameError
from pipeline.core.types import SPLITS

COLUMNS = (
    "task", "split", "genotype", "accuracy", "oracle", "seed", "seconds", "source", "space", "params_digest",
)  # fmt: skip
TIMES = ("seconds",)
"""Columns that differ between two runs of the same work."""


@dataclass(frozen=True)
class Task:
    """Some classes of a data set.

    Attributes:
        id: its number, and its place in `Database.tasks`.
        split: "base" for training, "validation", or "novel" for tasks held out from both; no two share a class.
        classes: names of its classes.
    """

    id: int
    split: str
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Triple:
    """What one architecture reached on one task.

    Attributes:
        task: number of the task.
        genotype: text of the architecture.
        accuracy: in per cent, or whatever unit the report names; more is better.
    """

    task: int
    genotype: str
    accuracy: float


@dataclass(frozen=True, eq=False)
class Database:
    """The triples, by split.

    Attributes:
        tasks: in the order of their numbers.
        report: content of report.json.
        digest: names the tasks and the triples, not the time they took.
    """

    tasks: list[Task]
    report: dict[str, Any]
    digest: str
    _triples: Mapping[str, list[Triple]]

    @classmethod
    def open(cls, tasks: PathLike, triples: PathLike, report: PathLike) -> Database:
        """Read the three files and check that they belong together.

        Raises ArtifactError when one is missing, damaged, or of another run than the others.
        """
        facts = read_json(report)
        try:
            wanted = {name: facts["digests"][name] for name in ("tasks", "triples")}
        except (KeyError, TypeError):
            raise ArtifactError(f"{report} is no report of a database: it has no digests. {_again(report)}") from None
        listed = read_tasks(tasks)
        if sha256(tasks) != wanted["tasks"]:
            raise _stranger(tasks, report)
        rows = read_rows(triples)
        if triples_digest(rows) != wanted["triples"]:
            raise _stranger(triples, report)
        by_split: dict[str, list[Triple]] = defaultdict(list)
        for line, row in enumerate(rows, start=2):
            by_split[row["split"]].append(_triple(row, listed, f"{triples}, line {line}"))
        return cls(listed, facts, digest(wanted), dict(by_split))

    @property
    def genotypes(self) -> set[str]:
        """Texts of all its architectures."""
        return {triple.genotype for of_split in self._triples.values() for triple in of_split}

    def triples(self, split: str) -> list[Triple]:
        """The triples of a split, those of a task together. Raises UnknownNameError."""
        if split not in SPLITS:
            raise UnknownNameError("split of a database", split, SPLITS)
        return list(self._triples.get(split, ()))

    def best(self, split: str, fraction: float) -> list[Triple]:
        """The most accurate share of every task's architectures, at least one each, best first in their task.

        Of equal accuracies the one that stands first in the table goes first.

        Raises ConfigError for a fraction outside (0, 1], UnknownNameError for another split.
        """
        if not 0 < fraction <= 1:
            raise ConfigError(f"The best fraction of a task's architectures is {fraction}; it must be in (0, 1].")
        by_task: dict[int, list[Triple]] = defaultdict(list)
        for triple in self.triples(split):
            by_task[triple.task].append(triple)
        return [
            triple
            for of_task in by_task.values()
            for triple in sorted(of_task, key=lambda one: -one.accuracy)[: max(1, round(fraction * len(of_task)))]
        ]


def triples_digest(rows: Sequence[Mapping[str, Any]]) -> str:
    """Hex SHA-256 of the rows of triples.csv as text, without the columns of times."""
    names = [name for name in COLUMNS if name not in TIMES]
    return digest([[str(row[name]) for name in names] for row in rows])


def read_tasks(path: PathLike) -> list[Task]:
    """The tasks of tasks.json. Raises ArtifactError when the file is missing or damaged."""
    try:
        tasks = [_task(one) for one in read_json(path)["tasks"]]
    except (KeyError, TypeError, ValueError):
        raise ArtifactError(f"{path} holds no list of tasks. {_again(path)}") from None
    if [task.id for task in tasks] != list(range(len(tasks))):
        raise ArtifactError(f"The tasks of {path} are not numbered from 0 in order. {_again(path)}")
    splits_of: dict[str, set[str]] = defaultdict(set)
    for task in tasks:
        if task.split not in SPLITS:
            raise ArtifactError(f"Task {task.id} of {path} has the unknown split '{task.split}'. {_again(path)}")
        for name in task.classes:
            splits_of[name].add(task.split)
    shared = [name for name, splits in splits_of.items() if len(splits) > 1]
    if shared:
        raise ArtifactError(
            f"Class '{shared[0]}' of {path} is in tasks of several splits ({', '.join(sorted(splits_of[shared[0]]))}); "
            f"held-out tasks would not be new. {_again(path)}"
        )
    return tasks


def _task(content: Mapping[str, Any]) -> Task:
    id, split, classes = content["id"], content["split"], content["classes"]
    if type(id) is not int or not isinstance(split, str) or not isinstance(classes, list):
        raise ValueError("a task of another form")
    if not classes or not all(isinstance(name, str) for name in classes):
        raise ValueError("a task without classes, or with others than names")
    return Task(id, split, tuple(classes))


def read_rows(path: PathLike) -> list[dict[str, str]]:
    """The rows of triples.csv, all as text. Raises ArtifactError when the file is missing or damaged."""
    try:
        text = pathlib.Path(path).read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing. {_again(path, 'Run')}") from None
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{path} is damaged ({error}). {_again(path)}") from None
    try:
        rows = csv_rows(text, COLUMNS)
    except ValueError as error:
        raise ArtifactError(f"{path} is no table of triples: {error}. {_again(path)}") from None
    twice = [key for key, count in Counter((row["task"], row["genotype"]) for row in rows).items() if count > 1]
    if twice:
        raise ArtifactError(f"{path} has {twice[0][1]} on task {twice[0][0]} more than once. {_again(path)}")
    return rows


def _triple(row: Mapping[str, str], tasks: Sequence[Task], where: str) -> Triple:
    try:
        task, accuracy = int(row["task"]), float(row["accuracy"])
    except ValueError:
        raise ArtifactError(f"{where}: task or accuracy is no number. Make the database again.") from None
    if not 0 <= task < len(tasks) or tasks[task].split != row["split"]:
        raise ArtifactError(f"{where}: there is no {row['split']} task {task}. Make the database again.")
    if not math.isfinite(accuracy):
        raise ArtifactError(f"{where}: the accuracy is {row['accuracy']}. Make the database again.")
    return Triple(task, row["genotype"], accuracy)


def _again(path: PathLike, begin: str = "Delete it and run") -> str:
    return f"{begin} the database stage (see `snakemake -n {path}`)."


def _stranger(path: PathLike, report: PathLike) -> ArtifactError:
    return ArtifactError(
        f"{path} is not the file that {report} describes: it was changed or comes from another run. {_again(path)}"
    )
