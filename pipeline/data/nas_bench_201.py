"""The accuracies of NAS-Bench-201 (Dong and Yang, 2020) from the files in which they are published.

NATS-Bench (Dong et al., 2021) holds the same cells, with seeds added. All of the official files keep, for each
architecture and length of training, a nest of plain dictionaries; what their parts are called, and which of them is the
validation and which the test accuracy, is written down in docs/datasets/nas_bench_201.md.
"""

from __future__ import annotations

import bz2
import csv
import io
import numbers
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from pipeline.core.errors import DataError
from pipeline.data.accuracy_tables import N_EPOCHS, canonical_name, column_name, read_compact_csv, read_rows
from pipeline.data.archives import MOST_RATIO, Tree, unpacked
from pipeline.data.base import Layout, Source, content_of
from pipeline.data.fetching import Found
from pipeline.data.pickles import read_pickle, read_pickle_file, read_torch_file

LICENCE = "MIT"
DRIVE = "https://drive.google.com/file/d/"
N_ARCHITECTURES = 5**6
LENGTHS = (N_EPOCHS, 12)
# (data set, part) here -> (data set trained on, part evaluated) in the official files
OFFICIAL = {
    ("cifar10", "valid"): ("cifar10-valid", "x-valid"),
    ("cifar10", "test"): ("cifar10", "ori-test"),
    ("cifar100", "valid"): ("cifar100", "x-valid"),
    ("cifar100", "test"): ("cifar100", "x-test"),
    ("imagenet16", "valid"): ("ImageNet16-120", "x-valid"),
    ("imagenet16", "test"): ("ImageNet16-120", "x-test"),
}
NATS_KEYS = {200: "200", 12: "12"}
NB201_KEYS = {200: "full", 12: "less"}


def _source(name: str, page: str, hash_end: str | None = None, folder: str | None = None) -> Source:
    return Source(name, LICENCE, page=page, hash_end=hash_end, folder=folder, in_mirror=(name,))


ARCHIVE = _source(
    "NATS-tss-v1_0-3ffb9-simple.tar", f"{DRIVE}17_saCsj_krKjlCBLOJEpNtzPXArMCqxU", folder="NATS-tss-v1_0-3ffb9-simple"
)
NATS = _source("NATS-tss-v1_0-3ffb9.pickle.pbz2", f"{DRIVE}1vzyK0UVH2D3fTpa1_dSWnp1gvGpAxRul", "3ffb9")
V1_1 = _source("NAS-Bench-201-v1_1-096897.pth", f"{DRIVE}16Y0UwGisiouVRxW-W5hEtbxmcHw_0hF_", "096897")
V1_0 = _source("NAS-Bench-201-v1_0-e61699.pth", f"{DRIVE}1SKW0Cu0u8-gb18zDpaAGi0f74UdXeGKs", "e61699")
COMPACT = Source(
    name="nb201_full_15625.csv.gz",
    licence=LICENCE,
    page="figures that others published, gathered in one table: index, arch_str, cifar10_test, ... in per cent",
    also=("nb201_full_15625.csv",),
)


@dataclass(frozen=True)
class Columns:
    """What a source says of all architectures.

    Attributes:
        texts: the architectures, in the benchmark's order.
        values: name of the column (see `column_name`) -> its fields; accuracies in per cent as the source has them.
        notes: what a reader of the numbers has to know.
    """

    texts: Sequence[str]
    values: Mapping[str, Sequence[str]]
    notes: tuple[str, ...] = ()


class NasBench201:
    """The table of the space `nas_bench_201`.

    Attributes:
        network: arguments of the space's `build` for the networks that were trained.
        wanted: (data set, part) of all accuracies of the benchmark.
        lengths: epochs of its trainings.
        layouts: accepted forms, the preferred first; each is one file.
    """

    title = "NAS-Bench-201"
    licence = LICENCE
    network: ClassVar[dict[str, int]] = {"channels": 16, "n_cells": 15}
    wanted = tuple(OFFICIAL)
    lengths = LENGTHS
    layouts = (
        Layout("NATS-Bench archive", (ARCHIVE,)),
        Layout("NATS-Bench file", (NATS,)),
        Layout("NAS-Bench-201 v1.1", (V1_1,)),
        Layout("NAS-Bench-201 v1.0", (V1_0,)),
        Layout("compact table", (COMPACT,)),
    )

    def columns(self, layout: Layout, found: Found, scratch: str) -> Columns:
        """The content of the source of a layout. Raises DataError when it is damaged or of another layout."""
        columns = READERS[layout.name](found, scratch)
        if len(columns.texts) != N_ARCHITECTURES:
            raise DataError(
                f"{found.path} holds {len(columns.texts)} architectures; {self.title} has {N_ARCHITECTURES}. Get it "
                "again."
            )
        return columns


def from_archive(found: Found, scratch: str) -> Columns:
    """meta.pickle.pbz2 and a file 000000.pickle.pbz2 of each architecture, packed or not."""
    tree = content_of(Tree.holding(found.path, found.name, scratch), ARCHIVE)

    def read(name: str) -> Any:
        what = f"{tree.what}/{name}"
        return read_pickle(unpacked(tree.read(name), "bzip2", what), what)

    texts = _texts(read("meta.pickle.pbz2"), found)
    return _gathered(texts, (read(f"{index:06d}.pickle.pbz2") for index in range(len(texts))), NATS_KEYS, found)


