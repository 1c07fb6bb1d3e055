"""Accuracies of all architectures of a space, as benchmarks publish them: nothing is trained, all is looked up."""

from __future__ import annotations

import csv
import gzip
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from pipeline.core.artifacts import PathLike
from pipeline.core.errors import ArtifactError, DataError, UnknownNameError

PARTS = ("valid", "test")
N_EPOCHS = 200
_MEAN = rf"([a-z0-9]+)_({'|'.join(PARTS)})(?:_([0-9]{{1,6}})epochs)?"
_COLUMN = re.compile(_MEAN)
_SEEDS = re.compile(rf"{_MEAN}_seeds(?:_[a-z0-9_]+)?")
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, eq=False)
class AccuracyTable:
    """Accuracies as fractions, by architecture, data set and part of the data.

    Attributes:
        source: the file, for messages.
        texts: the architectures, in the source's order.
        means: (data set, part) -> mean over training seeds, shape (n_architectures,).
        seeds: (data set, part) -> per architecture the accuracies of single seeds; holds what the source has.
        n_epochs: how long the networks were trained.
        others: the same architectures trained for another number of epochs, by that number.
    """

    source: str
    texts: Sequence[str]
    means: Mapping[tuple[str, str], np.ndarray]
    seeds: Mapping[tuple[str, str], Sequence[tuple[float, ...]]]
    n_epochs: int
    others: Mapping[int, AccuracyTable] = field(default_factory=dict)

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {text: row for row, text in enumerate(self.texts)}

    @property
    def datasets(self) -> tuple[str, ...]:
        """Data sets the source has accuracies of."""
        return tuple(dict.fromkeys(dataset for dataset, _ in self.means))

    def row_of(self, text: str) -> int:
        """Place of an architecture in the source. Raises DataError when it is not there."""
        if text not in self._rows:
            raise DataError(
                f"{self.source} has no architecture {text!r}. It holds {len(self.texts)}, written like {self.texts[0]}."
            )
        return self._rows[text]

    def column(self, dataset: str, part: str = "test") -> np.ndarray:
        """Mean accuracy of every architecture, in the source's order. Raises UnknownNameError for what is not there."""
        if dataset not in self.datasets:
            raise UnknownNameError("data set", dataset, self.datasets, f"({self.source} has no other accuracies.)")
        if (dataset, part) not in self.means:
            known = [name for of, name in self.means if of == dataset]
            raise UnknownNameError("part", part, known, f"({self.source}, {dataset})")
        return self.means[dataset, part]

    def accuracy(
        self, text: str, dataset: str, part: str = "test", *, seed: int | None = None, epoch: int | None = None
    ) -> float:
        """Accuracy of one architecture, mean over seeds unless one is named by its number from 0.

        Raises DataError when the source lacks that seed or epoch; UnknownNameError for another data set or part.
        """
        row, column = self.row_of(text), self.column(dataset, part)
        if epoch in self.others:
            return self.others[epoch].accuracy(text, dataset, part, seed=seed)
        if epoch is not None and epoch != self.n_epochs:
            known = " and ".join(map(str, sorted({self.n_epochs, *self.others})))
            raise DataError(
                f"{self.source} has accuracies after {known} epochs only; epoch {epoch} was asked for. Ask for one of "
                "those, or without an epoch."
            )
        if seed is None:
            return float(column[row])
        of_seeds = self.seeds[dataset, part][row] if (dataset, part) in self.seeds else ()
        if not 0 <= seed < len(of_seeds):
            held = f"{len(of_seeds)} single seeds" if of_seeds else "no single seeds, only their mean,"
            raise DataError(f"{self.source} has {held} of {text} on {dataset} ({part}); seed {seed} is not there.")
        return of_seeds[seed]

    def rank(self, text: str, dataset: str, part: str = "test") -> int:
        """1 for the most accurate architecture; one more than the number of those that are better."""
        column = self.column(dataset, part)
        return 1 + int((column > column[self.row_of(text)]).sum())

    def best(self, dataset: str, part: str = "test") -> tuple[str, float]:
        """The most accurate architecture and its accuracy."""
        column = self.column(dataset, part)
        row = int(column.argmax())
        return self.texts[row], float(column[row])

    def regret(self, text: str, dataset: str, part: str = "test") -> float:
        """Accuracy of the best architecture less that of this one."""
        column = self.column(dataset, part)
        return float(column.max() - column[self.row_of(text)])


