"""Learning rates and drop-path probabilities over the epochs of a training."""

import math

from pipeline.evaluation.settings import TrainConfig

WARM_UP = 0.25


def _step(config: TrainConfig, epoch: int, done: float) -> float:
    del done
    return config.decay ** sum(epoch > milestone for milestone in config.milestones)


def _cosine(config: TrainConfig, epoch: int, done: float) -> float:
    """Half a cosine down to the floor, one value per epoch (Loshchilov and Hutter, ICLR 2017, without restarts)."""
    del done
    return config.floor + (1 - config.floor) * (1 + math.cos(math.pi * (epoch - 1) / config.epochs)) / 2


def _one_cycle(config: TrainConfig, epoch: int, done: float) -> float:
    """Linear rise over the first quarter, then half a cosine to zero (Smith and Topin, 2018), changing every step."""
    del config, epoch
    if done < WARM_UP:
        return 0.05 + 0.95 * done / WARM_UP
    return (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP))) / 2


SCHEDULES = {"step": _step, "cosine": _cosine, "one_cycle": _one_cycle}


def learning_rate(config: TrainConfig, epoch: int, step: int, n_steps: int) -> float:
    """Learning rate of step `step` (from 0) of `n_steps` in epoch `epoch` (from 1).

    A milestone m changes the rate of the epochs after it: epoch m still has the old one. During the warm-up the
    schedule goes on beneath.
    """
    done = (epoch - 1 + step / n_steps) / config.epochs
    warm = min(1.0, epoch / config.warm_up) if config.warm_up else 1.0
    return warm * config.learning_rate * SCHEDULES[config.schedule](config, epoch, done)


def drop_path_probability(config: TrainConfig, epoch: int) -> float:
    """Probability of dropping a path in epoch `epoch` (from 1): it reaches config.drop_path in the last epoch."""
    return config.drop_path * epoch / config.epochs


def padding(config: TrainConfig, image_size: int) -> int:
    """Border of the random crop for square images of `image_size` pixels."""
    if config.pad is not None:
        return config.pad
    return 8 if image_size >= 64 else 4
