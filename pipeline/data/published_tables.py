"""Tables of published accuracies as one plain file, whichever form they come in, and where they come from."""

from __future__ import annotations

import pathlib
import tempfile
from typing import Any

from pipeline.core.artifacts import PathLike, alone, explained_write_errors, sha256, write_json, write_text
from pipeline.core.errors import UnknownNameError
from pipeline.core.progress import say
from pipeline.data.accuracy_tables import column_name
from pipeline.data.fetching import Found, find
from pipeline.data.nas_bench_201 import Columns, NasBench201, written

PUBLISHED = {"nas_bench_201": NasBench201()}
TABLES = {name: tuple(dict.fromkeys(dataset for dataset, _ in table.wanted)) for name, table in PUBLISHED.items()}
"""Spaces with a table of published accuracies, and the data sets it is about."""


def make(name: str, out: PathLike, facts: PathLike, *, mirror: PathLike | None = None) -> None:
    """Write the table of the space `name` as CSV, and as JSON what it is, where it comes from and what it lacks.

    Raises:
        UnknownNameError: there is no table of that space.
        DownloadError: no source is at hand; says what is wanted and where to put it.
        DataError: a source is damaged, or not to be trusted.
    """
    if name not in PUBLISHED:
        raise UnknownNameError("table of accuracies", name, PUBLISHED)
    table, folder = PUBLISHED[name], pathlib.Path(out).parent
    with explained_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(dir=folder, prefix=".unpacked.")
    with scratch, alone(folder / f".{name}.lock"):
        layout, (found,) = find(table, name, mirror, folder / ".downloads" / name)
        say(f"{table.title}: reading {found.path}")
        columns = table.columns(layout, found, scratch.name)
    write_text(out, written(columns))
    write_json(facts, described(name, table, layout.name, found, columns) | {"table_sha256": sha256(out)})
    variant = "" if found.official else ", not an official file; results will say so"
    say(f"{table.title}: {len(columns.texts)} architectures from {found.name}{variant} -> {out}")


def described(name: str, table: NasBench201, layout: str, found: Found, columns: Columns) -> dict[str, Any]:
    """What the JSON beside the table says, but for the table's own checksum."""
    return {
        "schema_version": 1,
        "name": table.title,
        "space": name,
        "network": table.network,
        "licence": table.licence,
        "n_architectures": len(columns.texts),
        "columns": list(columns.values),
        "source": found.name,
        "layout": layout,
        "sha256": found.sha256,
        "official": found.official,
        "origin": found.origin,
        "page": found.source.page,
        "lacks": list(lacking(table, columns)),
        "notes": list(columns.notes),
    }


def lacking(table: NasBench201, columns: Columns) -> list[str]:
    """What the benchmark has and this source has not, in words."""
    lacks = []
    for n_epochs in table.lengths:
        missing = [one for one in table.wanted if column_name(*one, n_epochs) not in columns.values]
        seedless = [one for one in table.wanted if column_name(*one, n_epochs, seeds=True) not in columns.values]
        for what, of in (("accuracies", missing), ("single seeds", [one for one in seedless if one not in missing])):
            if of:
                listed = "" if len(of) == len(table.wanted) else f" of {', '.join(column_name(*one) for one in of)}"
                lacks.append(f"{what} after {n_epochs} epochs{listed}")
    return lacks