def column_name(dataset: str, part: str, n_epochs: int = N_EPOCHS, *, seeds: bool = False) -> str:
    """The column of a table: `cifar10_test` after 200 epochs, `cifar10_test_12epochs`, and `..._seeds`."""
    length = "" if n_epochs == N_EPOCHS else f"_{n_epochs}epochs"
    return f"{dataset}_{part}{length}{'_seeds' if seeds else ''}"


def canonical_name(name: str) -> str | None:
    """A column's name as `column_name` gives it, or None when it holds no accuracies."""
    for pattern, seeds in ((_COLUMN, False), (_SEEDS, True)):
        if match := pattern.fullmatch(name):
            dataset, part, n_epochs = match.groups()
            return column_name(dataset, part, int(n_epochs or N_EPOCHS), seeds=seeds)
    return None


def read_compact_csv(path: PathLike) -> AccuracyTable:
    """A table with a row per architecture: `index`, `arch_str`, and per cent in columns such as `cifar10_test`.

    These are accuracies after 200 epochs; `cifar10_test_12epochs` and the like hold those of shorter trainings. Columns
    such as `cifar10_test_seeds` hold the accuracies of single seeds, parted by semicolons. Other columns are passed
    over. The file may be packed with gzip.

    Raises ArtifactError when the file is missing or damaged, DataError naming the line of a value that cannot be.
    """
    rows = read_rows(path)
    names = [name for name in rows[0] if name] if rows else []
    if not {"index", "arch_str"} <= set(names) or not any(_is_main(name) for name in names):
        raise DataError(
            f"{path} is no table of accuracies: it has the columns {', '.join(names) or 'none'}; needed are index, "
            "arch_str and at least one like cifar10_test."
        )
    texts = _texts(rows, path)
    means, seeds = defaultdict(dict), defaultdict(dict)
    for name in names:
        if match := _COLUMN.fullmatch(name):
            column = np.array([_fraction(row[name], path, i) for i, row in enumerate(rows)])
            means[int(match[3] or N_EPOCHS)][match[1], match[2]] = column
        elif match := _SEEDS.fullmatch(name):
            seeds[int(match[3] or N_EPOCHS)][match[1], match[2]] = [
                tuple(_fraction(one, path, i) for one in (row[name] or "").split(";") if one)
                for i, row in enumerate(rows)
            ]
    others = {
        n_epochs: AccuracyTable(f"{path} ({n_epochs} epochs)", texts, of_one, seeds[n_epochs], n_epochs)
        for n_epochs, of_one in means.items()
        if n_epochs != N_EPOCHS
    }
    return AccuracyTable(str(path), texts, means[N_EPOCHS], seeds[N_EPOCHS], N_EPOCHS, others)


def read_rows(path: PathLike) -> list[dict[str, str]]:
    """The rows of a CSV file, packed with gzip or not, by column. Raises ArtifactError when missing or damaged."""
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == _GZIP
        with (gzip.open if packed else open)(path, "rt", encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing.") from None
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise ArtifactError(f"{path} is no readable table ({error}). Get it again.") from None


def _is_main(name: str) -> bool:
    match = _COLUMN.fullmatch(name)
    return match is not None and canonical_name(name) == column_name(match[1], match[2])


def _texts(rows: Sequence[Mapping[str, str]], path: PathLike) -> tuple[str, ...]:
    for line, row in enumerate(rows, start=2):
        if row["index"] != str(line - 2):
            raise DataError(
                f"{path}, line {line}: index {line - 2} was expected, {row['index']} found; a line is missing."
            )
    texts = tuple(row["arch_str"] for row in rows)
    if len(set(texts)) < len(texts) or not all(texts):
        raise DataError(f"{path} names an architecture twice, or leaves one without a name.")
    return texts


def _fraction(text: str, path: PathLike, row: int) -> float:
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = -1.0
    if not 0 <= value <= 100:
        raise DataError(f"{path}, line {row + 2}: {text!r} is no accuracy in per cent.")
    return value / 100
