"""The two kinds of learners, and small tasks made of noise with a mean of each class."""

import torch

from pipeline import learners
from pipeline.core.rng import torch_stream
from pipeline.learners.meta_learner import MetaLearner, Tasks


def is_meta_learner(name: str) -> bool:
    entry = learners.get(name)
    return isinstance(entry, type) and issubclass(entry, MetaLearner)


READ_OUTS = [name for name in learners.names() if not is_meta_learner(name)]
META_LEARNERS = [name for name in learners.names() if is_meta_learner(name)]


def make_tasks(n_tasks=2, *, way=3, n_support=2, n_query=3, side=8, dtype=torch.float32, seed=0) -> Tasks:
    """Images ordered by class in both sets."""
    draw = torch_stream(seed, "tasks")
    means = torch.randn(n_tasks, way, 1, 3, side, side, generator=draw, dtype=dtype)

    def images(n):
        noise = torch.randn(n_tasks, way, n, 3, side, side, generator=draw, dtype=dtype)
        labels = torch.arange(way).repeat_interleave(n).repeat(n_tasks, 1)
        return (means + noise).flatten(1, 2), labels

    support, support_labels = images(n_support)
    query, query_labels = images(n_query)
    return Tasks(support, support_labels, query, query_labels)


def one_of(tasks: Tasks, place: int) -> Tasks:
    parts = (tasks.support, tasks.support_labels, tasks.query, tasks.query_labels)
    return Tasks(*(part[place : place + 1] for part in parts))
