"""The few-shot test: frozen features of a network, and per episode a learner on them.

Protocol of RFS and MetaNTK-NAS: queries are only normalised; a learner sees several augmented copies of each support
image (the augmentation of the training); one learner per episode, nothing is shared between episodes. Inductive.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from pipeline.core.checkpoint import Kept
from pipeline.core.errors import TrainingError
from pipeline.core.rng import torch_stream
from pipeline.core.types import Episode
from pipeline.data import transforms
from pipeline.data.prepared import PreparedSet
from pipeline.evaluation.augmentation import augmented
from pipeline.evaluation.settings import TrainConfig

Learner = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Outcome:
    """What one learner made of all episodes of one k_shot.

    Attributes:
        correct: whether each query was labelled rightly, shape (n_episodes, way, n_query).
        images: the query's image row, same shape.
        classes: its class id, same shape.
    """

    correct: np.ndarray
    images: np.ndarray
    classes: np.ndarray

    @classmethod
    def of(cls, episodes: Sequence[Episode], predictions: np.ndarray) -> "Outcome":
        """From predicted positions in `episode.classes`, shape (n_episodes, way, n_query)."""
        images = np.stack([episode.query for episode in episodes])
        classes = np.stack([np.broadcast_to(episode.classes[:, None], episode.query.shape) for episode in episodes])
        return cls(predictions == np.arange(predictions.shape[1])[:, None], images, classes)

    @property
    def accuracies(self) -> np.ndarray:
        """Fraction of right queries of each episode, shape (n_episodes,)."""
        return self.correct.mean(axis=(1, 2))


class FrozenFeatures:
    """Features of a network in evaluation mode, those of plain images computed once and kept.

    Args:
        network: is put on `device` and into evaluation mode; its weights and buffers are never changed.
        batch_size: images per forward pass.
    """

    def __init__(self, network: nn.Module, prepared: PreparedSet, config: TrainConfig, batch_size: int, device):
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        self.network = network.to(device=device, memory_format=layout).eval()
        self.prepared, self.config, self.batch_size, self.device = prepared, config, batch_size, device
        self._layout = layout
        self._place = np.full(len(prepared.labels), -1)
        self._expected = np.empty(0, dtype=np.int64)
        self._kept = torch.empty(0, network.feature_dim)

    @torch.inference_mode()
    def of_images(self, images: Tensor) -> Tensor:
        """Float32 features on the CPU, shape (n, d), of images as `transforms.to_float` takes them.

        Raises TrainingError when some are not finite.
        """
        parts = []
        for part in images.split(self.batch_size):
            batch = transforms.to_float(part.to(self.device), self.prepared.mean, self.prepared.std)
            parts.append(self.network.features(batch.contiguous(memory_format=self._layout)).float().cpu())
        features = torch.cat(parts)
        if not features.isfinite().all():
            raise TrainingError("The network gives features that are not finite; train it with a lower learning rate.")
        return features

    def expect(self, rows: np.ndarray) -> None:
        """Compute these rows together with the first that is asked for: so their features do not depend, in their last
        bits, on what is asked for in which order."""
        self._expected = np.union1d(self._expected, rows)

    def of_rows(self, rows: np.ndarray) -> Tensor:
        """Features of plain images, shape (*rows.shape, d)."""
        if (self._place[rows] < 0).any():
            wanted = np.union1d(rows, self._expected)
            new = wanted[self._place[wanted] < 0]
            self._place[new] = len(self._kept) + np.arange(new.size)
            chunks = np.array_split(new, -(-new.size // self.batch_size))
            computed = [self.of_images(transforms.gather(self.prepared, chunk)) for chunk in chunks]
            self._kept = torch.cat([self._kept, *computed])
        return self._kept[torch.from_numpy(self._place[rows])]

    def of_augmented(self, rows: np.ndarray, n_copies: int, generators: Sequence[torch.Generator]) -> Tensor:
        """Features of augmented copies of support images, several episodes at once.

        Args:
            rows: shape (n_episodes, way, k_shot).
            n_copies: copies of each image.
            generators: one per episode; the copies of an episode depend on its own generator only.

        Returns:
            Shape (n_episodes, way, n_copies * k_shot, d): the whole support set, once per copy.
        """
        copies = []
        for of_episode, generator in zip(rows, generators, strict=True):
            images = transforms.gather(self.prepared, np.tile(of_episode, (1, n_copies)))
            copies.append(augmented(images, self.prepared, self.config, generator))
        n_episodes, way, k_shot = rows.shape
        return self.of_images(torch.cat(copies)).view(n_episodes, way, n_copies * k_shot, -1)


def few_shot_test(
    features: FrozenFeatures,
    episodes: Sequence[Episode],
    learners: Mapping[str, Learner],
    *,
    n_augmented_support: int,
    seed: int,
    purpose: str = "support copies",
    what: str = "episodes",
    kept: Kept | None = None,
) -> dict[str, Outcome]:
    """Test a network on episodes of one shape with every learner.

    Args:
        learners: name -> (support features, query features) -> scores; see `pipeline.learners`.
        n_augmented_support: augmented copies of each support image; 0 takes the image itself.
        seed, purpose: name the stream of the copies, with the k_shot and the episode's number; every network sees the
            same copies.
        what: name of the work in progress lines, and of its pieces in `kept`.
        kept: predictions of an interrupted run, which is gone on from. `features` must have been told to expect all
            rows of all tests of its network (`rows_seen`), so that it does not matter which of them are still to do.

    Returns:
        Outcome of each learner.
    """
    per_chunk = 1
    if n_augmented_support:
        per_chunk = max(1, features.batch_size // (episodes[0].support.size * n_augmented_support))
    features.expect(rows_seen(episodes, n_augmented_support))

    def predict(start: int) -> dict[str, Tensor]:
        """Of each learner the labels of the queries, shape (episodes of the chunk, way, n_query)."""
        chunk = episodes[start : start + per_chunk]
        rows = np.stack([episode.support for episode in chunk])
        if n_augmented_support:
            streams = [torch_stream(seed, purpose, rows.shape[2], start + i) for i in range(len(chunk))]
            supports = features.of_augmented(rows, n_augmented_support, streams)
        else:
            supports = features.of_rows(rows)
        queries = [features.of_rows(episode.query) for episode in chunk]
        return {
            name: torch.stack([learner(*pair).argmax(-1) for pair in zip(supports, queries, strict=True)])
            for name, learner in learners.items()
        }

    # the learners' problems are so small that BLAS threads wait for each other longer than they work
    with threadpool_limits(1, user_api="blas"):
        found = (kept or Kept()).pieces(what, range(0, len(episodes), per_chunk), predict)
    return {name: Outcome.of(episodes, torch.cat([one[name] for one in found]).numpy()) for name in learners}


def rows_seen(episodes: Sequence[Episode], n_augmented_support: int) -> np.ndarray:
    """Rows whose plain images a test on these episodes looks at, in ascending order."""
    seen = [episode.query.ravel() for episode in episodes]
    if not n_augmented_support:
        seen += [episode.support.ravel() for episode in episodes]
    return np.unique(np.concatenate(seen))
