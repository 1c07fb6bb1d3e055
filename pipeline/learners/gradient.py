"""Adaptation by gradient steps from a start that is learned: MAML and its kin.

One learner, told apart by its knobs:

- MAML (Finn, Abbeel and Levine, ICML 2017): `first_order: false`, the exact gradient through the inner loop.
- First-order MAML (same paper, section 5.2): the gradient of the query loss at the adapted weights stands for it.
- ANIL (Raghu et al., ICLR 2020): `adapts: head`; the body is learned, and stays as it is on every task.
- T-NAS (Lian et al., ICLR 2020, equation 5): first order on a relaxed supernet; weights and alphas adapt together,
  each with their own learning rate.
- Auto-MAML (same paper, its variant of one architecture for all tasks): `adapts: weights`; the outer loop asks in turn
  for the gradient on the alphas and on the weights. The published code takes that on the alphas after it has set the
  weights back (`restore_first`). Besides, it never clears it: the support gradients of all steps, and all of the tasks
  before, stay in it. That is not offered; a test rebuilds the published numbers from the parts.
"""

from collections.abc import Collection, Iterable, Iterator
from contextlib import nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pipeline.core.errors import ConfigError, TrainingError, UnknownNameError
from pipeline.learners import LEARNERS
from pipeline.learners.inner_loop import adapt, backward_reads, each_task, losses
from pipeline.learners.meta_learner import MetaGradient, MetaLearner, State, Tasks
from pipeline.learners.settings import GradientConfig
from pipeline.learners.statistics import POLICIES, batch_norms, collected, computed_as, moved, run, running_start

ALPHAS, HEAD = "alphas.", "classifier."
"""How the names of architecture parameters begin, and those of the last layer's parameters."""


