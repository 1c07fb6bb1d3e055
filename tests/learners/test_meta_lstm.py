import dataclasses
import json
import math
import pathlib
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

import tests.learners.lstm_oracle as oracle
from pipeline import learners, spaces
from pipeline.core.errors import ConfigError, TrainingError, UnknownNameError
from pipeline.core.rng import torch_stream
from pipeline.learners import preprocess_gradient
from pipeline.learners.coordinate_lstm import Memory, Rule, advance, draw_rule
from pipeline.learners.lstm_settings import LstmConfig
from pipeline.learners.meta_learner import Tasks

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
PREPROCESSED = json.loads((GOLDEN / "metalstm_preprocess.json").read_text())
FORWARD = json.loads((GOLDEN / "metalstm_forward.json").read_text())
MetaLstm = learners.get("meta_lstm")
SMALL = LstmConfig(passes=2, batch_size=4, passes_one_shot=2, hidden_size=3)


def small_network(image_size=8, way=3):
    space = spaces.get("conv4_flat")()
    return space.build("conv4_flat", n_classes=way, channels=2, image_size=image_size).double()


def small_learner(**changes):
    return MetaLstm(small_network(), dataclasses.replace(SMALL, **changes))


def drawn_state(learner, seed=0):
    """A start with larger steps and more memory than a fresh one, so that every part of the rule matters."""
    generator = torch_stream(seed, "state")
    state = learner.start(generator)
    for name in ("rule.WF", "rule.WI"):
        state[name] = 0.5 * torch.randn(state[name].shape, generator=generator, dtype=torch.float64)
    state["rule.bF"], state["rule.bI"] = torch.full_like(state["rule.bF"], 2.0), torch.zeros_like(state["rule.bI"])
    return state


