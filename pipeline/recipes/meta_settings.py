"""Knobs of the networks that are meta-trained on a database, MetaD2A's generator and predictor.

The `paper` rows are those of the published code and commands (Lee et al., "Rapid Neural Architecture Search by Learning
to Generate Graphs from Datasets", ICLR 2021), but where docs/methods/metad2a.md says otherwise.
"""

from dataclasses import dataclass

from pipeline.core.config import knob


@dataclass(frozen=True)
class MetaTraining:
    """What both trainings have in common."""

    n_images: int = knob(
        {"laptop": 10, "gpu": 20, "paper": 20}, "images of each class in one drawing of a data set", low=1
    )
    batch_size: int = knob(32, "pairs of a drawing and an architecture per step; a smaller last batch is kept", low=1)
    learning_rate: float = knob({"laptop": 1e-3, "gpu": 3e-4, "paper": 1e-4}, "learning rate of Adam at first", low=0)
    patience: int = knob(
        {"laptop": 50, "gpu": 20, "paper": 10},
        "epochs without a lower loss after which the learning rate is multiplied by decay",
        low=0,
    )
    decay: float = knob(0.1, "factor of the learning rate when the loss has stopped falling", low=0, high=1)
    schedule_on: str = knob(
        "validation",
        "whose loss the learning rate follows; the published code follows that of the training",
        choices=("validation", "training"),
    )
    n_resamplings: int = knob(
        {"laptop": 4, "gpu": 10, "paper": 10},
        "drawings of a held-out task over which predictions are averaged when what was learned is measured",
        low=1,
    )


@dataclass(frozen=True)
class GeneratorTraining(MetaTraining):
    """The network that draws architectures for a data set, and its training."""

    generator_hs: int = knob(
        {"laptop": 32, "gpu": 56, "paper": 56}, "generator: width of the states of vertices", low=1
    )
    generator_nz: int = knob(
        {"laptop": 32, "gpu": 56, "paper": 56}, "generator: width of what is read of a data set, a multiple of 4", low=4
    )
    generator_epochs: int = knob({"laptop": 300, "gpu": 200, "paper": 400}, "generator: passes over the pairs", low=1)
    best_fraction: float = knob(
        {"laptop": 0.125, "gpu": 0.25, "paper": 0.3},
        "generator: share of each task's architectures, the most accurate ones, that it learns to draw",
        low=0.01,
        high=1,
    )
    beta: float = knob(0.005, "generator: weight of the divergence of latents from a standard normal", low=0)
    n_graphs: int = knob(
        {"laptop": 1000, "gpu": 2000, "paper": 10000},
        "generator: graphs drawn for held-out tasks, to count the valid, the different and the new ones",
        low=10,
    )
    cells_per_held_out_task: int = knob(
        {"laptop": 8, "gpu": 8, "paper": 3},
        "generator: architectures drawn for each held-out task that the database's oracle is asked about; 0 for none",
        low=0,
    )


@dataclass(frozen=True)
class PredictorTraining(MetaTraining):
    """The network that rates architectures for a data set, and its training."""

    predictor_hs: int = knob(
        {"laptop": 64, "gpu": 256, "paper": 512}, "predictor: width of the states of vertices", low=1
    )
    predictor_nz: int = knob(
        {"laptop": 32, "gpu": 56, "paper": 56}, "predictor: width of what is read of a data set, a multiple of 4", low=4
    )
    predictor_epochs: int = knob({"laptop": 100, "gpu": 200, "paper": 400}, "predictor: passes over the triples", low=1)
    best_by: str = knob(
        {"laptop": "within_tasks", "gpu": "within_tasks", "paper": "pearson"},
        "predictor: correlation of predictions and accuracies of the validation triples by which the best epoch is "
        "chosen: Pearson's, as published, Spearman's, or Pearson's when each task's means have been taken away",
        choices=("pearson", "spearman", "within_tasks"),
    )
    small_targets: bool = knob(
        False, "predictor: divide targets by 100, as the published code does; only for weights made with it"
    )


@dataclass(frozen=True)
class MetaTrainConfig(GeneratorTraining, PredictorTraining):
    """Both, a section of params.yaml."""
