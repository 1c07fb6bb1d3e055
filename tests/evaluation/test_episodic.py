"""The outer loop of meta-learning: what it learns, that it can be interrupted, and which images it reads."""

import dataclasses
import math
import time

import numpy as np
import pytest
import torch

from pipeline.core.checkpoint import Checkpoint
from pipeline.core.errors import ConfigError, DataError, TrainingError, UnknownNameError
from pipeline.core.rng import torch_stream
from pipeline.episodes.sampler import EpisodeSampler
from pipeline.evaluation.adapted_test import adapted_test
from pipeline.evaluation.episodic import OuterLoop, forecast, meta_learn
from pipeline.evaluation.episodic_settings import AdamGroup, EpisodicConfig, Phase
from pipeline.evaluation.task_images import tasks_of
from pipeline.learners.meta_learner import MetaGradient
from tests import small_meta, tiny_set

CPU = torch.device("cpu")
SHORT = EpisodicConfig(
    n_iterations=7, tasks_per_batch=2, n_query=3, learning_rate=0.02, validate_every=3, n_validation_episodes=4
)
WEIGHTS = AdamGroup("weights", learning_rate=0.02)
ALPHAS = AdamGroup("alphas", learning_rate=0.05, beta1=0.5, weight_decay=0.1)
JOINT = (Phase((WEIGHTS, ALPHAS)),)
ALTERNATING = (Phase((ALPHAS,), "second_half"), Phase((WEIGHTS,), "first_half"))
EVERY_SHAPE = {"one group": None, "two groups": JOINT, "two phases": ALTERNATING}
every_shape = pytest.mark.parametrize("phases", EVERY_SHAPE.values(), ids=EVERY_SHAPE)


@pytest.fixture(scope="module")
def coloured(tmp_path_factory):
    return small_meta.coloured(tmp_path_factory.mktemp("coloured"))


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    folder = tmp_path_factory.mktemp("numbered")
    return small_meta.numbered(tiny_set.prepared(folder, n_images=13, size=small_meta.SIZE))


def learned(prepared, config=SHORT, phases=None, learner=None, **options):
    options = {"n_way": 5, "k_shot": 1, "seed": 0, "device": CPU, "what": None, **options}
    return meta_learn(learner or small_meta.learner(), prepared, config, phases, **options)


def loop_of(prepared, config=SHORT, phases=None, learner=None, **options):
    options = {"n_way": 5, "k_shot": 1, "seed": 0, "device": CPU, **options}
    return OuterLoop(learner or small_meta.learner(), prepared, config, phases, **options)


def same_bits(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def copied(value):
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    return [copied(item) for item in value] if isinstance(value, list) else value


def without_seconds(curve):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in curve]


class Recording(small_meta.FirstOrder):
    """Notes the rows of a numbered set that each call sees."""

    def __init__(self):
        super().__init__(small_meta.Gated(), small_meta.Knobs())
        self.trained, self.tested = [], []

    def meta_gradient(self, state, tasks, wanted=None):
        images = torch.cat([tasks.support, tasks.query], dim=1)
        self.trained.append((tuple(wanted), small_meta.rows_seen(images)))
        return super().meta_gradient(state, tasks, wanted)

    def predict(self, state, tasks):
        self.tested.append(small_meta.rows_seen(torch.cat([tasks.support, tasks.query], dim=1)))
        return super().predict(state, tasks)


