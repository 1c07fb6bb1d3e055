"""The meta step of T-NAS and both of Auto-MAML against numbers of the published code."""

import json
import pathlib

import pytest
import torch

from pipeline import learners
from pipeline.learners.inner_loop import losses
from pipeline.learners.meta_learner import Tasks
from pipeline.learners.settings import GradientConfig
from pipeline.learners.statistics import run
from tests.learners.toy_supernet import golden_supernet, golden_tasks

GOLDEN = json.loads((pathlib.Path(__file__).parents[1] / "golden" / "tnas_meta_step.json").read_text())
CONFIG = GOLDEN["config"]
ALPHAS = ("alphas.normal", "alphas.reduce")
TASKS = golden_tasks(CONFIG["meta_batch"], CONFIG["way"], CONFIG["query"])


def learner(**knobs):
    settings = {
        "inner_lr": CONFIG["inner_lr_w"],
        "inner_lr_alphas": CONFIG["inner_lr_theta"],
        "inner_steps": CONFIG["update_step"],
        "first_order": True,
    }
    return learners.get("gradient")(golden_supernet(), GradientConfig(**{**settings, **knobs}))


def start(learner):
    return learner.start(torch.Generator())


def weights_of(learner):
    return [name for name in learner.learned(start(learner)) if name not in ALPHAS]


def norm_over(gradients, names):
    return torch.cat([gradients[name].flatten() for name in names]).norm().item()


def same(found, expected):
    assert found == pytest.approx(expected, rel=1e-10, abs=1e-10)


def after_adam(state, gradients, rate):
    """Alphas after the first step of the outer loop."""
    parameters = [torch.nn.Parameter(state[name].clone()) for name in ALPHAS]
    for parameter, name in zip(parameters, ALPHAS, strict=True):
        parameter.grad = gradients[name]
    betas, decay = CONFIG["adam_betas_theta"], CONFIG["arch_weight_decay"]
    torch.optim.Adam(parameters, lr=rate, betas=betas, weight_decay=decay).step()
    return parameters[0][0].tolist()


def test_the_supernet_gives_the_published_logits_and_loss_on_a_support_set():
    network = golden_supernet()
    logits = run(network, dict(network.named_parameters()), TASKS.support[0])
    loss = losses(logits[None], TASKS.support_labels[:1]).sum()
    gradients = dict(zip(ALPHAS, torch.autograd.grad(loss, network.alphas.values(), retain_graph=True), strict=True))
    expected = GOLDEN["support_task0"]
    for found, row in zip(logits.tolist(), expected["logits"], strict=True):
        same(found, row)
    same(loss.item(), expected["loss"])
    same(gradients["alphas.normal"][0].tolist(), expected["grad_alpha_normal_row0"])
    same(norm_over(gradients, ALPHAS[:1]), expected["grad_alpha_normal_norm"])
    same(norm_over(gradients, ALPHAS[1:]), expected["grad_alpha_reduce_norm"])


@pytest.mark.parametrize("n_steps", [1, 2, 3])
def test_weights_and_alphas_adapt_together_as_published(n_steps):
    joint = learner(inner_steps=n_steps, test_steps=n_steps)
    state, expected = start(joint), GOLDEN["inner_loop_task0"][n_steps - 1]
    alphas = joint.adapted(state, TASKS, n_steps, wanted=ALPHAS)
    same(alphas["alphas.normal"][0, 0].tolist(), expected["alpha_normal_row0"])
    same(alphas["alphas.reduce"][0].norm().item(), expected["alpha_reduce_norm"])
    same(losses(joint.predict(state, TASKS), TASKS.query_labels)[0].item(), expected["query_loss_after"])


def test_the_meta_gradient_of_tnas_is_the_published_one():
    joint = learner()
    state, expected = start(joint), GOLDEN["meta_step"]
    found = joint.meta_gradient(state, TASKS)
    same(norm_over(found.gradients, weights_of(joint)), expected["meta_grad_w_norm"])
    same([norm_over(found.gradients, [name]) for name in ALPHAS], expected["meta_grad_theta_norms"])
    same(found.gradients["alphas.normal"][0].tolist(), expected["meta_grad_theta_normal_row0"])
    same(found.accuracy.mean().item(), expected["accs"][-1])
    same(after_adam(state, found.gradients, CONFIG["outer_lr_theta"]), expected["alpha_normal_row0_after"])


@pytest.mark.parametrize("n_steps", [0, 1, 2, 3])
def test_accuracies_along_the_inner_loop_are_the_published_ones(n_steps):
    for adapts, expected in (("all", GOLDEN["meta_step"]), ("weights", GOLDEN["automaml_w_step"])):
        one = learner(adapts=adapts, test_steps=n_steps)
        right = one.predict(start(one), TASKS).argmax(-1) == TASKS.query_labels
        same(right.double().mean().item(), expected["accs"][n_steps])