def small_tasks(n_tasks=2, shot=2, way=3, n_query=6, seed=0):
    generator = torch_stream(seed, "tasks")

    def images(n):
        return torch.randn(n_tasks, n, 3, 8, 8, generator=generator, dtype=torch.float64)

    labels = torch.arange(way)
    of_support = labels.repeat_interleave(shot).expand(n_tasks, -1)
    of_query = labels.repeat_interleave(n_query // way).expand(n_tasks, -1)
    return Tasks(images(way * shot), of_support, images(n_query), of_query)


def oracle_settings(config, k_shot=2):
    schedule = config.schedule(k_shot)
    return {
        "passes": schedule.passes,
        "batch_size": schedule.batch_size,
        "momentum": schedule.bn_momentum,
        "p": config.p,
        "log_offset": config.log_offset,
        "divide_twice": config.divide_twice,
    }


@pytest.mark.parametrize(
    ("dtype", "key", "log_offset"),
    [
        (torch.float32, "port_float32", 1e-8),
        (torch.float64, "port_formula_float64", 1e-8),
        (torch.float64, "paper_formula_float64", 0.0),
    ],
)
def test_preprocessing_gives_the_reference_numbers(dtype, key, log_offset):
    x = torch.tensor(PREPROCESSED["inputs"], dtype=dtype)
    expected = torch.tensor(PREPROCESSED[key], dtype=dtype)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(preprocess_gradient(x, log_offset=log_offset), expected, rtol=tolerance, atol=tolerance)


def test_preprocessing_by_default_is_that_of_the_published_pytorch_code():
    x = torch.tensor(PREPROCESSED["inputs"], dtype=torch.float64)
    assert torch.equal(preprocess_gradient(x, p=10), preprocess_gradient(x, p=10.0, log_offset=1e-8))


sizes = st.floats(1e-12, 1e6)


@given(sizes, st.sampled_from([2.0, 7.0, 10.0]))
def test_the_sign_of_a_gradient_is_in_its_second_component_only(size, p):
    up, down = preprocess_gradient(torch.tensor([size, -size], dtype=torch.float64), p)
    assert up[0] == down[0] and up[1] == -down[1] > 0


@given(sizes, sizes)
def test_a_larger_gradient_is_larger_in_both_components(first, second):
    low, high = preprocess_gradient(torch.tensor(sorted([first, second]), dtype=torch.float64), log_offset=0.0)
    assert (low <= high).all()


@pytest.mark.parametrize("p", [2.0, 10.0])
def test_the_papers_components_are_continuous_where_the_formula_changes(p):
    edge = math.exp(-p)
    below, above = preprocess_gradient(
        torch.tensor([edge * (1 - 1e-9), edge * (1 + 1e-9)], dtype=torch.float64), p, log_offset=0.0
    )
    torch.testing.assert_close(below, above, atol=1e-8, rtol=0)


def test_preprocessing_keeps_the_shape_and_a_zero():
    assert preprocess_gradient(torch.zeros(3, 4)).shape == (3, 4, 2)
    assert preprocess_gradient(torch.zeros(())).tolist() == [-1.0, 0.0]
    assert preprocess_gradient(torch.zeros(1), log_offset=0.0).tolist() == [[-1.0, 0.0]]


def waves(amplitude, frequency, phase, *shape):
    numbers = torch.arange(math.prod(shape), dtype=torch.float64)
    return (amplitude * torch.sin(frequency * numbers + phase)).view(shape)


def golden_entries():
    given = FORWARD["weights"]
    shapes = {"weight_ih": (80, 4), "weight_hh": (80, 20), "bias_ih": (80,), "bias_hh": (80,)}
    entries = {
        name: waves(*given[f"lstm.{name} {str(list(shape)).replace(' ', '')}"], *shape)
        for name, shape in shapes.items()
    }
    entries |= {name: waves(*given[f"{name} [22,1]"], 22, 1) for name in ("WF", "WI")}
    entries |= {name: torch.tensor([given[name]], dtype=torch.float64) for name in ("bF", "bI")}
    return {name: value.requires_grad_() for name, value in entries.items()}, waves(*given["cI [7,1]"], 7)


def test_three_updates_and_their_gradients_are_those_of_the_reference():
    entries, weights = golden_entries()
    rule = Rule.of(entries)
    memory = Memory.before(rule, weights.requires_grad_())
    for step in FORWARD["steps"]:
        # the reference handed its loss over in single precision
        loss = torch.tensor(step["loss"]).double()
        gradient = torch.tensor(step["grad"], dtype=torch.float64)
        memory = advance(rule, memory, preprocess_gradient(loss), preprocess_gradient(gradient), gradient)
        for found, key in (
            (memory.hidden[:, 0], "lstm_h_row0"),
            (memory.cell[:, 0], "lstm_c_row0"),
            (memory.gates[0], "f_pre_sigmoid"),
            (memory.gates[1], "i_pre_sigmoid"),
            (memory.weights, "c"),
        ):
            torch.testing.assert_close(found, torch.tensor(step[key], dtype=torch.float64), atol=1e-9, rtol=1e-9)
    objective = memory.weights @ torch.tensor(FORWARD["objective"]["weights_on_final_c"], dtype=torch.float64)
    assert objective.item() == pytest.approx(FORWARD["objective"]["value"], rel=1e-9)
    gradients = dict(zip(["cI", *entries], torch.autograd.grad(objective, [weights, *entries.values()]), strict=True))
    expected = FORWARD["grads_of_objective"]
    for name in ("cI", "WF", "WI", "bF", "bI"):
        wanted = torch.tensor(expected[name], dtype=torch.float64).flatten()
        torch.testing.assert_close(gradients[name].flatten(), wanted, atol=1e-9, rtol=1e-7)
    torch.testing.assert_close(gradients["bias_hh"], gradients["bias_ih"])
    for name in ("weight_ih", "weight_hh", "bias_ih"):
        assert float(gradients[name].norm()) == pytest.approx(expected[f"lstm.{name}_norm"], rel=1e-7)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"batch_size": 6, "divide_twice": False},
        {"batch_size": 2, "passes": 1, "log_offset": 0.0, "p": 7.0},
        {"batch_size": 50, "passes": 4},
    ],
)
def test_an_episode_is_that_of_the_slow_oracle(changes):
    learner, tasks = small_learner(**changes), small_tasks()
    state = drawn_state(learner)
    found = learner.meta_gradient(state, tasks)
    totals = {name: torch.zeros_like(value) for name, value in state.items()}
    for task in range(2):
        leaves = {name: value.clone().requires_grad_() for name, value in state.items()}
        images = leaves, tasks.support[task], tasks.support_labels[task], tasks.query[task]
        logits = oracle.logits(learner.network, *images, training=True, **oracle_settings(learner.config))
        loss = cross_entropy(logits, tasks.query_labels[task])
        loss.backward()
        assert float(found.loss[task]) == pytest.approx(loss.item(), rel=1e-9)
        right = (logits.argmax(1) == tasks.query_labels[task]).double().mean()
        assert float(found.accuracy[task]) == pytest.approx(right.item())
        for name, leaf in leaves.items():
            totals[name] += leaf.grad / 2
    assert found.gradients.keys() == state.keys() and found.statistics == {}
    for name, total in totals.items():
        torch.testing.assert_close(found.gradients[name], total, atol=1e-9, rtol=1e-6)
        # biases before a BatchNorm vanish in it
        assert total.abs().max() > 1e-8 or name.endswith(".bias")
    logits = torch.stack(
        [
            oracle.logits(
                learner.network,
                state,
                tasks.support[task],
                tasks.support_labels[task],
                tasks.query[task],
                training=False,
                **oracle_settings(learner.config),
            )
            for task in range(2)
        ]
    )
    torch.testing.assert_close(learner.predict(state, tasks), logits, atol=1e-9, rtol=1e-6)


