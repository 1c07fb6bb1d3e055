import math

import pytest

from pipeline import data
from pipeline.core.config import BUDGETS, build, resolve
from pipeline.core.errors import ConfigError
from pipeline.evaluation.schedules import SCHEDULES, drop_path_probability, learning_rate, padding
from pipeline.evaluation.settings import DARTS_SETS, EvaluateConfig, NetworkConfig, TestConfig, TrainConfig
from pipeline.nets.stems import STEMS

FEW_SHOT_SETS = ("miniimagenet", "tieredimagenet", "cifarfs", "fc100", "omniglot", "doublemnist")
NEW_TASKS = ("mnist", "svhn", "aircraft", "pets")
DATASETS = (*FEW_SHOT_SETS, *DARTS_SETS, *NEW_TASKS)
TAGS = {*BUDGETS, *data.names(), "5cells", "8cells", "14cells", "15cells", "20cells"}
PUBLISHED = [
    ("miniimagenet", 5, 0.02, 100, (60, 80), 64, 0.2),
    ("miniimagenet", 8, 0.02, 100, (60, 80), 40, 0.2),
    ("tieredimagenet", 5, 0.01, 60, (30, 40, 50), 64, 0.1),
    ("tieredimagenet", 8, 0.01, 60, (30, 40, 50), 56, 0.1),
]


def config_of(cls, *tags):
    """The knobs of a budget, a data set with its kind, and a number of cells."""
    tags += tuple(data.kind_of(tag) for tag in tags if tag in DATASETS)
    return build(cls, resolve(cls, None, tags, TAGS, cls.__name__))


@pytest.mark.parametrize(("dataset", "n_cells", "lr", "epochs", "milestones", "batch", "drop_path"), PUBLISHED)
def test_the_paper_budget_holds_the_published_table(dataset, n_cells, lr, epochs, milestones, batch, drop_path):
    config = config_of(TrainConfig, "paper", dataset, f"{n_cells}cells")
    assert (config.learning_rate, config.epochs, config.milestones) == (lr, epochs, milestones)
    assert (config.batch_size, config.drop_path, config.schedule) == (batch, drop_path, "step")
    assert (config.momentum, config.weight_decay, config.jitter, config.flip) == (0.9, 5e-4, 0.4, True)
    assert padding(config, 84) == 8
    assert padding(config, 32) == 4


CIFAR_RECIPE = {
    "epochs": 600,
    "batch_size": 96,
    "learning_rate": 0.025,
    "schedule": "cosine",
    "floor": 0.0,
    "warm_up": 0,
    "optimiser": "sgd",
    "momentum": 0.9,
    "nesterov": False,
    "weight_decay": 3e-4,
    "clip_norm": 5.0,
    "label_smoothing": 0.0,
    "auxiliary_weight": 0.4,
    "drop_path": 0.3,
    "crop_scale": 1.0,
    "jitter": 0.0,
    "hue": 0.0,
    "cutout": 16,
    "flip": True,
}
IMAGENET_RECIPE = {
    **CIFAR_RECIPE,
    "epochs": 250,
    "batch_size": 768,
    "learning_rate": 0.5,
    "warm_up": 5,
    "weight_decay": 3e-5,
    "label_smoothing": 0.1,
    "drop_path": 0.0,
    "crop_scale": 0.08,
    "jitter": 0.4,
    "hue": 0.2,
    "cutout": 0,
}


@pytest.mark.parametrize(
    ("dataset", "recipe", "network"),
    [
        ("cifar10", CIFAR_RECIPE, NetworkConfig(channels=36, n_cells=20, stem="plain", stem_multiplier=3)),
        ("cifar100", CIFAR_RECIPE, NetworkConfig(channels=36, n_cells=20, stem="plain", stem_multiplier=3)),
        ("imagenet", IMAGENET_RECIPE, NetworkConfig(channels=48, n_cells=14, stem="downsampling", stem_multiplier=1)),
    ],
)
@pytest.mark.parametrize("n_cells", [5, 8, 14, 20])
def test_the_paper_budget_trains_classifiers_as_darts_and_te_nas_do(dataset, recipe, network, n_cells):
    config = config_of(TrainConfig, "paper", dataset, f"{n_cells}cells")
    assert {name: getattr(config, name) for name in recipe} == recipe
    assert config_of(NetworkConfig, "paper", dataset) == network
    assert padding(config, 32) == 4


METAD2A_RECIPE = {
    "epochs": 200,
    "batch_size": 256,
    "learning_rate": 0.1,
    "schedule": "cosine",
    "floor": 0.0,
    "warm_up": 0,
    "optimiser": "sgd",
    "momentum": 0.9,
    "nesterov": True,
    "weight_decay": 5e-4,
    "clip_norm": 0.0,
    "label_smoothing": 0.0,
    "auxiliary_weight": 0.0,
    "drop_path": 0.0,
    "pad": 0,
    "crop_scale": 1.0,
    "jitter": 0.0,
    "hue": 0.0,
    "cutout": 0,
    "flip": False,
}


