"""Stored episodes: a table with a row per episode, so that every method is tested on the same tasks."""

import csv
import io
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.core.artifacts import PathLike, writing
from pipeline.core.errors import ArtifactError
from pipeline.core.types import Episode
from pipeline.data.prepared import PreparedSet

COLUMNS = ("k_shot", "episode", "classes", "support", "query")


def _text(values: np.ndarray) -> str:
    return " ".join(map(str, np.asarray(values).reshape(-1).tolist()))


def write(path: PathLike, episodes: Mapping[int, Sequence[Episode]]) -> None:
    """Write episodes of each k_shot; class ids and image rows are separated by spaces, class after class."""
    with writing(path) as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for k_shot in sorted(episodes):
            for number, episode in enumerate(episodes[k_shot]):
                table.writerow([k_shot, number, _text(episode.classes), _text(episode.support), _text(episode.query)])


def read(path: PathLike) -> dict[int, list[Episode]]:
    """Episodes of each k_shot, in the order they were written. Raises ArtifactError when missing or damaged."""
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8")
        rows = list(csv.reader(io.StringIO(text)))
        if not rows or tuple(rows[0]) != COLUMNS:
            raise ValueError(f"its columns are not {', '.join(COLUMNS)}")
        found: dict[int, list[Episode]] = {}
        for row in rows[1:]:
            k_shot, episode = _parse(row)
            found.setdefault(k_shot, []).append(episode)
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing. Run the episodes stage (see `snakemake -n {path}`).") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} is damaged: {error}. Delete it and run the episodes stage again.") from None
    return found


def _parse(row: list[str]) -> tuple[int, Episode]:
    if len(row) != len(COLUMNS):
        raise ValueError(f"a row has {len(row)} fields")
    classes, support, query = (np.array(field.split(), dtype=np.int64) for field in row[2:])
    n_way, k_shot = len(classes), int(row[0])
    episode = Episode(classes=classes, support=support.reshape(n_way, -1), query=query.reshape(n_way, -1))
    if episode.k_shot != k_shot:
        raise ValueError(f"episode {row[1]} has {episode.k_shot} support images per class instead of {k_shot}")
    return k_shot, episode


def check(episodes: Mapping[int, Sequence[Episode]], prepared: PreparedSet, path: PathLike) -> None:
    """Raises ArtifactError unless every image named belongs to the class it is named under."""
    for of_one_shot in episodes.values():
        for episode in of_one_shot:
            rows = np.concatenate([episode.support, episode.query], axis=1)
            inside = rows.min() >= 0 and rows.max() < len(prepared.labels)
            if not inside or not (prepared.labels[rows] == episode.classes[:, None]).all():
                raise ArtifactError(
                    f"{path} names images that {prepared.name} does not have under those classes; it was drawn from "
                    "other prepared data. Run the episodes stage again."
                )