def test_one_shot_has_a_schedule_of_its_own():
    learner, tasks = small_learner(passes_one_shot=3, batch_size_one_shot=3), small_tasks(n_tasks=1, shot=1)
    state = drawn_state(learner)
    settings = oracle_settings(learner.config, k_shot=1)
    assert (settings["passes"], settings["batch_size"], settings["momentum"]) == (3, 3, 0.9)
    logits = oracle.logits(
        learner.network, state, tasks.support[0], tasks.support_labels[0], tasks.query[0], training=False, **settings
    )
    torch.testing.assert_close(learner.predict(state, tasks)[0], logits, atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize("divide_twice", [True, False])
def test_with_an_open_forget_gate_the_rule_is_gradient_descent_with_step_sigmoid_of_its_input_bias(divide_twice):
    learner, tasks = small_learner(divide_twice=divide_twice, batch_size=6, passes=3), small_tasks(n_tasks=1)
    state = learner.start(torch_stream(0, "start"))
    state |= {f"rule.{name}": torch.zeros_like(state[f"rule.{name}"]) for name in ("WF", "WI")}
    state["rule.bF"], state["rule.bI"] = torch.full_like(state["rule.bF"], 60.0), torch.full_like(state["rule.bI"], 0.3)
    network = small_network().train()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = learner.config.bn_momentum
    step = 1 / (1 + math.exp(-0.3)) / (6 if divide_twice else 1)
    optimiser = torch.optim.SGD(network.parameters(), lr=step)
    for _ in range(3):
        optimiser.zero_grad()
        cross_entropy(network(tasks.support[0]), tasks.support_labels[0]).backward()
        optimiser.step()
    expected = network.eval()(tasks.query[0]).detach()
    torch.testing.assert_close(learner.predict(state, tasks)[0], expected, atol=1e-9, rtol=1e-6)


def test_gradients_are_those_of_finite_differences_when_the_signals_of_the_support_set_are_held_fixed(monkeypatch):
    learner, tasks = small_learner(), small_tasks(n_tasks=1)
    state, signals, signal = drawn_state(learner), [], learner._signal

    def recorded(*arguments):
        signals.append(signal(*arguments))
        return signals[-1]

    monkeypatch.setattr(learner, "_signal", recorded)
    gradients = learner.meta_gradient(state, tasks).gradients

    def loss(name, place, change):
        moved = {key: value.clone() for key, value in state.items()}
        moved[name].view(-1)[place] += change
        given = iter(signals)
        monkeypatch.setattr(learner, "_signal", lambda *arguments: next(given))
        return float(learner.meta_gradient(moved, tasks).loss)

    for name, gradient in gradients.items():
        place = int(gradient.abs().argmax())
        slope = (loss(name, place, 1e-5) - loss(name, place, -1e-5)) / 2e-5
        assert float(gradient.view(-1)[place]) == pytest.approx(slope, rel=1e-4, abs=1e-8), name


def test_recomputing_the_steps_changes_nothing():
    tasks = small_tasks()
    state = drawn_state(small_learner())
    kept, recomputed = (small_learner(recompute_steps=one).meta_gradient(state, tasks) for one in (False, True))
    assert torch.equal(kept.loss, recomputed.loss)
    assert all(torch.equal(kept.gradients[name], recomputed.gradients[name]) for name in state)


def test_recomputing_the_steps_keeps_less_for_the_backward_pass():
    tasks = small_tasks(n_tasks=1)

    def kept(recompute):
        learner = small_learner(recompute_steps=recompute, hidden_size=20, passes=6)
        state = {name: value.requires_grad_() for name, value in learner.start(torch_stream(0, "start")).items()}
        saved = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda one: saved.setdefault(one.data_ptr(), one.numel()) and one, lambda one: one
        ):
            weights, _ = learner._adapted(state, tasks, 0)
        assert weights.requires_grad
        return sum(saved.values())

    assert kept(True) < kept(False) / 2


