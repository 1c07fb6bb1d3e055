"""Inner loop, meta-gradients and statistics of BatchNorm against closed forms, finite differences and a plain loop."""

import dataclasses
import math
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional

from pipeline import learners
from pipeline.core.config import build
from pipeline.core.errors import ConfigError, DataError, TrainingError, UnknownNameError
from pipeline.learners.inner_loop import adapt, losses
from pipeline.learners.settings import GradientConfig
from pipeline.learners.statistics import POLICIES, by_first, collected, run
from pipeline.nets.conv4 import Conv4
from tests.learners.made import make_tasks

WAY = 3
TASKS = make_tasks(3, way=WAY, n_support=2, n_query=3, dtype=torch.float64)
every_policy = pytest.mark.parametrize("policy", list(POLICIES))
every_order = pytest.mark.parametrize("first_order", [True, False])
every_choice = pytest.mark.parametrize("adapts", ["all", "head", "weights"])


def conv4(seed=0, channels=3):
    """In float64, with BatchNorms whose running statistics and weights are not those of a new network."""
    generator = torch.Generator().manual_seed(seed)
    network = Conv4(n_classes=WAY, channels=channels).double()
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(0.5 * torch.randn(tensor.shape, generator=generator, dtype=torch.float64))
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_var.abs_().add_(0.5)
    return network


class Relaxed(nn.Module):
    """Conv-4 whose features are scaled by architecture parameters."""

    def __init__(self):
        super().__init__()
        self.body = conv4()
        self.body.classifier = nn.Identity()
        self.alphas = nn.ParameterDict({"normal": 0.3 * torch.arange(3, dtype=torch.float64)})
        self.classifier = nn.Linear(3, WAY).double()
        with torch.no_grad():
            self.classifier.weight.copy_(torch.arange(9.0).view(3, 3).sin())
            self.classifier.bias.copy_(torch.arange(3.0).cos())

    def forward(self, images):
        return self.classifier(self.body(images) * self.alphas["normal"].softmax(-1))


def made(network=None, **knobs):
    knobs = {"inner_lr": 0.1, "inner_lr_alphas": 0.7, "inner_steps": 3, "test_steps": 3, **knobs}
    learner = learners.get("gradient")(conv4() if network is None else network, GradientConfig(**knobs))
    return learner, learner.start(torch.Generator())


def adapting(config, name):
    return {
        "all": True,
        "head": name.startswith("classifier."),
        "weights": not name.startswith("alphas."),
    }[config.adapts]


def statistics_by_hand(network, weights, images):
    """Mean and variance of the input of each BatchNorm of a network in training mode, in order."""
    seen, handles = [], []
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            handles.append(
                layer.register_forward_pre_hook(
                    lambda _, inputs: seen.append((inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3), correction=0)))
                )
            )
    torch.func.functional_call(network.train(), weights, (images,))
    for handle in handles:
        handle.remove()
    return seen


def query_logits_by_hand(network, policy, weights, state, support, query):
    """The network in training or evaluation mode, as anybody would write it."""
    if policy == "task":
        return torch.func.functional_call(network.train(), weights, (query,))
    if policy == "running":
        return torch.func.functional_call(network.eval(), {**state, **weights}, (query,))
    known = statistics_by_hand(network, weights, support)
    handles = []
    for layer, (mean, variance) in zip(
        [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)], known, strict=True
    ):

        def hook(layer, inputs, output, mean=mean, variance=variance):
            x = (inputs[0] - mean[:, None, None]) / (variance[:, None, None] + layer.eps).sqrt()
            return x * layer.weight[:, None, None] + layer.bias[:, None, None]

        handles.append(layer.register_forward_hook(hook))
    logits = torch.func.functional_call(network.train(), weights, (query,))
    for handle in handles:
        handle.remove()
    return logits


def meta_gradient_by_hand(make_network, config, state, tasks):
    """One task after the other, with torch.autograd.grad and the network's own BatchNorms; -> gradients, losses."""
    network = make_network()
    names = [name for name, _ in network.named_parameters()]
    totals, query_losses = {name: 0 for name in names}, []
    for task in range(len(tasks)):
        start = {name: state[name].clone().requires_grad_() for name in names}
        weights = dict(start)
        for _ in range(config.inner_steps):
            moved = [name for name in names if adapting(config, name)]
            logits = torch.func.functional_call(network.train(), weights, (tasks.support[task],))
            loss = functional.cross_entropy(logits, tasks.support_labels[task])
            gradients = torch.autograd.grad(loss, [weights[name] for name in moved], create_graph=True)
            for name, gradient in zip(moved, gradients, strict=True):
                rate = config.inner_lr_alphas if name.startswith("alphas.") else config.inner_lr
                weights[name] = weights[name] - rate * gradient
        if config.first_order:
            weights = start = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
        logits = query_logits_by_hand(
            network, config.statistics, weights, state, tasks.support[task], tasks.query[task]
        )
        loss = functional.cross_entropy(logits, tasks.query_labels[task])
        for name, part in zip(names, torch.autograd.grad(loss, [start[name] for name in names]), strict=True):
            totals[name] = totals[name] + part / len(tasks)
        query_losses.append(loss.detach())
    return totals, torch.stack(query_losses)


