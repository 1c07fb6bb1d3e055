"""Supervised training of one network, resumable to the same bits.

On few-shot sets the recipe of RFS (Tian et al., ECCV 2020) as MetaNTK-NAS uses it: cross entropy over all base classes,
SGD with momentum, random crop, jitter and flip, drop path that grows with the epochs. On classification sets that of
DARTS (Liu et al., ICLR 2019): besides, cutout, an auxiliary classifier, clipped gradients, and on ImageNet label
smoothing and a warm-up; or that of MetaD2A (Lee et al., ICLR 2021): Nesterov's momentum, images as they are. No model
selection: the weights of the last epoch are the ones tested.

Every draw comes from a stream named by the run's seed and the epoch, so an epoch is a function of its number and of the
state before it: resuming from the last whole epoch gives what an undisturbed run gives.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.core.errors import ConfigError, TrainingError
from pipeline.core.progress import track
from pipeline.core.rng import torch_stream
from pipeline.core.wording import n_of
from pipeline.data import transforms
from pipeline.data.prepared import PreparedSet
from pipeline.evaluation.augmentation import augmented
from pipeline.evaluation.networks import outputs_of, training_splits
from pipeline.evaluation.schedules import drop_path_probability, learning_rate
from pipeline.evaluation.settings import TrainConfig

State = dict[str, Any]
FEW_STEPS = 300
"""Updates of the weights below which a network from scratch is hardly better than an untrained one."""


@dataclass(frozen=True)
class TrainingImages:
    """Which images of a prepared set are trained on.

    Attributes:
        prepared: the set; only `rows` of its images are ever read.
        rows: image rows, shape (n,).
        labels: outputs of the network that they should raise, shape (n,), in 0 .. n_classes - 1.
    """

    prepared: PreparedSet
    rows: np.ndarray
    labels: Tensor

    @classmethod
    def of(cls, prepared: PreparedSet, config: TrainConfig) -> "TrainingImages":
        """All images of the splits that the configuration trains on."""
        rows = np.concatenate([prepared.rows_of_split(split) for split in training_splits(prepared, config)])
        return cls(prepared, rows, torch.from_numpy(outputs_of(prepared, config)[prepared.labels[rows]]))

    def batch(self, chosen: Tensor, config: TrainConfig, augmentation: torch.Generator, device: torch.device) -> Tensor:
        """Augmented, normalised images, shape (n, 3, h, w)."""
        images = transforms.gather(self.prepared, self.rows[chosen.numpy()]).to(device)
        images = augmented(images, self.prepared, config, augmentation)
        return transforms.to_float(images, self.prepared.mean, self.prepared.std)


def optimiser_of(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The rule of the weight updates; its learning rate is set anew before every step."""
    if config.optimiser == "adam":
        betas = (config.momentum, 0.999)
        return torch.optim.Adam(network.parameters(), config.learning_rate, betas, weight_decay=config.weight_decay)
    return torch.optim.SGD(
        network.parameters(),
        config.learning_rate,
        momentum=config.momentum,
        nesterov=config.nesterov and config.momentum > 0,
        weight_decay=config.weight_decay,
    )


def train(
    network: nn.Module,
    images: TrainingImages,
    config: TrainConfig,
    *,
    seed: int,
    device: torch.device,
    what: str | None = "training",
    section: str = "train",
    resume: State | None = None,
    after_epoch: Callable[[State], None] = lambda state: None,
) -> list[dict[str, float]]:
    """Train `network` in place, on `device`.

    Args:
        network: a network of a space, with initial weights and `drop_path`; with an auxiliary classifier where
            config.auxiliary_weight is not 0 (a space that has none does without).
        seed: names the streams of shuffling, augmentation and drop path.
        what: name of the work in progress lines; None for none.
        section: of params.yaml, where the knobs come from; for messages.
        resume: a state that `after_epoch` was given; training goes on after its epoch.
        after_epoch: called after each epoch with all that resuming needs: tensors, numbers and lists only.

    Returns:
        One row per epoch: epoch, learning_rate (of its last step), loss (that of the auxiliary classifier left out),
        train_accuracy (of the augmented images while the weights move), seconds.

    Raises:
        ConfigError: an epoch has not one whole batch.
        TrainingError: the loss is not finite; `after_epoch` has not seen that epoch.
    """
    if len(images.rows) < config.batch_size:
        raise ConfigError(
            f"{section}.batch_size is {config.batch_size}, but there are only {n_of(len(images.rows), 'image')} to "
            f"train on. Lower {section}.batch_size or add images."
        )
    layout = torch.channels_last if config.channels_last else torch.contiguous_format
    network.to(device=device, memory_format=layout)
    optimiser = optimiser_of(network, config)
    curve: list[dict[str, float]] = []
    if resume is not None:
        network.load_state_dict(resume["network"])
        optimiser.load_state_dict(resume["optimiser"])
        curve = [dict(row) for row in resume["curve"]]
    run = torch.compile(network) if config.compile else network
    todo = range(len(curve) + 1, config.epochs + 1)
    for epoch in todo if what is None else track(todo, what, total=config.epochs, done=len(curve)):
        curve.append(run_epoch(network, run, optimiser, images, config, epoch, seed, device, section))
        after_epoch({"network": network.state_dict(), "optimiser": optimiser.state_dict(), "curve": list(curve)})
    network.eval()
    return curve