def test_the_alpha_gradient_of_automaml_is_the_published_one_where_weights_are_restored_afterwards():
    one = learner(adapts="weights")
    expected = GOLDEN["automaml_theta_step"]
    gradients = one.meta_gradient(start(one), TASKS, wanted=ALPHAS).gradients
    assert set(gradients) == set(ALPHAS)
    same([norm_over(gradients, [name]) for name in ALPHAS], expected["grad_norms_corrected"])
    same(gradients["alphas.normal"][0].tolist(), expected["grad_normal_row0_corrected"])


def support_gradients(one, state, task):
    """Gradients of the support losses on the alphas, summed over the steps of one task."""
    totals = {name: 0 for name in ALPHAS}
    for n_steps in range(CONFIG["update_step"]):
        adapted = {name: weight[0] for name, weight in one.adapted(state, task, n_steps).items()}
        alphas = {name: state[name].clone().requires_grad_() for name in ALPHAS}
        logits = run(one.network, {**adapted, **alphas}, task.support[0])
        loss = losses(logits[None], task.support_labels).sum()
        for name, part in zip(ALPHAS, torch.autograd.grad(loss, alphas.values()), strict=True):
            totals[name] = totals[name] + part
    return totals


def test_the_published_alpha_gradient_of_automaml_is_the_early_restored_one_with_all_that_was_never_cleared():
    one = learner(adapts="weights", restore_first=True)
    state, expected = start(one), GOLDEN["automaml_theta_step"]
    published = {name: 0 for name in ALPHAS}
    for place in range(len(TASKS)):
        parts = (TASKS.support, TASKS.support_labels, TASKS.query, TASKS.query_labels)
        task = Tasks(*(part[place : place + 1] for part in parts))
        queries, supports = one.meta_gradient(state, task, wanted=ALPHAS).gradients, support_gradients(one, state, task)
        # what one task leaves in the gradient is counted again with every later task
        times = (len(TASKS) - place) / len(TASKS)
        published = {name: published[name] + times * (queries[name] + supports[name]) for name in ALPHAS}
    same([norm_over(published, [name]) for name in ALPHAS], expected["grad_norms_as_is"])
    same(published["alphas.normal"][0].tolist(), expected["grad_normal_row0_as_is"])
    same(after_adam(state, published, CONFIG["outer_lr_theta"]), expected["alpha_normal_row0_after_as_is"])


def test_weights_set_back_in_place_before_the_backward_pass_give_the_early_restored_gradient():
    one = learner(adapts="weights", restore_first=True)
    state, network = start(one), golden_supernet().train()
    weights = {name: weight for name, weight in network.named_parameters() if name not in ALPHAS}
    expected = [0, 0]
    for task in range(len(TASKS)):
        adapted = one.adapted(state, TASKS, CONFIG["update_step"])
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(adapted[name][task])
        loss = torch.nn.functional.cross_entropy(network(TASKS.query[task]), TASKS.query_labels[task])
        for name, weight in weights.items():
            weight.data.copy_(state[name])
        parts = torch.autograd.grad(loss, list(network.alphas.values()))
        expected = [total + part / len(TASKS) for total, part in zip(expected, parts, strict=True)]
    found = one.meta_gradient(state, TASKS, wanted=ALPHAS).gradients
    right = learner(adapts="weights").meta_gradient(state, TASKS, wanted=ALPHAS).gradients
    for name, gradient in zip(ALPHAS, expected, strict=True):
        torch.testing.assert_close(found[name], gradient, rtol=1e-10, atol=1e-13)
        assert (found[name] - right[name]).norm() > 1e-2 * right[name].norm()


@pytest.mark.parametrize("restore_first", [False, True])
def test_the_weight_gradient_of_automaml_is_the_published_one_in_either_order(restore_first):
    one = learner(adapts="weights", restore_first=restore_first)
    found = one.meta_gradient(start(one), TASKS, wanted=weights_of(one))
    same(norm_over(found.gradients, weights_of(one)), GOLDEN["automaml_w_step"]["meta_grad_w_norm"])
    same(found.accuracy.mean().item(), GOLDEN["automaml_w_step"]["accs"][-1])


def test_several_supernets_at_once_give_what_one_after_the_other_gives():
    alone, together = learner(), learner(tasks_at_once=2)
    one, both = (each.meta_gradient(start(each), TASKS) for each in (alone, together))
    for name, gradient in one.gradients.items():
        torch.testing.assert_close(both.gradients[name], gradient, rtol=1e-9, atol=1e-12)