def assert_same(found, expected, tolerance=1e-8):
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=tolerance, atol=1e-10, msg=lambda m, n=name: n + m)


@every_policy
@every_order
@every_choice
@pytest.mark.parametrize("tasks_at_once", [1, 2])
def test_meta_gradients_are_those_of_a_loop_written_by_hand(policy, first_order, adapts, tasks_at_once):
    learner, state = made(
        Relaxed(), statistics=policy, first_order=first_order, adapts=adapts, tasks_at_once=tasks_at_once
    )
    found = learner.meta_gradient(state, TASKS)
    gradients, query_losses = meta_gradient_by_hand(Relaxed, learner.config, state, TASKS)
    assert_same(found.gradients, gradients)
    torch.testing.assert_close(found.loss, query_losses)
    torch.testing.assert_close(losses(learner.predict(state, TASKS), TASKS.query_labels), query_losses)


@every_policy
def test_the_second_order_gradient_is_that_of_finite_differences(policy):
    learner, state = made(statistics=policy, inner_steps=2)
    found, generator = learner.meta_gradient(state, TASKS).gradients, torch.Generator().manual_seed(1)
    for name in learner.learned(state):
        way = torch.randn(state[name].shape, generator=generator, dtype=torch.float64)
        step = 1e-6 / way.norm()
        above, below = (
            learner.meta_gradient({**state, name: state[name] + sign * step * way}, TASKS, wanted=()).loss.mean()
            for sign in (1, -1)
        )
        assert (above - below) / (2 * step) == pytest.approx((found[name] * way).sum().item(), rel=1e-4, abs=1e-6)


@every_policy
@pytest.mark.parametrize("knobs", [{"inner_steps": 0}, {"inner_lr": 0.0}])
def test_both_orders_agree_where_nothing_adapts(policy, knobs):
    first, second = (made(statistics=policy, first_order=order, **knobs) for order in (True, False))
    one, other = (learner.meta_gradient(state, TASKS) for learner, state in (first, second))
    assert_same(one.gradients, other.gradients, 1e-12)


def test_the_orders_differ_where_the_start_adapts():
    first, second = (made(first_order=order) for order in (True, False))
    one, other = (learner.meta_gradient(state, TASKS) for learner, state in (first, second))
    torch.testing.assert_close(one.loss, other.loss)
    name = "blocks.0.0.weight"
    assert (one.gradients[name] - other.gradients[name]).norm() > 1e-2 * other.gradients[name].norm()


def test_one_step_on_a_linear_model_has_a_closed_form():
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, WAY)).double()
    tasks = make_tasks(2, way=WAY, side=2, dtype=torch.float64)
    learner, state = made(network, inner_steps=1, inner_lr=0.2)
    adapted = learner.adapted(state, tasks, 1)
    for task in range(2):
        x, target = tasks.support[task].flatten(1), functional.one_hot(tasks.support_labels[task], WAY).double()
        residual = (x @ state["1.weight"].T + state["1.bias"]).softmax(-1) - target
        torch.testing.assert_close(adapted["1.weight"][task], state["1.weight"] - 0.2 * residual.T @ x / len(x))
        torch.testing.assert_close(adapted["1.bias"][task], state["1.bias"] - 0.2 * residual.mean(0))


def test_steps_on_a_parabola_have_a_closed_form_with_a_rate_for_each_entry():
    start = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor(3.0), "idle": torch.ones(2)}
    rates = {"a": torch.tensor([0.1, 0.5]), "b": 0.25, "idle": 1.0}
    found = adapt(lambda w: (w["a"].square().sum() + w["b"].square()) / 2, start, rates, n_steps=3, second_order=False)
    torch.testing.assert_close(found["a"], torch.tensor([1 * 0.9**3, 2 * 0.5**3]))
    torch.testing.assert_close(found["b"], torch.tensor(3 * 0.75**3))
    assert torch.equal(found["idle"], start["idle"])
    assert not any(weight.requires_grad for weight in (*found.values(), *start.values()))


def test_in_the_second_order_learning_rates_have_a_gradient_too():
    rate = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    start = {"a": torch.tensor(2.0, dtype=torch.float64)}
    found = adapt(lambda w: w["a"].square() / 2, start, {"a": rate}, n_steps=2, second_order=True)
    # a = 2 (1 - rate)^2
    torch.testing.assert_close(torch.autograd.grad(found["a"], rate)[0], torch.tensor(-4 * 0.7).double())