def run_epoch(
    network: nn.Module,
    run: Callable[[Tensor], Tensor | tuple[Tensor, Tensor]],
    optimiser: torch.optim.Optimizer,
    images: TrainingImages,
    config: TrainConfig,
    epoch: int,
    seed: int,
    device: torch.device,
    section: str = "train",
) -> dict[str, float]:
    """One pass over the images; returns the epoch's row of the curve.

    Args:
        network, run: the network, and what is called for its logits: itself, or its compiled form. Both may give a
            pair: logits, and those of an auxiliary classifier.
        epoch: from 1; decides learning rate, drop path and all draws.

    Raises TrainingError when the loss is not finite.
    """
    started = time.perf_counter()
    network.train()
    network.drop_path.probability = drop_path_probability(config, epoch)
    network.drop_path.generator = torch_stream(seed, "drop path", epoch, device=str(device))
    augmentation = torch_stream(seed, "augmentation", epoch)
    order = torch.randperm(len(images.rows), generator=torch_stream(seed, "shuffle", epoch))
    n_steps = len(order) // config.batch_size
    total = torch.zeros(2, dtype=torch.float64, device=device)
    for step in range(n_steps):
        rate = learning_rate(config, epoch, step, n_steps)
        chosen = order[step * config.batch_size : (step + 1) * config.batch_size]
        batch = images.batch(chosen, config, augmentation, device)
        total += _step(network, run, optimiser, batch, images.labels[chosen].to(device), rate, config)
    loss, accuracy = (total / (n_steps * config.batch_size)).tolist()
    if not math.isfinite(loss):
        raise TrainingError(
            f"The training loss is {loss} in epoch {epoch} at learning rate {rate:.4g}: the training has diverged. "
            f"Lower {section}.learning_rate, or set {section}.precision to float32."
        )
    seconds = time.perf_counter() - started
    return {"epoch": epoch, "learning_rate": rate, "loss": loss, "train_accuracy": accuracy, "seconds": seconds}


def _step(
    network: nn.Module,
    run: Callable[[Tensor], Tensor | tuple[Tensor, Tensor]],
    optimiser: torch.optim.Optimizer,
    batch: Tensor,
    labels: Tensor,
    rate: float,
    config: TrainConfig,
) -> Tensor:
    """One update of the weights; returns (sum of losses, number right), shape (2,), without waiting for the device."""
    for group in optimiser.param_groups:
        group["lr"] = rate
    if config.channels_last:
        batch = batch.contiguous(memory_format=torch.channels_last)
    with torch.autocast(batch.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
        outputs = run(batch)
    logits, *auxiliary = outputs if isinstance(outputs, tuple) else (outputs,)
    loss, *others = (
        functional.cross_entropy(one.float(), labels, label_smoothing=config.label_smoothing)
        for one in (logits, *auxiliary)
    )
    optimiser.zero_grad(set_to_none=True)
    (loss + config.auxiliary_weight * sum(others)).backward()
    if config.clip_norm > 0:
        nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)
    optimiser.step()
    right = (logits.detach().argmax(1) == labels).sum()
    return torch.stack([loss.detach() * len(labels), right]).double()


def finished(state: Mapping[str, Any] | None, config: TrainConfig) -> bool:
    """Whether a state is that of the last epoch."""
    return state is not None and len(state["curve"]) == config.epochs


def too_short(n_images: int, config: TrainConfig, section: str = "train") -> str | None:
    """A warning where training on so many images makes fewer steps than FEW_STEPS, else None.

    Args:
        section: of params.yaml, where the knobs come from.
    """
    per_epoch = n_images // config.batch_size
    n_steps = config.epochs * per_epoch
    if n_steps == 0 or n_steps >= FEW_STEPS:
        return None
    return (
        f"warning: {n_of(n_images, 'image')} give only {n_of(n_steps, 'training step')} ({section}.epochs "
        f"{config.epochs}, {section}.batch_size {config.batch_size}), too few to learn much; {section}.epochs: "
        f"{math.ceil(FEW_STEPS / per_epoch)} in params.yaml would be enough"
    )