class Scripted(small_meta.FirstOrder):
    """Gradients of 1, a loss that is the number of the iteration, and one test's accuracy after the other.

    Args:
        right: of each test, how many of the three queries per class are labelled rightly.
        changes: what of the meta-gradient to replace, from the number of the iteration.
    """

    def __init__(self, right=(), changes=lambda iteration: {}):
        super().__init__(small_meta.Gated(), small_meta.Knobs())
        self.right, self.changes, self.iteration = list(right), changes, 0

    def meta_gradient(self, state, tasks, wanted=None):
        self.iteration += 1
        gradient = MetaGradient(
            gradients={name: torch.ones_like(state[name]) for name in wanted},
            statistics={"n_tasks": state["n_tasks"] + len(tasks)},
            loss=torch.full((len(tasks),), float(self.iteration)),
            accuracy=torch.full((len(tasks),), self.iteration / 10),
        )
        return dataclasses.replace(gradient, **self.changes(self.iteration))

    def predict(self, state, tasks):
        n_right = self.right.pop(0)
        labels = tasks.query_labels.clone().unflatten(1, (5, 3))
        labels[..., n_right:] = (labels[..., n_right:] + 1) % 5
        return torch.nn.functional.one_hot(labels.flatten(1), 5).float()


ONE_TEST = dataclasses.replace(SHORT, n_validation_episodes=2)  # one chunk


def test_meta_learning_raises_the_accuracy_on_unseen_classes_above_that_of_the_start(coloured):
    config = dataclasses.replace(SHORT, n_iterations=60, tasks_per_batch=4, validate_every=20, n_validation_episodes=20)
    learner = small_meta.learner()
    start = loop_of(coloured, config).state
    found = learned(coloured, config, k_shot=3, learner=learner)
    sampler = EpisodeSampler(coloured, "novel", n_way=5, k_shot=3, n_query=8, seed=1)
    episodes = [sampler.episode(index) for index in range(30)]
    before, after = (
        adapted_test(learner, state, episodes, coloured, CPU, 10, what=None).accuracies.mean()
        for state in (start, found.state)
    )
    assert after > before + 0.1
    assert found.curve[-1]["loss"] < 0.8 * found.curve[0]["loss"]


@every_shape
@pytest.mark.parametrize("flip", [False, True])
def test_resuming_after_any_iteration_gives_the_bits_of_an_undisturbed_run(coloured, phases, flip):
    config = dataclasses.replace(SHORT, flip=flip, clip_norm=0.1)
    states = []
    whole = learned(coloured, config, phases, after=lambda state: states.append(copied(state)), seconds_between=0)
    assert [state["iteration"] for state in states] == list(range(1, 8))
    for state in states:
        loop = loop_of(coloured, config, phases, seed=0)
        loop.load_state_dict(state)
        while loop.iteration < config.n_iterations:
            loop.step()
        assert same_bits(loop.state, states[-1]["state"])
        again = learned(coloured, config, phases, resume=state)
        assert same_bits(again.state, whole.state)
        assert without_seconds(again.curve) == without_seconds(whole.curve)


class KilledError(Exception):
    """Stands for a signal."""


def test_a_run_killed_between_two_saves_goes_on_from_the_last_one_and_ends_alike(coloured):
    saved = []

    class Dying(small_meta.FirstOrder):
        n_calls = 0

        def meta_gradient(self, *arguments):
            self.n_calls += 1
            if self.n_calls == 6:
                raise KilledError
            return super().meta_gradient(*arguments)

    learner = Dying(small_meta.Gated(), small_meta.Knobs())
    with pytest.raises(KilledError):
        learned(coloured, learner=learner, after=lambda state: saved.append(copied(state)), seconds_between=math.inf)
    assert [state["iteration"] for state in saved] == [3]
    again, whole = learned(coloured, resume=saved[-1]), learned(coloured)
    assert same_bits(again.state, whole.state)
    assert without_seconds(again.curve) == without_seconds(whole.curve)


def test_what_is_saved_can_be_written_as_a_checkpoint_and_read_again(coloured, tmp_path):
    checkpoint = Checkpoint(tmp_path / "meta.pt", "key")
    config = dataclasses.replace(SHORT, n_iterations=4)
    learned(coloured, config, ALTERNATING, after=checkpoint.save)
    saved = checkpoint.load()
    assert saved["iteration"] == 4
    # a longer run goes on from it
    longer = learned(coloured, SHORT, ALTERNATING, resume={**saved, "curve": saved["curve"][:1]})
    assert [row["iteration"] for row in longer.curve] == [3, 6, 7]


