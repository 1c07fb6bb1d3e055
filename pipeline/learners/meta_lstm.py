"""The meta-learner LSTM: a recurrent network writes the updates of a learner's weights, and its start is learned too.

Ravi and Larochelle, "Optimization as a Model for Few-Shot Learning", ICLR 2017.
"""

import contextlib
from collections.abc import Collection, Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from pipeline.core.errors import ConfigError, TrainingError, UnknownNameError
from pipeline.kernels.undisturbed import mode_of
from pipeline.learners import LEARNERS
from pipeline.learners.coordinate_lstm import ENTRIES, Memory, Rule, advance, draw_rule, preprocess_gradient
from pipeline.learners.lstm_settings import LstmConfig
from pipeline.learners.meta_learner import MetaGradient, MetaLearner, State, Tasks
from pipeline.nets.norm_pool import gradients_taken_once

RULE = "rule."


@LEARNERS.register("meta_lstm")
class MetaLstm(MetaLearner):
    """Adapts by the updates of an LSTM whose cell state is the network's weights.

    The state holds the initial weights under the network's names, and the rule's tensors under `rule.`; all are
    learned. Gradients and losses of the support set are taken as given, so no second derivatives are formed, yet each
    update passes gradients on to the one before (section 3.4 of the paper). Tasks are adapted one after another.

    BatchNorm starts from fresh running statistics in every task. Support batches are normalised by themselves. In
    meta-training the queries are, too; in a test they are normalised by the running statistics of the support batches.
    """

    Config = LstmConfig
    config: LstmConfig

    @property
    def setting(self) -> str:
        return "inductive"

    def start(self, generator: torch.Generator) -> State:
        weights = {name: weight.detach().clone() for name, weight in self.network.named_parameters()}
        like = next(iter(weights.values()))
        rule = draw_rule(self.config.hidden_size, generator)
        return weights | {RULE + name: value.to(like) for name, value in rule.items()}

    def learned(self, state: State) -> tuple[str, ...]:
        return tuple(state)

    def meta_gradient(self, state: State, tasks: Tasks, wanted: Collection[str] | None = None) -> MetaGradient:
        names = self.learned(state) if wanted is None else tuple(wanted)
        for name in names:
            if name not in state:
                raise UnknownNameError("entry of the state of meta_lstm:", name, state)
        losses, accuracies, totals = [], [], [torch.zeros_like(state[name]) for name in names]
        for task in range(len(tasks)):
            leaves = {name: value.detach().requires_grad_(name in names) for name, value in state.items()}
            with torch.enable_grad():
                weights, statistics = self._adapted(leaves, tasks, task)
                with self._lent(training=True):
                    logits = self._logits(weights, statistics, laid_out(tasks.query[task]))
                loss = cross_entropy(logits, tasks.query_labels[task])
                gradients = torch.autograd.grad(loss, [leaves[name] for name in names], materialize_grads=True)
            for total, gradient in zip(totals, gradients, strict=True):
                total += gradient / len(tasks)
            losses.append(loss.detach())
            accuracies.append((logits.detach().argmax(-1) == tasks.query_labels[task]).float().mean())
        loss = torch.stack(losses)
        if not loss.isfinite().all():
            raise TrainingError(
                "The query loss of the meta-learner LSTM is not finite: the training has diverged. Lower the outer "
                "loop's learning_rate or its clip_norm."
            )
        return MetaGradient(dict(zip(names, totals, strict=True)), {}, loss, torch.stack(accuracies))

    @torch.no_grad()
    def predict(self, state: State, tasks: Tasks) -> Tensor:
        found = []
        for task in range(len(tasks)):
            weights, statistics = self._adapted(state, tasks, task)
            with self._lent(training=False):
                found.append(self._logits(weights, statistics, laid_out(tasks.query[task])))
        return torch.stack(found)

    def _adapted(self, state: State, tasks: Tasks, task: int) -> tuple[Tensor, State]:
        """The weights after all updates (n,), and the running statistics of the support batches.

        The weights carry a graph over the updates where gradients are enabled.
        """
        images, labels = laid_out(tasks.support[task]), tasks.support_labels[task]
        schedule = self.config.schedule(len(labels) // (int(labels.max()) + 1))
        rule = Rule.of({name: state[RULE + name] for name in ENTRIES})
        memory = Memory.before(rule, torch.cat([state[name].flatten() for name, _ in self.network.named_parameters()]))
        statistics = self._fresh_statistics(memory.weights)
        with self._lent(training=True, momentum=schedule.bn_momentum):
            for _ in range(schedule.passes):
                for batch in zip(images.split(schedule.batch_size), labels.split(schedule.batch_size), strict=True):
                    loss, gradient = self._signal(memory.weights, statistics, *batch)
                    if self.config.divide_twice:
                        gradient = gradient / schedule.batch_size
                    memory = self._advanced(rule, memory, loss, gradient)
        return memory.weights, statistics

    def _advanced(self, rule: Rule, memory: Memory, loss: Tensor, gradient: Tensor) -> Memory:
        pairs = [preprocess_gradient(x, self.config.p, self.config.log_offset) for x in (loss, gradient)]
        if self.config.recompute_steps and torch.is_grad_enabled():
            return checkpoint(advance, rule, memory, *pairs, gradient, use_reentrant=False, preserve_rng_state=False)
        return advance(rule, memory, *pairs, gradient)

    def _signal(self, weights: Tensor, statistics: State, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loss of a batch and its gradient (n,), both without a graph; the statistics take the batch in."""
        with torch.enable_grad():
            leaf = weights.detach().requires_grad_()
            try:
                logits = self._logits(leaf, statistics, images)
            except ValueError as error:
                if len(images) > 1:
                    raise
                raise ConfigError(
                    "The last update of a pass over the support set has a single image, which BatchNorm cannot "
                    "normalise where maps are one pixel. Choose a `batch_size` that leaves none or more than one over."
                ) from error
            loss = cross_entropy(logits, labels)
            (gradient,) = torch.autograd.grad(loss, leaf)
        return loss.detach(), gradient

    def _logits(self, weights: Tensor, statistics: State, images: Tensor) -> Tensor:
        """Of the network with weights from one vector (n,), shape (images, way)."""
        own = dict(self.network.named_parameters())
        parts = weights.split([weight.numel() for weight in own.values()])
        named = {name: part.view(weight.shape) for (name, weight), part in zip(own.items(), parts, strict=True)}
        return functional_call(self.network, named | statistics, (images,))

    def _fresh_statistics(self, like: Tensor) -> State:
        """Buffers of the network as before any batch."""
        fresh = {}
        for name, buffer in self.network.named_buffers():
            kind = name.rpartition(".")[2]
            fresh[name] = buffer.to(like.device, copy=True)
            if kind in START_OF:
                fresh[name].fill_(START_OF[kind])
        return fresh

    @contextlib.contextmanager
    def _lent(self, *, training: bool, momentum: float | None = None) -> Iterator[None]:
        """The network in a mode, its BatchNorm layers with a momentum, after which both are as they were."""
        layers = [layer for layer in self.network.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
        before = [layer.momentum for layer in layers]
        try:
            if momentum is not None:
                for layer in layers:
                    layer.momentum = momentum
            with mode_of(self.network, training), gradients_taken_once():
                yield
        finally:
            for layer, value in zip(layers, before, strict=True):
                layer.momentum = value


START_OF = {"running_mean": 0.0, "running_var": 1.0}
"""Running statistics of BatchNorm before any batch."""


def laid_out(images: Tensor) -> Tensor:
    """Images (n, c, h, w), on the CPU with channels innermost in memory: convolutions and pools are fastest so."""
    return images.contiguous(memory_format=torch.channels_last) if images.device.type == "cpu" else images
