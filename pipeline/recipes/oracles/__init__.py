"""Oracles: what an architecture is worth on a task, one number each; one file per oracle.

An oracle is a frozen dataclass of knobs with

- `needs_table`: whether it looks into a table of published accuracies;
- `knows_tasks`: whether an architecture's number depends on the task; where it does not, tasks are no replicates;
- `unit`: of its numbers, of which more is better;
- `check(bench)`: refuses, before any work, a bench it cannot use;
- `facts(bench)`: what a reader of the numbers has to know, in JSON's types;
- `__call__(question, bench)`: the number, a function of its arguments alone. It raises TrainingError or ScoreError
  where there is none.

The entries are registered as NAME_oracle: everyday words such as `train` stand in many modules, and a module that
names a registry entry is taken to use its code (see `pipeline.core.code`).
"""

from dataclasses import dataclass
from typing import Any

from pipeline.core.registry import Registry
from pipeline.data.accuracy_tables import AccuracyTable
from pipeline.data.prepared import PreparedSet

ORACLES = Registry("recipes/oracles", "oracle")
ENDING = "_oracle"


def names() -> list[str]:
    return [name.removesuffix(ENDING) for name in ORACLES.names()]


def get(name: str) -> Any:
    """The oracle called `name`, e.g. "train". Raises UnknownNameError."""
    return ORACLES.get(entry_of(name))


def entry_of(name: str) -> str:
    """Under which name an oracle is registered."""
    return name + ENDING


@dataclass(frozen=True)
class Question:
    """One architecture on one task.

    Attributes:
        genotype: the architecture's text.
        classes: class ids of the task.
        seed: of all draws that are this question's own.
    """

    genotype: str
    classes: tuple[int, ...]
    seed: int


@dataclass(frozen=True)
class Bench:
    """What all questions of a run share.

    Attributes:
        space: of the architectures.
        prepared: the source of the tasks' classes.
        seed: run seed, of the draws that all questions share, e.g. which images are held out.
        device: torch.device that computes.
        table: published accuracies of the space; None where the oracle needs none.
        table_facts: what the JSON beside the table says.
    """

    space: Any
    prepared: PreparedSet
    seed: int
    device: Any
    table: AccuracyTable | None = None
    table_facts: dict[str, Any] | None = None