def test_the_gradient_of_a_meta_batch_is_the_mean_over_its_tasks():
    learner, tasks = small_learner(), small_tasks(n_tasks=3)
    state = drawn_state(learner)
    both = learner.meta_gradient(state, tasks)
    parts = [getattr(tasks, field.name) for field in dataclasses.fields(Tasks)]
    alone = [learner.meta_gradient(state, Tasks(*(part[i : i + 1] for part in parts))) for i in range(3)]
    torch.testing.assert_close(both.loss, torch.cat([one.loss for one in alone]))
    for name in state:
        torch.testing.assert_close(both.gradients[name], sum(one.gradients[name] for one in alone) / 3)


def test_only_the_gradients_that_are_wanted_are_computed():
    learner, tasks = small_learner(), small_tasks()
    state = drawn_state(learner)
    wanted = ["rule.bI", "classifier.weight"]
    some, every = learner.meta_gradient(state, tasks, wanted), learner.meta_gradient(state, tasks)
    assert list(some.gradients) == wanted
    for name in wanted:
        torch.testing.assert_close(some.gradients[name], every.gradients[name])
    with pytest.raises(UnknownNameError, match=r"rule\.bI"):
        learner.meta_gradient(state, tasks, ["rule.bi"])


def test_a_label_given_in_a_test_does_not_depend_on_the_other_queries():
    learner, tasks = small_learner(), small_tasks()
    state = drawn_state(learner)
    together = learner.predict(state, tasks)
    for query in range(tasks.query.shape[1]):
        alone = dataclasses.replace(tasks, query=tasks.query[:, query : query + 1])
        torch.testing.assert_close(learner.predict(state, alone)[:, 0], together[:, query])
    assert learner.setting == "inductive"


def test_predictions_carry_no_graph_and_read_no_labels_of_queries():
    learner, tasks = small_learner(), small_tasks()
    state = {name: value.requires_grad_() for name, value in drawn_state(learner).items()}
    found = learner.predict(state, tasks)
    assert not found.requires_grad and found.shape == (2, 6, 3)
    unlabelled = dataclasses.replace(tasks, query_labels=torch.full_like(tasks.query_labels, -7))
    assert torch.equal(learner.predict(state, unlabelled), found)


