"""Stored episodes: a table with a row per episode, so that every method is tested on the same tasks."""

import csv
import pathlib
import re
from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.core.artifacts import PathLike, csv_rows, writing
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
        rows = csv_rows(pathlib.Path(path).read_bytes().decode("utf-8"), COLUMNS)
        if not rows:
            raise ValueError("it holds no episode")
        found: dict[int, list[Episode]] = {}
        for row in rows:
            k_shot, episode = _parse(row)
            of_one_shot = found.setdefault(k_shot, [])
            if row["episode"] != str(len(of_one_shot)):
                raise ValueError(f"episode {len(of_one_shot)} of {k_shot} shots is missing; {row['episode']} was found")
            of_one_shot.append(episode)
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing. Run the episodes stage (see `snakemake -n {path}`).") from None
    except (ValueError, OverflowError) as error:
        raise ArtifactError(f"{path} is damaged: {error}. Delete it and run the episodes stage again.") from None
    return found


def _parse(row: Mapping[str, str]) -> tuple[int, Episode]:
    classes, support, query = (_numbers(row[name]) for name in ("classes", "support", "query"))
    n_way, k_shot = len(classes), int(row["k_shot"])
    if not n_way or len(set(classes.tolist())) < n_way:
        raise ValueError(f"episode {row['episode']} names a class twice, or none")
    episode = Episode(classes=classes, support=support.reshape(n_way, -1), query=query.reshape(n_way, -1))
    if episode.k_shot != k_shot or not k_shot or not episode.n_query:
        raise ValueError(f"episode {row['episode']} has {episode.k_shot} support images per class instead of {k_shot}")
    return k_shot, episode


def _numbers(text: str) -> np.ndarray:
    if not re.fullmatch(r"[0-9]+( [0-9]+)*", text):
        raise ValueError(f"{text[:40]!r} is no list of numbers")
    return np.array(text.split(" "), dtype=np.int64)


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