@every_order
@every_policy
def test_only_the_head_adapts_in_anil(policy, first_order):
    learner, state = made(adapts="head", first_order=first_order, statistics=policy)
    adapted = learner.adapted(state, TASKS, 2)
    assert set(adapted) == {"classifier.weight", "classifier.bias"}
    assert all(len(weight) == len(TASKS) for weight in adapted.values())
    assert not torch.equal(adapted["classifier.weight"][0], adapted["classifier.weight"][1])


def test_alphas_have_a_learning_rate_of_their_own():
    slow, fast = (made(Relaxed(), inner_lr_alphas=rate) for rate in (0.1, 0.2))
    moves = [
        learner.adapted(state, TASKS, 1, wanted=("alphas.normal",))["alphas.normal"] - state["alphas.normal"]
        for learner, state in (slow, fast)
    ]
    torch.testing.assert_close(moves[1], 2 * moves[0])


def test_permuting_the_labels_with_the_head_permutes_the_logits():
    learner, state = made()
    order = torch.tensor([2, 0, 1])
    place = order.argsort()
    tasks = dataclasses.replace(
        TASKS, support_labels=place[TASKS.support_labels], query_labels=place[TASKS.query_labels]
    )
    turned = {name: value[order] if name.startswith("classifier.") else value for name, value in state.items()}
    torch.testing.assert_close(learner.predict(turned, tasks), learner.predict(state, TASKS)[..., order])
    torch.testing.assert_close(learner.meta_gradient(turned, tasks).loss, learner.meta_gradient(state, TASKS).loss)


def test_the_order_of_the_support_images_does_not_matter():
    learner, state = made()
    turned = dataclasses.replace(TASKS, support=TASKS.support.flip(1), support_labels=TASKS.support_labels.flip(1))
    torch.testing.assert_close(learner.predict(state, turned), learner.predict(state, TASKS))


@every_policy
def test_a_query_alone_gets_the_same_logits_where_the_setting_is_inductive(policy):
    learner, state = made(statistics=policy)
    together = learner.predict(state, TASKS)
    alone = torch.cat(
        [
            learner.predict(
                state,
                dataclasses.replace(TASKS, query=TASKS.query[:, [i, i]], query_labels=TASKS.query_labels[:, [i, i]]),
            )[:, :1]
            for i in range(together.shape[1])
        ],
        dim=1,
    )
    assert torch.allclose(alone, together) == (learner.setting == "inductive") == (policy != "task")


def test_a_network_without_batchnorm_is_inductive_in_every_policy():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, WAY)).double()
    found = []
    for policy in POLICIES:
        learner, state = made(network, statistics=policy)
        assert learner.setting == "inductive" and set(state) == set(learner.learned(state))
        found.append(learner.predict(state, TASKS))
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_running_statistics_move_as_those_of_a_network_in_training_mode():
    learner, state = made(statistics="running", first_order=True)
    found = learner.meta_gradient(state, TASKS)
    expected, network = {name: 0 for name in found.statistics}, conv4()
    assert set(found.statistics) == {name for name in state if name.endswith(("running_mean", "running_var"))}
    adapted = learner.adapted(state, TASKS, learner.config.inner_steps)
    for task in range(len(TASKS)):
        buffers = {name: value.clone() for name, value in state.items() if name in expected}
        weights = {name: weight[task] for name, weight in adapted.items()}
        torch.func.functional_call(network.train(), {**weights, **buffers}, (TASKS.support[task],))
        expected = {name: total + buffers[name] / len(TASKS) for name, total in expected.items()}
    assert_same(found.statistics, expected)


def test_statistics_of_the_whole_batch_are_those_of_training_mode():
    network, images = conv4(), TASKS.query[0]
    weights = {name: weight.detach() for name, weight in network.named_parameters()}
    expected = network.train()(images)
    torch.testing.assert_close(run(network, weights, images), expected)
    torch.testing.assert_close(run(network, weights, images, by_first(len(images))), expected)
    torch.testing.assert_close(
        collected(network, weights, images)["blocks.0.1.running_mean"],
        functional.conv2d(images, weights["blocks.0.0.weight"], padding=1).mean((0, 2, 3)),
    )


def test_layers_are_as_before_when_a_pass_fails():
    network = conv4()
    with pytest.raises(RuntimeError):
        run(network, {}, torch.ones(2, 5, 8, 8))
    assert not any("forward" in vars(layer) for layer in network.modules())
    assert network.training


def test_non_affine_and_one_dimensional_norms_are_normalised_too():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False), nn.Flatten(), nn.Linear(144, WAY), nn.BatchNorm1d(WAY)
    ).double()
    for policy in POLICIES:
        learner, state = made(network, statistics=policy)
        assert learner.meta_gradient(state, TASKS).loss.isfinite().all()


