"""The few-shot test of a meta-learner: it adapts to each episode's support set and labels the queries.

Images are only normalised, and nothing is shared between episodes. Inductive or transductive, as the learner says.
"""

from collections.abc import Sequence

import torch

from pipeline.core.checkpoint import Kept
from pipeline.core.errors import TrainingError
from pipeline.core.types import Episode
from pipeline.data.prepared import PreparedSet
from pipeline.episodes.batches import require_one_shape
from pipeline.evaluation.few_shot_test import Outcome
from pipeline.evaluation.task_images import tasks_of
from pipeline.learners.meta_learner import MetaLearner, State


def adapted_test(
    learner: MetaLearner,
    state: State,
    episodes: Sequence[Episode],
    prepared: PreparedSet,
    device: torch.device,
    tasks_at_once: int,
    *,
    what: str | None = "episodes",
    section: str = "meta_learn",
    kept: Kept | None = None,
) -> Outcome:
    """Test a state on episodes of one shape.

    Args:
        learner: its network is on `device`.
        state: may lie anywhere; it is not changed.
        prepared: at the size that the network sees.
        tasks_at_once: episodes that adapt together; the outcome is the same for any number, up to what rounding makes
            of queries between two classes.
        what: name of the work in progress lines, and of its pieces in `kept`; None for neither.
        section: of params.yaml, where the learner's knobs come from; for messages.
        kept: predictions of an interrupted run, which is gone on from.

    Raises:
        DataError: the episodes differ in way, shots or queries.
        TrainingError: the logits of an episode are not finite: that is no wrong answer, but none.
    """
    require_one_shape(episodes)
    state = {name: value.to(device) for name, value in state.items()}

    def predict(start: int) -> torch.Tensor:
        """Labels of the queries of a chunk, shape (episodes, way, n_query)."""
        chunk = episodes[start : start + tasks_at_once]
        logits = learner.predict(state, tasks_of(prepared, chunk, device))
        lost = (~logits.isfinite()).flatten(1).any(1).nonzero().flatten().tolist()
        if lost:
            raise TrainingError(
                f"Adaptation to episode {start + lost[0]} of {len(episodes)} gives logits that are not finite. Lower "
                f"the learning rates of {section}."
            )
        return logits.argmax(-1).cpu().view(len(chunk), *episodes[0].query.shape)

    starts = range(0, len(episodes), tasks_at_once)
    found = map(predict, starts) if what is None else (kept or Kept()).pieces(what, starts, predict)
    return Outcome.of(episodes, torch.cat(list(found)).numpy())
