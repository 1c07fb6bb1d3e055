"""Episodes by number: the same (seed, purpose, split, index) always names the same images."""

import numpy as np

from pipeline.core.errors import DataError, UnknownNameError
from pipeline.core.rng import numpy_stream
from pipeline.core.types import Episode
from pipeline.core.wording import n_of
from pipeline.data.prepared import PreparedSet, require_images

PARTS = {
    "all": lambda rows: rows,
    "first_half": lambda rows: rows[: len(rows) // 2],
    "second_half": lambda rows: rows[len(rows) // 2 :],
}
"""What is kept of the images of a class: its rows -> those that episodes are drawn from."""


class EpisodeSampler:
    """Draws episodes from one split of a prepared set.

    Per class, a random order of its images gives the queries and then the support, so that episodes of one index but
    different k_shot have the same classes and queries, and the smaller support is part of the larger.
    Where the split has several folds, the support comes from one of them, drawn per episode, and the queries from the
    others: support and query then share no original.

    Args:
        purpose: names the random stream; samplers of different purposes draw independent episodes.
        part: of each class's images, a key of PARTS. Where the split has several folds, that part of each of them.
        section: of params.yaml, where n_way and n_query come from; for messages.

    Raises:
        DataError: the split has too few classes, or a class too few images.
        UnknownNameError: another split or part.
    """

    def __init__(
        self,
        prepared: PreparedSet,
        split: str,
        *,
        n_way: int,
        k_shot: int,
        n_query: int,
        seed: int,
        purpose: str = "episodes",
        part: str = "all",
        section: str = "episodes",
    ):
        for name, value in (("n_way", n_way), ("k_shot", k_shot), ("n_query", n_query)):
            if value < 1:
                raise DataError(f"{name} is {value}; an episode needs at least 1.")
        self.prepared, self.split = prepared, split
        self.n_way, self.k_shot, self.n_query = n_way, k_shot, n_query
        self.seed, self.purpose = seed, purpose
        if part not in PARTS:
            raise UnknownNameError("part of the images", part, PARTS)
        what = f"A {n_way}-way {k_shot}-shot episode with {n_of(n_query, 'query', 'queries')} per class"
        require_images(prepared, split, n_way, k_shot + n_query, what, section)
        self._classes = prepared.classes_of(split)
        self._folds = np.unique(prepared.folds[prepared.rows_of_split(split)])
        self._rows = {class_id: self._rows_of(class_id, part) for class_id in self._classes.tolist()}
        self._require_part(part, what, section)
        self._require_folds(what, section)

    def episode(self, index: int) -> Episode:
        """Episode number `index` (0, 1, ...); a pure function of (seed, purpose, split, index)."""
        rng = numpy_stream(self.seed, self.purpose, self.split, index)
        classes = rng.choice(self._classes, size=self.n_way, replace=False)
        fold = rng.choice(self._folds) if len(self._folds) > 1 else None
        drawn = [self._draw(rng, class_id, fold) for class_id in classes]
        return Episode(
            classes=classes,
            support=np.stack([support for support, _ in drawn]),
            query=np.stack([query for _, query in drawn]),
        )

    def _draw(self, rng: np.random.Generator, class_id: int, fold: int | None) -> tuple[np.ndarray, np.ndarray]:
        rows = rng.permutation(self._rows[int(class_id)])
        if fold is None:
            return rows[self.n_query : self.n_query + self.k_shot], rows[: self.n_query]
        for_support = self.prepared.folds[rows] == fold
        return rows[for_support][: self.k_shot], rows[~for_support][: self.n_query]

    def _rows_of(self, class_id: int, part: str) -> np.ndarray:
        rows = self.prepared.rows_of(class_id, self.split)
        folds = self.prepared.folds[rows]
        return np.sort(np.concatenate([PARTS[part](rows[folds == fold]) for fold in self._folds]))

    def _require_part(self, part: str, what: str, section: str) -> None:
        poorest = min(self._rows, key=lambda class_id: len(self._rows[class_id]))
        if len(self._rows[poorest]) < self.k_shot + self.n_query:
            raise DataError(
                f"{what} needs {n_of(self.k_shot + self.n_query, 'image')} per class, but class "
                f"'{self.prepared.class_names[poorest]}' of {self.prepared.name} has {len(self._rows[poorest])} in the "
                f"{part.replace('_', ' ')} of its images. Lower {section}.n_query or the shots, or add images."
            )

    def _require_folds(self, what: str, section: str) -> None:
        if len(self._folds) < 2:
            return
        for class_id, rows in self._rows.items():
            folds = self.prepared.folds[rows]
            counts = np.array([(folds == fold).sum() for fold in self._folds])
            if counts.min() < self.k_shot or len(folds) - counts.max() < self.n_query:
                raise DataError(
                    f"{what} needs its support and queries from different folds, but class "
                    f"'{self.prepared.class_names[class_id]}' of {self.prepared.name} has folds of "
                    f"{', '.join(map(str, counts))} images. Lower {section}.n_query or the shots."
                )