@pytest.mark.parametrize("dataset", [*NEW_TASKS, "classification"])
@pytest.mark.parametrize("n_cells", [5, 8, 15])
def test_the_paper_budget_trains_on_new_data_sets_as_metad2a_does(dataset, n_cells):
    """Of a user's folder nothing is known but its kind."""
    config = config_of(TrainConfig, "paper", dataset, f"{n_cells}cells")
    wanted = METAD2A_RECIPE | ({"epochs": 50} if dataset == "mnist" else {})
    assert {name: getattr(config, name) for name in wanted} == wanted
    network = config_of(NetworkConfig, "paper", dataset)
    assert (network.channels, network.n_cells) == (16, 15)
    rates = [learning_rate(config, epoch, 0, 9) for epoch in range(1, config.epochs + 1)]
    assert rates == pytest.approx([0.05 * (1 + math.cos(math.pi * e / config.epochs)) for e in range(config.epochs)])


def test_a_users_own_row_goes_before_those_of_its_kind():
    rows = {"epochs": {"laptop": 7, "laptop/classification": 20, "laptop/pets": 3}}
    assert resolve(TrainConfig, rows, ("laptop", "pets", "classification"), TAGS, "train")["epochs"] == 3


NEUTRAL = {
    "floor": 1e-3,
    "warm_up": 0,
    "clip_norm": 0.0,
    "label_smoothing": 0.0,
    "auxiliary_weight": 0.0,
    "crop_scale": 1.0,
    "hue": 0.0,
    "cutout": 0,
    "jitter": 0.4,
    "weight_decay": 5e-4,
    "nesterov": False,
    "pad": None,
}


@pytest.mark.parametrize("dataset", FEW_SHOT_SETS)
@pytest.mark.parametrize("budget", BUDGETS)
def test_few_shot_trainings_use_none_of_what_only_classifiers_need(budget, dataset):
    config = config_of(TrainConfig, budget, dataset, "5cells")
    assert {name: getattr(config, name) for name in NEUTRAL} == NEUTRAL
    network = config_of(NetworkConfig, budget, dataset)
    assert (network.n_cells, network.stem, network.stem_multiplier) == (5, "plain", 1)


@pytest.mark.parametrize("cls", [NetworkConfig, TrainConfig, EvaluateConfig, TestConfig])
@pytest.mark.parametrize("budget", BUDGETS)
def test_every_budget_has_values_for_every_data_set_and_for_a_folder_of_ones_own(cls, budget):
    for dataset in (*DATASETS, None):
        for cells in ("5cells", "8cells"):
            config_of(cls, *filter(None, (budget, dataset, cells)))


def test_the_paper_network_has_48_channels():
    assert config_of(NetworkConfig, "paper") == NetworkConfig(channels=48, n_cells=5, stem="plain", stem_multiplier=1)


def test_the_rate_changes_in_the_epoch_after_a_milestone():
    config = config_of(TrainConfig, "paper", "miniimagenet", "5cells")
    rates = {epoch: learning_rate(config, epoch, 0, 600) for epoch in (1, 60, 61, 80, 81, 100)}
    expected = {1: 0.02, 60: 0.02, 61: 0.002, 80: 0.002, 81: 0.0002, 100: 0.0002}
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize("schedule", list(SCHEDULES))
def test_no_schedule_exceeds_its_rate_and_none_reaches_zero_before_the_end(schedule):
    config = TrainConfig(epochs=7, learning_rate=0.3, schedule=schedule, milestones=(3, 5))
    rates = [learning_rate(config, epoch, step, 11) for epoch in range(1, 8) for step in range(11)]
    assert max(rates) == pytest.approx(0.3, rel=0.05)
    assert max(rates) <= 0.3
    assert min(rates) > 0
    assert rates[-1] < 0.1 * max(rates)


def test_every_schedule_and_stem_that_may_be_named_exists():
    own_of_a_space = {"none", "pooling"}
    assert set(TrainConfig.__dataclass_fields__["schedule"].metadata["choices"]) == set(SCHEDULES)
    assert set(NetworkConfig.__dataclass_fields__["stem"].metadata["choices"]) == set(STEMS) - own_of_a_space


def test_the_warm_up_of_imagenet_rises_to_the_cosine_that_goes_on_beneath_it():
    config = config_of(TrainConfig, "paper", "imagenet", "14cells")
    rates = [learning_rate(config, epoch, 0, 10) for epoch in range(1, 251)]
    cosine = [0.25 * (1 + math.cos(math.pi * done / 250)) for done in range(250)]
    assert rates[:5] == pytest.approx([(done + 1) / 5 * cosine[done] for done in range(5)])
    assert rates[5:] == pytest.approx(cosine[5:])


def test_the_published_cosine_falls_to_zero_and_ours_of_few_shot_trainings_to_a_thousandth():
    last = {
        floor: learning_rate(TrainConfig(epochs=10**6, schedule="cosine", floor=floor, learning_rate=1.0), 10**6, 0, 1)
        for floor in (0.0, 1e-3)
    }
    assert last[0.0] == pytest.approx(0, abs=1e-9)
    assert last[1e-3] == pytest.approx(1e-3)


def test_drop_path_grows_to_its_probability_in_the_last_epoch():
    config = TrainConfig(epochs=100, drop_path=0.2)
    assert drop_path_probability(config, 1) == pytest.approx(0.002)
    assert drop_path_probability(config, 100) == pytest.approx(0.2)


def test_a_border_that_is_given_is_taken():
    assert padding(TrainConfig(pad=0), 84) == 0


@pytest.mark.parametrize("values", [{"epochs": 0}, {"schedule": "plateau"}, {"batch_size": -1}, {"momentum": 2.0}])
def test_values_that_cannot_be_trained_with_are_refused(values):
    with pytest.raises(ConfigError):
        build(TrainConfig, values)