@every_order
def test_what_the_backward_pass_needs_outlives_a_step_in_the_second_order_only(first_order):
    class Saved:
        def __init__(self, tensor):
            self.tensor = tensor
            alive.add(self)

    counts = []
    for n_steps in (1, 3):
        alive = weakref.WeakSet()
        start = {"a": torch.ones(3, requires_grad=True)}
        with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.tensor):
            found = adapt(
                lambda w: w["a"].exp().square().sum(), start, {"a": 0.01}, n_steps, second_order=not first_order
            )
        counts.append(len(alive))
        assert found["a"].requires_grad != first_order
    assert counts == [0, 0] if first_order else 0 < counts[0] < counts[1]


@every_order
def test_a_state_of_parameters_gives_results_without_a_graph_too(first_order):
    learner, state = made(first_order=first_order)
    parameters = {name: nn.Parameter(value) for name, value in state.items()}
    found = learner.meta_gradient(parameters, TASKS)
    assert_same(found.gradients, learner.meta_gradient(state, TASKS).gradients)
    held = [*found.gradients.values(), *learner.adapted(parameters, TASKS, 0).values(), found.loss]
    assert not any(tensor.requires_grad for tensor in held)
    assert all(parameter.grad is None for parameter in parameters.values())


def test_a_diverged_adaptation_says_what_to_lower():
    learner, state = made(inner_lr=1e160)
    for call in (learner.meta_gradient, learner.predict):
        with pytest.raises(TrainingError, match=r"steps on the support set have diverged. Lower inner_lr"):
            call(state, TASKS)
    broken = {**state, "classifier.bias": torch.full((WAY,), math.inf, dtype=torch.float64)}
    for call in (learner.meta_gradient, learner.predict, lambda *given: learner.adapted(*given, 1)):
        with pytest.raises(TrainingError, match="the learning rate of the outer loop"):
            call(broken, TASKS)


def test_names_and_states_that_do_not_fit_are_refused():
    learner, state = made(adapts="head")
    with pytest.raises(UnknownNameError, match="classifier.weight"):
        learner.meta_gradient(state, TASKS, wanted=["classifier.weigth"])
    with pytest.raises(UnknownNameError, match="adapts"):
        learner.adapted(state, TASKS, 1, wanted=["blocks.0.0.weight"])
    with pytest.raises(ConfigError, match="classifier.bias"):
        learner.predict({name: value for name, value in state.items() if name != "classifier.bias"}, TASKS)
    with pytest.raises(ConfigError, match="running_mean"):
        made(statistics="running")[0].predict(state, TASKS)
    with pytest.raises(ConfigError, match="classifier"):
        made(nn.Sequential(nn.Flatten(), nn.Linear(192, WAY)), adapts="head")
    with pytest.raises(ConfigError, match="keeps no running statistics"):
        made(nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)), statistics="running")


@pytest.mark.parametrize(
    "other",
    [
        {"support_labels": torch.zeros(3, 4)},
        {"query_labels": torch.zeros(2, 9)},
        {"query": torch.zeros(2, 9, 3, 8, 8), "query_labels": torch.zeros(2, 9)},
        {"query": torch.zeros(3, 0, 3, 8, 8), "query_labels": torch.zeros(3, 0)},
        {"support": torch.zeros(3, 3, 8, 8)},
    ],
)
def test_tasks_whose_parts_do_not_fit_are_refused(other):
    with pytest.raises(DataError, match="do not fit"):
        dataclasses.replace(TASKS, **other)


def test_a_variant_of_the_first_order_is_refused_in_the_second():
    with pytest.raises(ConfigError, match="first_order"):
        build(GradientConfig, {"restore_first": True})
    assert build(GradientConfig, {"restore_first": True, "first_order": True}).restore_first


def test_memory_layouts_of_images_and_weights_survive_the_loop():
    seen = []

    class Watching(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.classifier = nn.Conv2d(3, 4, 3), nn.Linear(4, WAY)

        def forward(self, images):
            layouts = [tensor.is_contiguous(memory_format=torch.channels_last) for tensor in (images, self.conv.weight)]
            seen.append(all(layouts))
            return self.classifier(self.conv(images).mean((2, 3)))

    def last(images):
        flat = images.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        return flat.unflatten(0, images.shape[:2])

    tasks = make_tasks(2, way=WAY)
    tasks = dataclasses.replace(tasks, support=last(tasks.support), query=last(tasks.query))
    learner, state = made(Watching().to(memory_format=torch.channels_last), first_order=True)
    learner.meta_gradient(state, tasks)
    learner.predict(state, tasks)
    assert all(seen) and len(seen) == 2 * (3 + 1) * 2