@LEARNERS.register("gradient")
class GradientLearner(MetaLearner):
    """Plain gradient steps on the support set, all tasks from one learned start.

    The state holds every parameter of the network and, where BatchNorm normalises queries by running statistics, those.

    Raises ConfigError when the network has nothing of what is to adapt.
    """

    Config = GradientConfig

    def __init__(self, network: nn.Module, config: GradientConfig):
        super().__init__(network, config)
        self._policy = POLICIES[config.statistics]
        names = [name for name, _ in network.named_parameters()]
        chosen = {
            "all": names,
            "head": [name for name in names if name.startswith(HEAD)],
            "weights": [name for name in names if not name.startswith(ALPHAS)],
        }
        self._learned, self._adapting = tuple(names), tuple(chosen[config.adapts])
        if not self._adapting:
            raise ConfigError(
                f"adapts is {config.adapts}, but the network has no such parameters. Set adapts to all, or call the "
                "network's last layer `classifier`."
            )
        self._running = tuple(running_start(network)) if self._policy.keeps_running else ()
        self._rates = {
            name: config.inner_lr_alphas if name.startswith(ALPHAS) else config.inner_lr for name in self._adapting
        }

    @property
    def setting(self) -> str:
        return self._policy.setting if batch_norms(self.network) else "inductive"

    def start(self, generator: torch.Generator) -> State:
        weights = {name: parameter.detach().clone() for name, parameter in self.network.named_parameters()}
        return {**weights, **(running_start(self.network) if self._policy.keeps_running else {})}

    def learned(self, state: State) -> tuple[str, ...]:
        return self._learned

    def meta_gradient(self, state: State, tasks: Tasks, wanted: Collection[str] | None = None) -> MetaGradient:
        """Adapt to each support set and differentiate the query loss.

        The gradient at entries that do not adapt is, in the first order, the partial one at the adapted weights.

        Args:
            wanted: names of the entries whose gradient is needed; None for all that are learned.

        Raises TrainingError when a loss or a gradient is not finite, and UnknownNameError for a name that is not
        learned.
        """
        weights, running = self._parts(state)
        wanted = self._learned if wanted is None else tuple(wanted)
        for name in wanted:
            if name not in weights:
                raise UnknownNameError("learned entry", name, weights)
        totals: list[State] = [{}, {}]
        loss, accuracy = [], []
        # memory that weights share with those of other tasks cannot be set back
        size = 1 if self._restores(wanted) else self.config.tasks_at_once
        for chunk in _chunks(tasks, size):
            adapted, gradients, logits = self._differentiated(weights, running, chunk, wanted)
            seen = self._collected(weights, adapted, chunk) if self._policy.keeps_running else {}
            for total, part in zip(totals, (gradients, seen), strict=True):
                for name, value in part.items():
                    total[name] = total[name] + value if name in total else value
            loss.append(losses(logits, chunk.query_labels))
            accuracy.append((logits.argmax(-1) == chunk.query_labels).to(logits.dtype).mean(dim=1))
        gradients, seen = ({name: value / len(tasks) for name, value in total.items()} for total in totals)
        loss = torch.cat(loss)
        self._check([loss], state, "query loss", self.config.inner_steps)
        self._check(gradients.values(), state, "gradient of the query loss", self.config.inner_steps)
        statistics = moved(self.network, running, seen) if seen else {}
        return MetaGradient(gradients, statistics, loss, torch.cat(accuracy))

    def predict(self, state: State, tasks: Tasks) -> Tensor:
        """Logits of the queries after `test_steps` steps, shape (task, n_query, way); builds no graph over it.

        Raises TrainingError when some are not finite.
        """
        weights, running = self._parts(state)
        logits = []
        for chunk in _chunks(tasks, self.config.tasks_at_once):
            adapted = self._adapted(weights, chunk, self.config.test_steps)
            with torch.no_grad():
                logits.append(self._query_logits(adapted, weights, running, chunk))
        logits = torch.cat(logits)
        self._check([logits], state, "network's output", self.config.test_steps)
        return logits

    def adapted(self, state: State, tasks: Tasks, n_steps: int, wanted: Collection[str] | None = None) -> State:
        """The entries that adapt after `n_steps` steps on each support set, with a leading axis of tasks.

        Args:
            wanted: names of the entries to return; None for all that adapt.

        The result has no graph. Raises TrainingError when some are not finite, and UnknownNameError for a name that
        does not adapt.
        """
        weights, _ = self._parts(state)
        wanted = self._adapting if wanted is None else tuple(wanted)
        for name in wanted:
            if name not in self._rates:
                raise UnknownNameError("entry that adapts", name, self._adapting)
        parts = []
        for chunk in _chunks(tasks, self.config.tasks_at_once):
            adapted = self._adapted(weights, chunk, n_steps)
            parts.append({name: adapted[name] for name in wanted})
        found = {name: torch.cat([part[name] for part in parts]) for name in wanted}
        self._check(found.values(), state, "adapted start", n_steps)
        return found

    @torch.enable_grad()
    def _differentiated(
        self, weights: State, running: State, tasks: Tasks, wanted: Collection[str]
    ) -> tuple[State, State, Tensor]:
        """Adapted weights, gradients summed over the tasks, and logits of the queries; none has a graph."""
        second_order, n_steps = not self.config.first_order, self.config.inner_steps
        if second_order:
            leaves = _leaves(weights, wanted)
            own = self._adapted({**weights, **leaves}, tasks, n_steps, second_order=True)
        else:
            own = self._adapted(weights, tasks, n_steps)
            leaves = _leaves({**weights, **own}, wanted)
            own = {name: leaves.get(name, weight) for name, weight in own.items()}
        early = nullcontext()
        if self._restores(wanted):
            own = {name: weight.clone() for name, weight in own.items()}
            early = backward_reads(own, self._spread(weights, tasks))
        with early:
            logits = self._query_logits(own, {**weights, **leaves}, running, tasks)
            total = losses(logits, tasks.query_labels).sum()
        gradients: State = {}
        if leaves:
            found = torch.autograd.grad(total, list(leaves.values()), materialize_grads=True)
            gradients = dict(zip(leaves, found, strict=True))
        if not second_order:
            gradients = {name: part.sum(0) if name in own else part for name, part in gradients.items()}
        return {name: weight.detach() for name, weight in own.items()}, gradients, logits.detach()

    def _restores(self, wanted: Collection[str]) -> bool:
        return self.config.restore_first and not any(name in self._rates for name in wanted)

    def _adapted(self, weights: State, tasks: Tasks, n_steps: int, *, second_order: bool = False) -> State:
        """What adapts, with a leading axis of tasks."""
        own, shared = self._spread(weights, tasks), self._shared(weights)
        function, inputs = partial(run, self.network), tasks.support
        if self.config.adapts == "head":
            # nothing below the head moves, so its input is the same in every step
            with torch.set_grad_enabled(second_order), computed_as(self.network.classifier, lambda features: features):
                inputs = each_task(function, own, shared, inputs)
            function = self._head

        def loss(own: State) -> Tensor:
            return losses(each_task(function, own, shared, inputs), tasks.support_labels).sum()

        return adapt(loss, own, self._rates, n_steps, second_order=second_order)

    def _head(self, weights: State, features: Tensor) -> Tensor:
        head = {name.removeprefix(HEAD): weight for name, weight in weights.items() if name.startswith(HEAD)}
        return functional_call(self.network.classifier, head, (features,))

    def _query_logits(self, own: State, weights: State, running: State, tasks: Tasks) -> Tensor:
        def logits(weights: State, support: Tensor, query: Tensor) -> Tensor:
            return self._policy.query_logits(self.network, weights, running, support, query)

        return each_task(logits, own, self._shared(weights), tasks.support, tasks.query)

    def _collected(self, weights: State, adapted: State, tasks: Tasks) -> State:
        """Statistics of the support images under the adapted weights, summed over the tasks."""
        total: State = {}
        for task, images in enumerate(tasks.support):
            own = {name: weight[task] for name, weight in adapted.items()}
            for name, value in collected(self.network, {**weights, **own}, images).items():
                total[name] = total[name] + value if name in total else value
        return total

    def _spread(self, weights: State, tasks: Tasks) -> State:
        return {name: weights[name].expand(len(tasks), *weights[name].shape) for name in self._adapting}

    def _shared(self, weights: State) -> State:
        return {name: weight for name, weight in weights.items() if name not in self._rates}

    def _parts(self, state: State) -> tuple[State, State]:
        """Weights and running statistics. Raises ConfigError when the state is that of another learner."""
        known = {*self._learned, *self._running}
        if state.keys() != known:
            odd = sorted(state.keys() ^ known)
            raise ConfigError(
                f"The state does not fit the learner: only one of them has {', '.join(odd[:5])}"
                f"{', ...' if len(odd) > 5 else ''}. Use a state of the same network and the same `statistics`."
            )
        weights, running = ({name: state[name].detach() for name in names} for names in (self._learned, self._running))
        return weights, running

    def _check(self, tensors: Iterable[Tensor], state: State, what: str, n_steps: int) -> None:
        if _finite(tensors):
            return
        if _finite(state.values()):
            rates = " and ".join(f"{rate:g}" for rate in sorted(set(self._rates.values())))
            cause = f"the {n_steps} steps on the support set have diverged. Lower inner_lr or inner_lr_alphas ({rates})"
        else:
            cause = "the start itself has diverged. Lower the learning rate of the outer loop"
        raise TrainingError(f"The {what} is not finite: {cause}.")


def _leaves(weights: State, wanted: Collection[str]) -> State:
    return {name: weights[name].detach().requires_grad_() for name in wanted}


def _finite(tensors: Iterable[Tensor]) -> bool:
    found = [tensor.isfinite().all() for tensor in tensors]
    return not found or bool(torch.stack(found).all())


def _chunks(tasks: Tasks, size: int) -> Iterator[Tasks]:
    parts = (tasks.support, tasks.support_labels, tasks.query, tasks.query_labels)
    for chunk in zip(*(part.split(size) for part in parts), strict=True):
        yield Tasks(*chunk)
