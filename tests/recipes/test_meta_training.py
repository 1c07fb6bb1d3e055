"""Meta-training: its loop against plain ones, the best epoch, and what it learns from made-up accuracies."""

import copy
import io
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline import spaces
from pipeline.core.errors import ArtifactError, TrainingError
from pipeline.core.rng import torch_stream
from pipeline.data.features import draw
from pipeline.meta_networks import Normalisation
from pipeline.recipes.held_out import CORRELATIONS, compare_with_uniform, counted, judge_predictor, plan_of
from pipeline.recipes.learned import fresh
from pipeline.recipes.meta_settings import GeneratorTraining, PredictorTraining
from pipeline.recipes.meta_training import Examples, fit, predictions, train_generator, train_predictor
from tests.small_learning import DIM, KNOBS, Source

CPU = torch.device("cpu")
SIZE = {"feature_dim": DIM, "hs": 8, "nz": 8}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Source:
    return Source(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def space():
    return spaces.get("nas_bench_201")()


@pytest.fixture(scope="module")
def examples(source, space) -> dict[str, Examples]:
    database, features = source.database, source.features
    return {
        split: Examples.of(database.triples(split), split, database, features, space)
        for split in ("base", "validation", "novel")
    }


def config(cls=PredictorTraining, **knobs):
    names = {name for name in cls.__dataclass_fields__}
    return cls(**{name: value for name, value in (KNOBS | knobs).items() if name in names})


def trained(examples, space, kind="predictor", seed=0, resume=None, states=None, **knobs):
    """A network after training, and what training left; every state is kept in `states`, as a file would."""

    def keep(state):
        if states is not None:
            file = io.BytesIO()
            torch.save(state, file)
            states.append(file.getvalue())

    network = fresh(kind, SIZE, space, seed)
    progress = {"what": "test", "resume": resume, "after_epoch": keep, "seed": seed, "device": CPU}
    pair = examples["base"], examples["validation"]
    if kind == "generator":
        return network, train_generator(network, *pair, config(GeneratorTraining, **knobs), **progress)
    normalisation = Normalisation.of(pair[0].accuracy.tolist())
    return network, train_predictor(network, *pair, normalisation, config(**knobs), **progress)


def test_a_pair_goes_with_images_of_its_tasks_classes_alone(examples, source):
    base, prepared = examples["base"], source.prepared
    drawing = base.drawn([2], 4, torch.Generator().manual_seed(0))
    assert drawing.shape == (1, 3, 4, DIM)
    for place, class_id in enumerate(base.classes[2]):
        own = {tuple(row) for row in source.features.of_class(class_id, "base").tolist()}
        assert {tuple(row) for row in drawing[0, place].tolist()} <= own
        assert prepared.class_names[class_id] in source.database.tasks[base.names[2]].classes
    novel = examples["novel"]
    own = {tuple(row) for row in source.features.of_class(novel.classes[0][0], "novel").tolist()}
    assert {tuple(row) for row in novel.drawn([0], 3, torch.Generator())[0, 0].tolist()} <= own


def test_an_epoch_is_what_a_plain_loop_does(examples, space):
    network, outcome = trained(examples, space, predictor_epochs=1)
    plain, knobs, base = fresh("predictor", SIZE, space, 0), config(), examples["base"]
    targets = torch.from_numpy(Normalisation.of(base.accuracy.tolist()).to_target(base.accuracy)).float()
    optimiser = torch.optim.Adam(plain.parameters(), knobs.learning_rate)
    order = torch.randperm(len(base), generator=torch_stream(0, "shuffle", 1)).tolist()
    drawings, total = torch_stream(0, "drawings", 1), 0.0
    for start in range(0, len(order), knobs.batch_size):
        loss = 0.0
        for pair in order[start : start + knobs.batch_size]:
            images = draw(base.features, base.classes[base.task[pair]], knobs.n_images, drawings, "base")
            loss = loss + (plain(images[None], base.types[pair][None])[0] - targets[pair]) ** 2
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        total += loss.item()
    assert outcome.curve[0]["squared_error"] == pytest.approx(total / len(order), rel=1e-4)
    for mine, theirs in zip(network.parameters(), plain.parameters(), strict=True):
        # Adam makes steps of about 0.01 of the smallest gradients too, whose signs rounding may turn
        torch.testing.assert_close(mine, theirs, rtol=1e-2, atol=2e-3)


def test_predictions_are_those_of_single_forward_passes(examples, space):
    network, novel = fresh("predictor", SIZE, space, 0), examples["novel"]
    images = {task: novel.drawn([task] * 3, 3, torch_stream(0, task)) for task in range(len(novel.classes))}
    found = predictions(network, novel, images.__getitem__, CPU)
    for pair in range(len(novel)):
        for repeat in range(3):
            one = network(images[int(novel.task[pair])][repeat][None], novel.types[pair][None])
            assert found[repeat, pair] == pytest.approx(one.item(), abs=1e-5)


def test_every_epoch_is_validated_on_the_same_drawings(examples, space):
    _, outcome = trained(examples, space, learning_rate=0.0, predictor_epochs=3)
    assert len({row["validation_loss"] for row in outcome.curve}) == 1


def test_the_weights_are_those_of_the_best_epoch(examples, space):
    states = []
    network, outcome = trained(examples, space, states=states, predictor_epochs=6, best_by="spearman")
    values = [row["validation_spearman"] for row in outcome.curve]
    assert outcome.best_epoch == 1 + int(np.argmax(values))
    wanted = torch.load(io.BytesIO(states[outcome.best_epoch - 1]), weights_only=True)["network"]
    assert all(torch.equal(value, wanted[name]) for name, value in network.state_dict().items())


def test_the_last_epoch_is_kept_where_validation_cannot_tell_epochs_apart(examples, space):
    validation = examples["validation"]
    first = [validation.task.tolist().index(task) for task in range(len(validation.classes))]
    single = replace(
        validation,
        task=validation.task[first],
        types=validation.types[first],
        accuracy=validation.accuracy[first],
        genotypes=[validation.genotypes[i] for i in first],
    )
    states = []
    network, outcome = trained(examples | {"validation": single}, space, states=states, predictor_epochs=3)
    assert [row["chosen_by"] for row in outcome.curve] == [None] * 3
    assert outcome.best_epoch == 3
    wanted = torch.load(io.BytesIO(states[-1]), weights_only=True)["network"]
    assert all(torch.equal(value, wanted[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("kind", ["generator", "predictor"])
def test_going_on_from_any_epoch_gives_the_same_bits(kind, examples, space):
    states, knobs = [], {f"{kind}_epochs": 5}
    whole, outcome = trained(examples, space, kind, states=states, **knobs)
    for state in states[:-1]:
        resume = torch.load(io.BytesIO(state), weights_only=True)
        network, again = trained(examples, space, kind, resume=resume, **knobs)
        assert again.best_epoch == outcome.best_epoch
        assert all(torch.equal(value, whole.state_dict()[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("on, wanted", [("validation", [1.0, 1.0, 0.1]), ("training", [1.0, 1.0, 1.0])])
def test_the_learning_rate_follows_the_loss_it_is_told_to(on, wanted):
    network, losses = torch.nn.Linear(1, 1), iter([3.0, 2.0, 1.0])
    knobs = config(schedule_on=on, patience=0, learning_rate=1.0)

    def terms(pairs, drawings, noise):
        # the training loss falls, that of the validation stays
        return {"loss": network.weight.sum() * 0 + next(losses)}

    outcome = fit(network, 1, terms, lambda: {"validation_loss": 1.0, "worth": 0.0}, knobs, 3, seed=0, what="test")
    assert [row["learning_rate"] for row in outcome.curve] == pytest.approx(wanted)


def test_a_training_that_diverges_is_an_error_and_its_epoch_is_not_kept():
    network, kept = torch.nn.Linear(1, 1), []
    with pytest.raises(TrainingError, match="learning_rate"):
        fit(
            network, 1, lambda *_: {"loss": network.weight.sum() * math.nan},
            lambda: {"validation_loss": 1.0, "worth": 0.0}, config(), 2, seed=0, what="test", after_epoch=kept.append,
        )  # fmt: skip
    assert kept == []


def test_a_longer_training_learns_made_up_accuracies_and_a_random_ranking_does_not(examples, space):
    network, _ = trained(examples, space, predictor_epochs=60, patience=60)
    learned, untrained = (
        judge_predictor(
            one, examples["novel"], examples["base"].genotypes, config(), knows_tasks=True, seed=0, device=CPU
        )
        for one in (network, fresh("predictor", SIZE, space, 0))
    )
    assert learned["within_tasks"]["spearman"]["mean"] > 0.5
    assert learned["within_tasks"]["spearman"]["mean"] > untrained["within_tasks"]["spearman"]["mean"]


def test_one_task_says_nothing_about_the_spread_of_tasks(examples, space):
    novel, network = examples["novel"], fresh("predictor", SIZE, space, 0)
    mine = (novel.task == 0).nonzero().flatten().tolist()
    one = replace(
        novel,
        classes=novel.classes[:1],
        names=novel.names[:1],
        task=novel.task[mine],
        types=novel.types[mine],
        accuracy=novel.accuracy[mine],
        genotypes=[novel.genotypes[i] for i in mine],
    )
    found = judge_predictor(network, one, [], config(), knows_tasks=True, seed=0, device=CPU)["pooled"]["spearman"]
    assert found["value"] is not None and (found["low"], found["high"]) == (None, None)


def test_centred_values_have_no_mean_in_any_task(examples):
    novel = examples["novel"]
    centred = novel.centred(novel.accuracy)
    for task, pairs in novel.by_task():
        own = novel.accuracy[pairs.numpy()]
        assert centred[pairs.numpy()] == pytest.approx(own - own.mean()), task


def test_classes_that_the_source_lacks_are_an_error(source, space):
    database = source.database
    other = copy.copy(source.features)
    names = [f"other {name}" for name in source.prepared.class_names]
    object.__setattr__(other, "prepared", copy.copy(source.prepared))
    object.__setattr__(other.prepared, "class_names", names)
    with pytest.raises(ArtifactError, match="does not have"):
        Examples.of(database.triples("base"), "base", database, other, space)


def test_correlations_are_scipys():
    from scipy import stats

    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 40))
    wanted = {"pearson": stats.pearsonr, "spearman": stats.spearmanr, "kendall": stats.kendalltau}
    for name, of in CORRELATIONS.items():
        assert of(one, other) == pytest.approx(wanted[name](one, other).statistic)


def test_proposals_are_counted_as_by_hand(space):
    cells = [space.sample(torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    stopped = space.from_text("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|")
    proposals = [cells[0], None, cells[1], cells[0], stopped]
    found = counted(proposals, space, [space.to_text(cells[1])])
    assert (found["n"], found["n_valid"], found["n_different"]) == (5, 4, 3)
    assert found["n_connected"] == 3
    assert found["validity"] == 0.8 and found["uniqueness"] == 0.75 and found["novelty"] == pytest.approx(2 / 3)
    assert found["draws_for_500"] is None and found["validity_low"] < 0.8 < found["validity_high"]


def test_generated_cells_are_set_against_uniform_ones_of_the_same_task(examples):
    novel = examples["novel"]
    plan = plan_of(novel, [["a", "b"], ["c"], ["d"]], {}, "novel")
    uniform = dict(zip(novel.names, ([1.0, 3.0], [4.0], []), strict=True))
    found = compare_with_uniform(plan, [4.0, 6.0, 7.0, 9.0], uniform, knows_tasks=True)
    assert found["n_tasks"] == 2 and found["n_generated"] == 3
    assert found["generated"]["mean"] == pytest.approx(6.0) and found["uniform"]["mean"] == pytest.approx(3.0)
    assert found["difference"]["mean"] == pytest.approx(3.0) and found["beats_uniform"]
    assert compare_with_uniform(plan, [None] * 4, uniform, knows_tasks=True)["beats_uniform"] is False


def test_figures_of_new_architectures_leave_out_those_that_were_trained_on_in_every_task(examples, space):
    novel, network = examples["novel"], fresh("predictor", SIZE, space, 0)

    def judged(known):
        return judge_predictor(network, novel, known, config(), knows_tasks=True, seed=0, device=CPU)

    known = [novel.genotypes[int(pair)] for _, pairs in novel.by_task() for pair in pairs[:2]]
    found = judged(known)["new_architectures"]
    images = torch_stream(0, "held-out drawings")
    predicted = predictions(
        network, novel, lambda task: novel.drawn([task] * config().n_resamplings, config().n_images, images), CPU
    ).mean(0)
    wanted = []
    for _, pairs in novel.by_task():
        rows = [pair for pair in pairs.tolist() if novel.genotypes[pair] not in known]
        if len(rows) >= 3:
            wanted.append(CORRELATIONS["spearman"](predicted[rows], novel.accuracy[rows]))
    assert len(wanted) > 1 and found["n_triples"] < len(novel)
    told = found["within_tasks"]["spearman"]
    assert told["n"] == len(wanted) and told["mean"] == pytest.approx(np.mean(wanted)) and told["ci95"] > 0
    nothing_new = judged(novel.genotypes)["new_architectures"]
    assert nothing_new["n_triples"] == 0 and nothing_new["within_tasks"]["spearman"] is None
    everything_new = judged([])
    assert everything_new["new_architectures"]["within_tasks"] == everything_new["within_tasks"]


def test_tasks_of_an_oracle_that_knows_none_give_no_verdict(examples, space):
    novel = examples["novel"]
    network = fresh("predictor", SIZE, space, 0)
    found = judge_predictor(network, novel, [], config(), knows_tasks=False, seed=0, device=CPU)
    assert found["beats_random"] == {"ranking": None, "first_choice": None} and found["within_tasks"]["spearman"]
    plan = plan_of(novel, [["a"], ["b"], ["c"]], {}, "novel")
    uniform = {number: [1.0] for number in novel.names}
    assert compare_with_uniform(plan, [4.0, 5.0, 6.0], uniform, knows_tasks=False)["beats_uniform"] is None