def test_a_finished_state_gives_its_result_without_another_iteration(coloured):
    states = []
    whole = learned(coloured, after=lambda state: states.append(copied(state)))
    again = learned(coloured, learner=Scripted(), resume=states[-1])
    assert same_bits(again.state, whole.state) and again.curve == whole.curve


def test_equal_seeds_give_equal_bits_and_leave_the_global_generators_alone(coloured):
    learner = small_meta.learner()
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, second, other = (learned(coloured, seed=seed, learner=learner) for seed in (0, 0, 1))
    assert same_bits(first.state, second.state)
    assert not same_bits(first.state, other.state)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()


def test_the_start_comes_from_a_stream_of_the_seed(coloured):
    first, again, other = (loop_of(coloured, seed=seed).state["head.bias"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_neither_network_nor_start_is_changed(coloured):
    learner = small_meta.learner()
    before = copied(dict(learner.network.state_dict()))
    learned(coloured, learner=learner)
    assert same_bits(before, dict(learner.network.state_dict()))


def test_every_iteration_has_episodes_of_its_own_and_they_are_those_of_the_sampler(numbered):
    learner = Recording()
    learned(numbered, learner=learner)
    sampler = EpisodeSampler(numbered, "base", n_way=5, k_shot=1, n_query=3, seed=0, purpose="meta-training, phase 1")
    for iteration, (_, rows) in enumerate(learner.trained):
        for task in range(2):
            episode = sampler.episode(2 * iteration + task)
            assert (rows[task] == np.concatenate([episode.support.ravel(), episode.query.ravel()])).all()
    assert len({rows.tobytes() for _, rows in learner.trained}) == SHORT.n_iterations


def test_more_shots_train_on_the_same_classes_and_queries(numbered):
    seen = {}
    for k_shot in (1, 3):
        learner = Recording()
        learned(numbered, learner=learner, k_shot=k_shot)
        seen[k_shot] = [rows[:, 5 * k_shot :] for _, rows in learner.trained]
    assert all((one == three).all() for one, three in zip(seen[1], seen[3], strict=True))


def test_training_reads_base_classes_and_every_test_the_same_validation_classes(numbered):
    learner = Recording()
    learned(numbered, learner=learner)
    trained = np.concatenate([rows.ravel() for _, rows in learner.trained])
    assert set(trained) <= set(numbered.rows_of_split("base"))
    assert set(np.concatenate(learner.tested).ravel()) <= set(numbered.rows_of_split("validation"))
    per_test = len(learner.tested) // 3
    tests = [np.concatenate(learner.tested[i * per_test : (i + 1) * per_test]) for i in range(3)]
    assert tests[0].shape[0] == SHORT.n_validation_episodes
    assert (tests[0] == tests[1]).all() and (tests[0] == tests[2]).all()


def test_validation_on_base_classes_is_possible_and_has_episodes_of_its_own(numbered):
    learner = Recording()
    learned(numbered, dataclasses.replace(SHORT, validate_on="base"), learner=learner)
    tested = np.concatenate(learner.tested)
    assert set(tested.ravel()) <= set(numbered.rows_of_split("base"))
    trained = {rows.tobytes() for _, of_batch in learner.trained for rows in of_batch}
    assert not trained & {rows.tobytes() for rows in tested}


def test_phases_alternate_on_disjoint_halves_of_every_class(numbered):
    learner = Recording()
    learned(numbered, dataclasses.replace(SHORT, n_iterations=40), ALTERNATING, learner=learner)
    assert [names for names, _ in learner.trained[:2]] == [
        ("alphas.normal",),
        ("features.weight", "features.bias", "head.weight", "head.bias"),
    ]
    later, first = (
        set(np.concatenate([rows.ravel() for _, rows in learner.trained[phase::2]]).tolist()) for phase in (0, 1)
    )
    assert not later & first
    for class_id in numbered.classes_of("base"):
        rows = numbered.rows_of(class_id).tolist()
        assert first & set(rows) == set(rows[:6])
        assert later & set(rows) == set(rows[6:])


def test_a_phase_moves_what_it_names_and_statistics_are_what_the_learner_says(coloured):
    loop = loop_of(coloured, phases=(Phase((ALPHAS,)),))
    before = copied(loop.state)
    loop.step()
    moved = {name for name in before if not torch.equal(before[name], loop.state[name])}
    assert moved == {"alphas.normal", "n_tasks"}
    assert loop.state["n_tasks"].item() == SHORT.tasks_per_batch


def written_out(prepared, learner, state, config, phases, n_iterations):
    """Adam with L2 penalty and clipping as in its paper, group by group; both gradients before either moves."""
    state, moments = copied(state), {}
    samplers = [
        EpisodeSampler(
            prepared, "base", n_way=5, k_shot=1, n_query=config.n_query, seed=0, part=phase.pool,
            purpose=f"meta-training, phase {number}",
        )
        for number, phase in enumerate(phases, 1)
    ]  # fmt: skip
    for step in range(1, n_iterations + 1):
        for phase, sampler in zip(phases, samplers, strict=True):
            n_tasks = config.tasks_per_batch
            episodes = [sampler.episode(index) for index in range((step - 1) * n_tasks, step * n_tasks)]
            gradients = learner.meta_gradient(state, tasks_of(prepared, episodes, CPU)).gradients
            for group in phase.groups:
                names = [name for name in gradients if name.startswith("alphas.") == (group.entries == "alphas")]
                length = math.sqrt(sum(float(gradients[name].double().square().sum()) for name in names))
                shortened = min(1.0, group.clip_norm / length) if group.clip_norm else 1.0
                for name in names:
                    gradient = shortened * gradients[name] + group.weight_decay * state[name]
                    mean, square = moments.get((phase, name), (0.0, 0.0))
                    mean = group.beta1 * mean + (1 - group.beta1) * gradient
                    square = group.beta2 * square + (1 - group.beta2) * gradient**2
                    moments[phase, name] = mean, square
                    unbiased = (square / (1 - group.beta2**step)).sqrt() + 1e-8
                    state[name] = state[name] - group.learning_rate * mean / (1 - group.beta1**step) / unbiased
    return state


@pytest.mark.parametrize("phases", [JOINT, ALTERNATING], ids=["two groups", "two phases"])
@pytest.mark.parametrize("clip_norm", [0.0, 0.05])
def test_it_is_adam_written_out_with_the_settings_of_each_group(coloured, phases, clip_norm):
    weights = dataclasses.replace(WEIGHTS, clip_norm=clip_norm, beta2=0.9, weight_decay=0.01)
    phases = tuple(
        dataclasses.replace(phase, groups=tuple(weights if group is WEIGHTS else group for group in phase.groups))
        for phase in phases
    )
    loop = loop_of(coloured, phases=phases)
    start = copied(loop.state)
    for _ in range(4):
        loop.step()
    expected = written_out(coloured, small_meta.learner(), start, SHORT, phases, 4)
    for name in loop.learner.learned(start):
        torch.testing.assert_close(loop.state[name], expected[name], rtol=1e-3, atol=1e-4)
        assert (loop.state[name] - start[name]).abs().max() > 0.01


def test_without_phases_the_knobs_hold_for_all_that_is_learned(coloured):
    config = dataclasses.replace(SHORT, beta1=0.7, beta2=0.9, weight_decay=0.03, clip_norm=0.2)
    group = AdamGroup("all", 0.02, 0.7, 0.9, 0.03, 0.2)
    assert same_bits(learned(coloured, config).state, learned(coloured, SHORT, (Phase((group,)),)).state)
    for name in ("beta1", "beta2", "weight_decay", "clip_norm", "learning_rate"):
        default = EpisodicConfig.__dataclass_fields__[name].default
        other = learned(coloured, dataclasses.replace(config, **{name: default}))
        assert not same_bits(other.state, learned(coloured, config).state)


@pytest.mark.parametrize(
    ("right", "best"), [((1, 3, 2), 6), ((2, 2, 1), 3), ((1, 2, 3), 7), ((0, 0, 0), 3), ((3, 2, 3), 3)]
)
def test_the_best_tested_state_is_kept_and_of_equal_ones_the_earliest(coloured, right, best):
    found = learned(coloured, ONE_TEST, learner=Scripted(right))
    assert found.iteration == best
    assert found.accuracy == pytest.approx(max(right) / 3)
    assert found.state["n_tasks"].item() == 2 * best
    assert [row["validation_accuracy"] for row in found.curve] == pytest.approx([one / 3 for one in right])
    assert found.curve[-1]["best_iteration"] == best


def test_a_row_of_the_curve_holds_means_since_the_last_row(coloured):
    curve = learned(coloured, ONE_TEST, learner=Scripted((1, 2, 2))).curve
    assert [row["iteration"] for row in curve] == [3, 6, 7]
    assert [row["loss"] for row in curve] == [2, 5, 7]
    assert [row["train_accuracy"] for row in curve] == pytest.approx([0.2, 0.5, 0.7])
    assert [row["best_iteration"] for row in curve] == [3, 6, 6]
    assert all(row["seconds"] > 0 and row["validation_ci95"] == 0 for row in curve)


def test_a_row_counts_the_tasks_of_all_phases(coloured):
    curve = learned(coloured, ONE_TEST, ALTERNATING, learner=Scripted((1, 2, 2))).curve
    # Scripted counts meta-batches, of which an iteration now has two
    assert [row["loss"] for row in curve] == pytest.approx([3.5, 9.5, 13.5])
    assert [row["train_accuracy"] for row in curve] == pytest.approx([0.35, 0.95, 1.35])


def test_shortening_leaves_the_learners_gradients_as_they_are(coloured):
    given = {name: torch.full_like(weight, 7.0) for name, weight in small_meta.Gated().named_parameters()}
    loop = loop_of(
        coloured, dataclasses.replace(SHORT, clip_norm=0.1), learner=Scripted(changes=lambda _: {"gradients": given})
    )
    loop.step()
    assert all((gradient == 7).all() for gradient in given.values())


def test_states_are_offered_after_tests_and_when_enough_seconds_have_passed(coloured):
    for seconds_between, expected in ((math.inf, [3, 6, 7]), (0.0, [1, 2, 3, 4, 5, 6, 7])):
        offered = []
        learned(coloured, after=lambda state: offered.append(state["iteration"]), seconds_between=seconds_between)  # noqa: B023
        assert offered == expected


DIVERGED = {
    "a loss that is no number": lambda iteration: {"loss": torch.full((2,), math.nan)} if iteration == 5 else {},
    "an infinite gradient": lambda iteration: {"gradients": infinite()} if iteration == 5 else {},
}


def infinite():
    return {name: torch.full_like(weight, math.inf) for name, weight in small_meta.Gated().named_parameters()}


@pytest.mark.parametrize("changes", DIVERGED.values(), ids=DIVERGED)
@pytest.mark.parametrize("clip_norm", [0.0, 1.0])
def test_a_diverged_run_is_an_error_that_says_what_to_lower_and_is_never_saved(coloured, changes, clip_norm):
    saved = []
    with pytest.raises(TrainingError, match=r"iteration 5 of 7 .*Lower the learning rates of meta_learn\.toy"):
        learned(
            coloured,
            dataclasses.replace(ONE_TEST, clip_norm=clip_norm),
            learner=Scripted((1, 1, 1), changes),
            section="meta_learn.toy",
            after=lambda state: saved.append(state["iteration"]),
            seconds_between=0,
        )
    assert saved == [1, 2, 3, 4]


def test_a_state_without_finite_logits_is_never_kept(coloured):
    class Broken(Scripted):
        def predict(self, state, tasks):
            return super().predict(state, tasks) * math.nan

    with pytest.raises(TrainingError, match="episode 0 of 2 gives logits that are not finite"):
        learned(coloured, ONE_TEST, learner=Broken((1, 1, 1)))


def test_unknown_names_and_phases_that_make_no_sense_are_refused(coloured):
    with pytest.raises(UnknownNameError, match="'alpha'. Did you mean 'alphas'"):
        loop_of(coloured, phases=(Phase((AdamGroup("alpha"),)),))
    with pytest.raises(UnknownNameError, match="'third_half'"):
        loop_of(coloured, phases=(Phase((ALPHAS,), "third_half"),))
    with pytest.raises(ConfigError, match=r"Phase 2 moves alphas\.normal in two of its groups"):
        loop_of(coloured, phases=(Phase((WEIGHTS,)), Phase((ALPHAS, AdamGroup("all")))))

    class NoAlphas(small_meta.FirstOrder):
        def learned(self, state):
            return tuple(name for name in super().learned(state) if not name.startswith("alphas."))

    with pytest.raises(ConfigError, match="Phase 1 moves 'alphas', but none of the 4 entries"):
        loop_of(coloured, phases=(Phase((ALPHAS,)),), learner=NoAlphas(small_meta.Gated(), None))


def test_too_few_classes_or_images_are_errors_that_name_the_section(coloured):
    with pytest.raises(DataError, match=r"6 classes, but the validation split .* has 5\. Lower episodes\.n_way"):
        loop_of(coloured, n_way=6)
    with pytest.raises(DataError, match=r"17 images per class, .* Lower meta_learn\.n_query"):
        loop_of(coloured, dataclasses.replace(SHORT, n_query=16))
    with pytest.raises(DataError, match=r"has 8 in the second half of its images. Lower meta_learn\.n_query"):
        loop_of(coloured, dataclasses.replace(SHORT, n_query=8), ALTERNATING)


def test_mirroring_changes_what_is_learned_unless_images_are_their_own_mirror_images(coloured, numbered):
    for prepared, alike in ((coloured, False), (numbered, True)):
        plain, mirrored = (learned(prepared, dataclasses.replace(SHORT, flip=flip)).state for flip in (False, True))
        assert same_bits(plain, mirrored) == alike


def test_mirror_images_are_drawn_anew_in_every_iteration_and_phase(coloured):
    seen = []

    class Looking(small_meta.FirstOrder):
        def meta_gradient(self, state, tasks, wanted=None):
            seen.append(tasks)
            return super().meta_gradient(state, tasks, wanted)

    learner = Looking(small_meta.Gated(), small_meta.Knobs())
    learned(coloured, dataclasses.replace(SHORT, flip=True, n_iterations=2), ALTERNATING, learner=learner)
    for number, tasks in enumerate(seen):
        iteration, phase = divmod(number, 2)
        purpose, part = f"meta-training, phase {phase + 1}", ALTERNATING[phase].pool
        sampler = EpisodeSampler(coloured, "base", n_way=5, k_shot=1, n_query=3, seed=0, purpose=purpose, part=part)
        episodes = [sampler.episode(2 * iteration + task) for task in range(2)]
        expected = tasks_of(coloured, episodes, CPU, torch_stream(0, purpose, "mirror", iteration + 1))
        assert torch.equal(tasks.support, expected.support) and torch.equal(tasks.query, expected.query)


def test_a_forecast_adds_up_iterations_and_tests(coloured):
    class Slow(small_meta.FirstOrder):
        def meta_gradient(self, *arguments):
            time.sleep(0.02)
            return super().meta_gradient(*arguments)

        def predict(self, *arguments):
            time.sleep(0.05)
            return super().predict(*arguments)

    config = dataclasses.replace(SHORT, n_iterations=10, validate_every=4, n_validation_episodes=8)
    learner = Slow(small_meta.Gated(), small_meta.Knobs())
    found = forecast(learner, coloured, config, n_way=5, k_shot=1, seed=0, device=CPU)
    assert found.per_iteration >= 0.02
    assert found.per_validation >= 4 * 0.05
    assert found.total == pytest.approx(10 * found.per_iteration + 3 * found.per_validation)