@pytest.mark.parametrize("training", [True, False])
def test_the_network_the_state_and_the_global_generator_stay_as_they_were(training):
    learner, tasks = small_learner(), small_tasks()
    network = learner.network.train(training)
    network.blocks[1][1].eval()
    state = drawn_state(learner)
    copies = [{name: value.clone() for name, value in one.items()} for one in (state, network.state_dict())]
    random = torch.get_rng_state()
    first, second = learner.meta_gradient(state, tasks), learner.meta_gradient(state, tasks)
    assert torch.equal(learner.predict(state, tasks), learner.predict(state, tasks))
    assert torch.equal(first.loss, second.loss)
    for one, before in zip((state, network.state_dict()), copies, strict=True):
        assert all(torch.equal(one[name], value) for name, value in before.items())
    assert network.training is training and not network.blocks[1][1].training
    assert all(layer.momentum == 0.1 for layer in network.modules() if isinstance(layer, nn.BatchNorm2d))
    assert all(weight.grad is None for weight in network.parameters())
    assert torch.equal(torch.get_rng_state(), random)


def test_the_start_is_the_networks_weights_and_a_rule_close_to_gradient_descent():
    network = spaces.get("conv4_flat")().build("conv4_flat", n_classes=5, channels=32, image_size=84)
    learner = MetaLstm(network, LstmConfig())
    state, again = (learner.start(torch_stream(0, "start")) for _ in range(2))
    assert sum(value.numel() for value in state.values()) == 35_027
    assert learner.learned(state) == tuple(state)
    assert all(torch.equal(state[name], again[name]) for name in state)
    for name, weight in network.named_parameters():
        assert torch.equal(state[name], weight) and state[name].data_ptr() != weight.data_ptr()
    assert not any(value.requires_grad for value in state.values())


def test_the_rule_is_drawn_from_the_published_ranges():
    drawn = [draw_rule(20, torch_stream(seed, "rule")) for seed in range(200)]
    limits = {name: (-(20**-0.5), 20**-0.5) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    limits |= {"WF": (-0.01, 0.01), "WI": (-0.01, 0.01), "bF": (4.0, 6.0), "bI": (-5.0, -4.0)}
    assert limits.keys() == drawn[0].keys()
    for name, (low, high) in limits.items():
        values = torch.cat([one[name].flatten() for one in drawn])
        assert low <= values.min() < low + 0.05 * (high - low) and high - 0.05 * (high - low) < values.max() <= high


def test_steps_of_the_outer_loop_lower_the_query_loss():
    learner, tasks = small_learner(divide_twice=False), small_tasks(n_tasks=2)
    state = learner.start(torch_stream(0, "start"))
    losses = []
    for _ in range(15):
        found = learner.meta_gradient(state, tasks)
        losses.append(float(found.loss.mean()))
        state = {name: value - 0.1 * found.gradients[name] for name, value in state.items()}
    assert losses[-1] < losses[0] - 0.1


def test_a_loss_that_is_not_finite_is_refused():
    learner, tasks = small_learner(), small_tasks()
    state = drawn_state(learner)
    state["classifier.weight"][0, 0] = math.inf
    with pytest.raises(TrainingError, match="diverged"):
        learner.meta_gradient(state, tasks)


def test_a_single_image_whose_map_is_a_single_pixel_is_refused_with_what_to_change():
    with pytest.raises(ConfigError, match="batch_size"):
        learner = small_learner(batch_size=5)
        learner.predict(drawn_state(learner), small_tasks())


def test_preprocessing_is_imported_only_when_it_is_asked_for():
    code = "import sys, pipeline.learners as l; a = 'torch' in sys.modules; l.preprocess_gradient; print(a)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
    with pytest.raises(AttributeError, match="postprocess"):
        learners.postprocess  # noqa: B018
