"""Meta-training: a network learns, from a database of tasks and architectures, what holds for data sets it never saw.

Adam on random drawings of each task's images, a learning rate that falls when the loss stops falling, and the weights
of the epoch that was best on tasks of unseen classes, whose drawings are the same in every epoch (MetaD2A, ICLR 2021,
draws them anew, so that luck has a say in which epoch is best).

Every draw comes from a stream named by the seed and the epoch, so an epoch is a function of its number and of the state
before it: resuming from the last whole epoch gives what an undisturbed run gives.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.core.errors import ArtifactError, ConfigError, TrainingError
from pipeline.core.progress import track
from pipeline.core.rng import torch_stream
from pipeline.core.types import KINDS
from pipeline.data.database import Database, Triple
from pipeline.data.features import FeatureSet, draw
from pipeline.evaluation.rank_quality import pearson, spearman
from pipeline.meta_networks import Generator, Normalisation, Predictor
from pipeline.recipes.meta_settings import GeneratorTraining, MetaTraining, PredictorTraining

State = dict[str, Any]
Terms = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Examples:
    """Pairs of a task and an architecture, and how good they are together.

    Attributes:
        features: of the source.
        split: where the tasks' images lie, None for the one that a search may read.
        classes: class ids of each task that occurs.
        task: place in `classes` of each pair, long, shape (n,).
        types: of the vertices of each pair's architecture, long, shape (n v).
        accuracy: of each pair, in the database's unit, float64, shape (n,).
        genotypes: text of each pair's architecture.
        names: number, in the database, of each task in `classes`.
    """

    features: FeatureSet
    split: str | None
    classes: list[tuple[int, ...]]
    task: Tensor
    types: Tensor
    accuracy: np.ndarray
    genotypes: list[str]
    names: list[int]

    @classmethod
    def of(
        cls, triples: Sequence[Triple], split: str, database: Database, features: FeatureSet, space: Any
    ) -> "Examples":
        """The triples of one split of a database.

        Raises:
            ConfigError: there are none.
            ArtifactError: the database is about other classes than the features.
        """
        if not triples:
            raise ConfigError(
                f"The database has no accuracies on {split} tasks, which meta-training needs. Raise "
                f"database.n_{split}_tasks."
            )
        prepared = features.prepared
        ids = {name: place for place, name in enumerate(prepared.class_names)}
        names = list(dict.fromkeys(triple.task for triple in triples))
        place_of = {name: place for place, name in enumerate(names)}
        try:
            classes = [tuple(ids[name] for name in database.tasks[task].classes) for task in names]
        except KeyError as error:
            raise ArtifactError(
                f"The database has tasks of the class {error}, which {prepared.name} does not have. Build the database "
                "of this source."
            ) from None
        return cls(
            features,
            None if KINDS[prepared.kind].shares_classes else split,
            classes,
            torch.tensor([place_of[triple.task] for triple in triples]),
            torch.stack([space.to_types(space.from_text(triple.genotype)) for triple in triples]),
            np.array([triple.accuracy for triple in triples]),
            [triple.genotype for triple in triples],
            names,
        )

    def __len__(self) -> int:
        return len(self.task)

    def drawn(self, tasks: Sequence[int], n_images: int, generator: torch.Generator) -> Tensor:
        """A drawing of the images of each of these tasks, in turn, shape (len(tasks) n_classes n_images dim)."""
        drawings = [draw(self.features, self.classes[task], n_images, generator, self.split) for task in tasks]
        return torch.stack(drawings)

    def centred(self, values: np.ndarray) -> np.ndarray:
        """Values of the pairs, each less the mean of its task; shape (n,)."""
        task = self.task.numpy()
        return values - (np.bincount(task, values) / np.bincount(task))[task]

    def by_task(self) -> Iterator[tuple[int, Tensor]]:
        """(task, its pairs) for each task."""
        for task in range(len(self.classes)):
            yield task, torch.nonzero(self.task == task).flatten()


@dataclass(frozen=True)
class Trained:
    """What a training leaves behind.

    Attributes:
        curve: a row per epoch.
        best_epoch: the epoch whose weights the network has.
        n_steps: updates of the weights.
    """

    curve: list[dict[str, float]]
    best_epoch: int
    n_steps: int


def fit(
    network: nn.Module,
    n_pairs: int,
    losses: Callable[[Tensor, torch.Generator, torch.Generator], Terms],
    validate: Callable[[], dict[str, float | None]],
    config: MetaTraining,
    n_epochs: int,
    *,
    seed: int,
    what: str,
    resume: State | None = None,
    after_epoch: Callable[[State], None] = lambda state: None,
) -> Trained:
    """Train a network in place; it ends with the weights of its best epoch.

    Args:
        network: on the device that computes, with its initial weights.
        losses: terms of the loss, each summed over the batch, from the batch's pairs (b,), a generator of drawings and
            one of latent noise; their sum is minimised.
        validate: figures of an epoch: `validation_loss`, `worth` (the epoch with the highest is the best; None is less
            than any number, and where all are None the last epoch is kept; the curve's `chosen_by`), and what else the
            curve shall show.
        seed: names the streams.
        what: name of the work in progress lines.
        resume: a state that `after_epoch` was given; training goes on after its epoch.
        after_epoch: called after each epoch with all that resuming needs: tensors, numbers and lists only.

    Raises TrainingError when the loss is not finite; `after_epoch` has not seen that epoch.
    """
    optimiser = torch.optim.Adam(network.parameters(), config.learning_rate)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=config.decay, patience=config.patience)
    curve: list[dict[str, float]] = []
    best: State = {}
    if resume is not None:
        network.load_state_dict(resume["network"])
        optimiser.load_state_dict(resume["optimiser"])
        schedule.load_state_dict(resume["schedule"])
        curve, best = list(resume["curve"]), dict(resume["best"])
    for epoch in track(range(len(curve) + 1, n_epochs + 1), what, total=n_epochs, done=len(curve)):
        started = time.perf_counter()
        rate = optimiser.param_groups[0]["lr"]
        terms = _epoch(network, n_pairs, losses, optimiser, config.batch_size, seed, epoch)
        network.eval()
        with torch.no_grad():
            figures = validate()
        worth = figures.pop("worth")
        loss = sum(terms.values())
        if not (math.isfinite(loss) and math.isfinite(figures["validation_loss"])):
            raise TrainingError(
                f"The loss is {loss}, on the validation tasks {figures['validation_loss']}, in epoch {epoch} of the "
                f"{what}: the training has diverged. Lower meta_train.learning_rate."
            )
        schedule.step(figures["validation_loss"] if config.schedule_on == "validation" else loss)
        if not best or best["worth"] is None or _is_better(worth, best["worth"]):
            best = {"epoch": epoch, "worth": worth, "network": _copy(network.state_dict())}
        curve.append(
            {
                "epoch": epoch,
                "learning_rate": rate,
                "loss": loss,
                **terms,
                **figures,
                "chosen_by": worth,
                "best_epoch": best["epoch"],
                "seconds": time.perf_counter() - started,
            }
        )
        after_epoch(
            {
                "network": network.state_dict(),
                "optimiser": optimiser.state_dict(),
                "schedule": schedule.state_dict(),
                "curve": curve,
                "best": best,
            }
        )
    network.load_state_dict(best["network"])
    network.eval()
    return Trained(curve, best["epoch"], len(curve) * math.ceil(n_pairs / config.batch_size))


def _epoch(
    network: nn.Module, n_pairs: int, losses, optimiser: torch.optim.Optimizer, batch_size: int, seed: int, epoch: int
) -> dict[str, float]:
    """One pass over the pairs; returns the means of the loss's terms over the pairs, while the weights move."""
    network.train()
    order = torch.randperm(n_pairs, generator=torch_stream(seed, "shuffle", epoch))
    drawings, noise = (torch_stream(seed, name, epoch) for name in ("drawings", "latent noise"))
    totals: dict[str, Tensor] = {}
    for pairs in order.split(batch_size):
        terms = losses(pairs, drawings, noise)
        optimiser.zero_grad(set_to_none=True)
        sum(terms.values()).backward()
        optimiser.step()
        for name, term in terms.items():
            totals[name] = totals.get(name, 0) + term.detach().double()
    return {name: float(total) / n_pairs for name, total in totals.items()}


def _is_better(worth: float | None, than: float) -> bool:
    return worth is not None and worth > than


def _copy(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in state.items()}


def train_generator(
    network: Generator,
    base: Examples,
    validation: Examples,
    config: GeneratorTraining,
    *,
    seed: int,
    device: torch.device,
    **progress: Any,
) -> Trained:
    """Learn to draw the architectures that are good for a data set; best is the epoch that finds those of the
    validation tasks likeliest.

    Args:
        base, validation: good architectures of tasks, those of the validation tasks of classes of their own.
        progress: `what`, `resume` and `after_epoch` of `fit`.
    """
    seen = validation.drawn(range(len(validation.classes)), config.n_images, torch_stream(seed, "validation drawings"))

    def losses(pairs: Tensor, drawings: torch.Generator, noise: torch.Generator) -> Terms:
        images = base.drawn(base.task[pairs].tolist(), config.n_images, drawings).to(device)
        loss = network.loss(images, base.types[pairs].to(device), noise, config.beta)
        return {"reconstruction": loss.reconstruction, "kl": loss.kl}

    def validate() -> dict[str, float]:
        found = reconstruction(network, validation, seen, config, device)
        return {
            "validation_loss": found["reconstruction"] + found["kl"],
            **{f"validation_{name}": value for name, value in found.items()},
            "worth": -found["reconstruction"],
        }

    return fit(network, len(base), losses, validate, config, config.generator_epochs, seed=seed, **progress)


@torch.no_grad()
def reconstruction(
    network: Generator, examples: Examples, seen: Tensor, config: GeneratorTraining, device: torch.device
) -> dict[str, float]:
    """Terms of the loss, means over the pairs, without latent noise.

    Args:
        seen: a drawing of each task, shape (n_tasks n_classes n_images dim).
    """
    totals = torch.zeros(2, dtype=torch.float64)
    for pairs in torch.arange(len(examples)).split(config.batch_size):
        images = seen[examples.task[pairs]].to(device)
        loss = network.loss(images, examples.types[pairs].to(device), None, config.beta)
        totals += torch.stack([loss.reconstruction, loss.kl]).double().cpu()
    return dict(zip(("reconstruction", "kl"), (totals / len(examples)).tolist(), strict=True))


def train_predictor(
    network: Predictor,
    base: Examples,
    validation: Examples,
    normalisation: Normalisation,
    config: PredictorTraining,
    *,
    seed: int,
    device: torch.device,
    **progress: Any,
) -> Trained:
    """Learn which accuracy an architecture reaches on a data set; best is the epoch whose predictions of the validation
    triples correlate best with their accuracies, by config.best_by.

    Args:
        base, validation: all architectures of tasks, those of the validation tasks of classes of their own.
        normalisation: of the accuracies of `base`.
        progress: `what`, `resume` and `after_epoch` of `fit`.
    """
    targets = torch.from_numpy(normalisation.to_target(base.accuracy)).float().to(device)
    wanted = normalisation.to_target(validation.accuracy)
    seen = validation.drawn(range(len(validation.classes)), config.n_images, torch_stream(seed, "validation drawings"))
    correlations = {"pearson": pearson, "spearman": spearman}

    def losses(pairs: Tensor, drawings: torch.Generator, noise: torch.Generator) -> Terms:
        images = base.drawn(base.task[pairs].tolist(), config.n_images, drawings).to(device)
        predicted = network(images, base.types[pairs].to(device))
        return {"squared_error": (predicted - targets[pairs.to(device)]).square().sum()}

    def validate() -> dict[str, float | None]:
        predicted = predictions(network, validation, lambda task: seen[task : task + 1], device).mean(0)
        found = {name: correlation(predicted, validation.accuracy) for name, correlation in correlations.items()}
        found["within_tasks"] = pearson(validation.centred(predicted), validation.centred(validation.accuracy))
        return {
            "validation_loss": float(np.square(predicted - wanted).mean()),
            **{f"validation_{name}": value for name, value in found.items()},
            "worth": found[config.best_by],
        }

    return fit(network, len(base), losses, validate, config, config.predictor_epochs, seed=seed, **progress)


@torch.no_grad()
def predictions(
    network: Predictor, examples: Examples, drawings_of: Callable[[int], Tensor], device: torch.device
) -> np.ndarray:
    """Predictions of all pairs, as targets, by drawing of the pair's task: float64, shape (r n).

    Args:
        drawings_of: the drawings (r n_classes n_images dim) of a task, by its place; r is the same for all tasks.
    """
    network.eval()
    graphs = network.encode_graphs(examples.types.to(device))
    found: np.ndarray | None = None
    for task, pairs in examples.by_task():
        by_drawing = rated(network, network.encode(drawings_of(task).to(device)), graphs[pairs.to(device)])
        if found is None:
            found = np.empty((len(by_drawing), len(examples)))
        found[:, pairs.numpy()] = by_drawing
    return found


@torch.no_grad()
def rated(network: Predictor, datasets: Tensor, graphs: Tensor) -> np.ndarray:
    """Predictions of architectures by drawing: float64, shape (r g), from their vectors (r nz) and (g nz)."""
    return torch.stack([network.score(drawing, graphs) for drawing in datasets.split(1)]).double().cpu().numpy()