def from_nats_file(found: Found, scratch: str) -> Columns:
    """One pickle packed by bzip2; it is read as a whole."""
    with bz2.open(found.path) as file:
        packed = found.path.stat().st_size
        return _whole(read_pickle_file(file, str(found.path), MOST_RATIO * packed), NATS_KEYS, found)


def from_torch_file(found: Found, scratch: str) -> Columns:
    """A file of torch.save; it is read as a whole."""
    with open(found.path, "rb") as file:
        return _whole(read_torch_file(file, str(found.path)), NB201_KEYS, found)


def from_compact(found: Found, scratch: str) -> Columns:
    """A table as `read_compact_csv` takes it, its fields as they are."""
    texts, rows = read_compact_csv(found.path).texts, read_rows(found.path)
    values = {column: [row[name] for row in rows] for name in rows[0] if (column := canonical_name(name or ""))}
    return Columns(
        texts,
        values,
        (
            "Not an official file: gathered from published figures.",
            "Validation accuracies are of one seed, test accuracies means over the seeds of NATS-Bench; single seeds, "
            "where there are some, are those of NAS-Bench-201 v1.0, to which NATS-Bench added more.",
        ),
    )


READERS: dict[str, Callable[[Found, str], Columns]] = {
    "NATS-Bench archive": from_archive,
    "NATS-Bench file": from_nats_file,
    "NAS-Bench-201 v1.1": from_torch_file,
    "NAS-Bench-201 v1.0": from_torch_file,
    "compact table": from_compact,
}


def _texts(content: Any, found: Found) -> list[str]:
    try:
        texts = list(content["meta_archs"])
    except (KeyError, TypeError):
        raise _other_layout(found, "it has no meta_archs") from None
    if len(set(texts)) < len(texts) or not all(isinstance(text, str) for text in texts):
        raise _other_layout(found, "its meta_archs are not different texts")
    return texts


def _whole(content: Any, keys: Mapping[int, str], found: Found) -> Columns:
    texts = _texts(content, found)
    try:
        infos = content["arch2infos"]
        return _gathered(texts, (infos.pop(index) for index in range(len(texts))), keys, found)
    except (KeyError, AttributeError):
        raise _other_layout(found, "its arch2infos are not results by number of architecture") from None


def _gathered(texts: Sequence[str], results: Iterator[Any], keys: Mapping[int, str], found: Found) -> Columns:
    """Columns of what is known of every architecture, from the results of each in turn."""
    accuracies: dict[tuple[str, str, int], list[tuple[float, ...]]] = defaultdict(list)
    for index, (text, of_one) in enumerate(zip(texts, results, strict=True)):
        for n_epochs, key in keys.items():
            where = f"architecture {index}, '{key}'"
            trials = _trials(of_one, key, text, n_epochs, where, found)
            for (dataset, part), (trained_on, evaluated) in OFFICIAL.items():
                last = f"{evaluated}@{n_epochs - 1}"
                seeds = tuple(_per_cent(one[last], where, found) for one in trials.get(trained_on, ()) if last in one)
                accuracies[dataset, part, n_epochs].append(seeds)
    values, notes = {}, []
    for (dataset, part, n_epochs), column in accuracies.items():
        name, n_known = column_name(dataset, part, n_epochs), sum(map(bool, column))
        if n_known == len(texts):
            values[name] = [repr(float(np.mean(seeds))) for seeds in column]
            values[f"{name}_seeds"] = [";".join(map(repr, seeds)) for seeds in column]
        elif n_known:
            notes.append(f"{name} is left out: the source has it of {n_known} of {len(texts)} architectures.")
    if column_name("cifar10", "test") not in values:
        raise _other_layout(found, f"it lacks test accuracies on cifar10 after {N_EPOCHS} epochs")
    return Columns(texts, values, tuple(notes))


def _trials(
    results: Any, key: str, text: str, n_epochs: int, where: str, found: Found
) -> dict[str, list[Mapping[str, float]]]:
    """Data set trained on -> what each trial's evaluations gave, in the order of the seeds' numbers.

    An evaluation is called after the part and the epoch from 0, `x-valid@199`; accuracies are in per cent.
    """
    try:
        state = results[key]
        if state["arch_str"] != text:
            raise _other_layout(found, f"{where} is {state['arch_str']} instead of {text}")
        trials = {
            trained_on: [state["all_results"][trained_on, seed] for seed in sorted(seeds)]
            for trained_on, seeds in state["dataset_seed"].items()
        }
        if any(trial["epochs"] != n_epochs for of_one in trials.values() for trial in of_one):
            raise _other_layout(found, f"{where} was not trained for {n_epochs} epochs")
        return {trained_on: [trial["eval_acc1es"] for trial in of_one] for trained_on, of_one in trials.items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise _other_layout(found, f"{where} has no {error}") from None


def _per_cent(value: Any, where: str, found: Found) -> float:
    if not isinstance(value, numbers.Real) or not 0 <= value <= 100:
        raise DataError(f"{found.path}: {where}: {value!r} is no accuracy in per cent. Get it again.")
    return float(value)


def _other_layout(found: Found, why: str) -> DataError:
    return DataError(f"{found.path} is of another layout than the official file: {why}. Get it again.")


def written(columns: Columns) -> str:
    """The table as CSV text: index, arch_str and the columns, in the benchmark's order."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["index", "arch_str", *columns.values])
    for index, row in enumerate(zip(columns.texts, *columns.values.values(), strict=True)):
        table.writerow([index, *row])
    return text.getvalue()
