import math

import numpy as np
import pytest
import torch

from pipeline.core.errors import DataError, TrainingError
from pipeline.core.rng import torch_stream
from pipeline.data import transforms
from pipeline.episodes.sampler import EpisodeSampler
from pipeline.evaluation.adapted_test import adapted_test
from pipeline.evaluation.task_images import tasks_of
from tests import small_meta

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def coloured(tmp_path_factory):
    return small_meta.coloured(tmp_path_factory.mktemp("coloured"))


def drawn(prepared, n=10, k_shot=2, n_query=4):
    sampler = EpisodeSampler(prepared, "novel", n_way=5, k_shot=k_shot, n_query=n_query, seed=0)
    return [sampler.episode(index) for index in range(n)]


def start():
    learner = small_meta.learner(inner_lr=1.0)
    return learner, learner.start(torch_stream(0, "start"))


class Oracle(small_meta.FirstOrder):
    """Knows the labels, and gets the first query of each task wrong when told to."""

    def __init__(self, all_right=True):
        super().__init__(small_meta.Gated(), None)
        self.all_right = all_right

    def predict(self, state, tasks):
        labels = tasks.query_labels.clone()
        if not self.all_right:
            labels[:, 0] = 4
        return torch.nn.functional.one_hot(labels, 5).float()


@pytest.mark.parametrize("tasks_at_once", [1, 3, 10, 50])
def test_the_outcome_is_that_of_each_episode_alone_however_many_adapt_together(coloured, tasks_at_once):
    learner, state = start()
    episodes = drawn(coloured)
    found = adapted_test(learner, state, episodes, coloured, CPU, tasks_at_once, what=None)
    for episode, correct in zip(episodes, found.correct, strict=True):
        logits = learner.predict(state, tasks_of(coloured, [episode], CPU))[0]
        assert (logits.argmax(1).view(5, 4) == torch.arange(5)[:, None]).numpy().tolist() == correct.tolist()
    assert 0.3 < found.accuracies.mean() < 1


def test_an_outcome_knows_which_query_of_which_class_was_right(coloured):
    episodes = drawn(coloured)
    right = adapted_test(Oracle(), {}, episodes, coloured, CPU, 4, what=None)
    assert right.correct.all()
    assert (right.images == np.stack([episode.query for episode in episodes])).all()
    assert (right.classes == coloured.labels[right.images]).all()
    wrong = adapted_test(Oracle(all_right=False), {}, episodes, coloured, CPU, 4, what=None)
    assert not wrong.correct[:, 0, 0].any()
    assert wrong.accuracies.tolist() == [19 / 20] * 10


def test_a_test_changes_neither_state_nor_network(coloured):
    learner, state = start()
    before = {name: value.clone() for name, value in state.items()}
    weights = {name: value.clone() for name, value in learner.network.state_dict().items()}
    adapted_test(learner, state, drawn(coloured), coloured, CPU, 4, what=None)
    assert all(torch.equal(state[name], value) for name, value in before.items())
    assert all(torch.equal(learner.network.state_dict()[name], value) for name, value in weights.items())


def test_logits_that_are_not_finite_are_an_error_that_names_the_episode(coloured):
    class Broken(Oracle):
        def predict(self, state, tasks):
            logits = super().predict(state, tasks)
            if (tasks.query == marked.query[0]).flatten(1).all(1).any():
                logits[2, 3, 2] = math.inf
            return logits

    marked = tasks_of(coloured, drawn(coloured)[6:7], CPU)
    with pytest.raises(TrainingError, match=r"episode 6 of 10 .* learning rates of meta_learn\.maml"):
        adapted_test(Broken(), {}, drawn(coloured), coloured, CPU, 4, what=None, section="meta_learn.maml")


def test_episodes_of_different_shapes_are_refused(coloured):
    learner, state = start()
    for episodes in ([], drawn(coloured, 4) + drawn(coloured, 4, k_shot=1)):
        with pytest.raises(DataError, match="one shape"):
            adapted_test(learner, state, episodes, coloured, CPU, 4, what=None)


def test_tasks_hold_the_normalised_images_class_after_class_with_their_labels(coloured):
    episodes = drawn(coloured, 3)
    tasks = tasks_of(coloured, episodes, CPU)
    assert len(tasks) == 3
    for rows, images, labels in (
        ([episode.support for episode in episodes], tasks.support, tasks.support_labels),
        ([episode.query for episode in episodes], tasks.query, tasks.query_labels),
    ):
        per_class = rows[0].shape[1]
        assert images.shape == (3, 5 * per_class, 3, small_meta.SIZE, small_meta.SIZE)
        assert images.is_contiguous() and images.dtype == torch.float32 and labels.dtype == torch.int64
        for task in range(3):
            assert labels[task].tolist() == [place for place in range(5) for _ in range(per_class)]
            for place, row in enumerate(rows[task].ravel()):
                image = transforms.to_float(torch.from_numpy(coloured.images[[row]]), coloured.mean, coloured.std)
                assert torch.equal(images[task, place], image[0])
                assert coloured.labels[row] == episodes[task].classes[labels[task, place]]


def test_tasks_of_a_resized_set_have_the_new_size(coloured):
    tasks = tasks_of(transforms.resized(coloured, 7), drawn(coloured, 2), CPU)
    assert tasks.support.shape[-2:] == tasks.query.shape[-2:] == (7, 7)


def test_about_half_of_the_images_are_mirrored_and_the_others_stay(coloured):
    episodes = drawn(coloured, 8)
    plain = tasks_of(coloured, episodes, CPU)
    mirrored = tasks_of(coloured, episodes, CPU, torch_stream(0, "mirror"))
    for part in ("support", "query"):
        before, after = getattr(plain, part).flatten(0, 1), getattr(mirrored, part).flatten(0, 1)
        stayed = (before == after).flatten(1).all(1)
        turned = (before.flip(-1) == after).flatten(1).all(1)
        assert (stayed ^ turned).all()
        assert 0.3 < turned.double().mean() < 0.7
