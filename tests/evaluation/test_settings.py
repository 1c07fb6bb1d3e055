import pytest

from pipeline.core.config import BUDGETS, build, resolve
from pipeline.core.errors import ConfigError
from pipeline.evaluation.schedules import SCHEDULES, drop_path_probability, learning_rate, padding
from pipeline.evaluation.settings import EvaluateConfig, NetworkConfig, TrainConfig

DATASETS = ("miniimagenet", "tieredimagenet", "cifarfs", "fc100", "omniglot", "doublemnist")
TAGS = {*BUDGETS, *DATASETS, "5cells", "8cells"}
PUBLISHED = [
    ("miniimagenet", 5, 0.02, 100, (60, 80), 64, 0.2),
    ("miniimagenet", 8, 0.02, 100, (60, 80), 40, 0.2),
    ("tieredimagenet", 5, 0.01, 60, (30, 40, 50), 64, 0.1),
    ("tieredimagenet", 8, 0.01, 60, (30, 40, 50), 56, 0.1),
]


def config_of(cls, *tags):
    return build(cls, resolve(cls, None, tags, TAGS, cls.__name__))


@pytest.mark.parametrize(("dataset", "n_cells", "lr", "epochs", "milestones", "batch", "drop_path"), PUBLISHED)
def test_the_paper_budget_holds_the_published_table(dataset, n_cells, lr, epochs, milestones, batch, drop_path):
    config = config_of(TrainConfig, "paper", dataset, f"{n_cells}cells")
    assert (config.learning_rate, config.epochs, config.milestones) == (lr, epochs, milestones)
    assert (config.batch_size, config.drop_path, config.schedule) == (batch, drop_path, "step")
    assert (config.momentum, config.weight_decay, config.jitter, config.flip) == (0.9, 5e-4, 0.4, True)
    assert padding(config, 84) == 8
    assert padding(config, 32) == 4


@pytest.mark.parametrize("cls", [NetworkConfig, TrainConfig, EvaluateConfig])
@pytest.mark.parametrize("budget", BUDGETS)
def test_every_budget_has_values_for_every_data_set_and_for_a_folder_of_ones_own(cls, budget):
    for dataset in (*DATASETS, None):
        for cells in ("5cells", "8cells"):
            config_of(cls, *filter(None, (budget, dataset, cells)))


def test_the_paper_network_has_48_channels():
    assert config_of(NetworkConfig, "paper") == NetworkConfig(channels=48, n_cells=5)


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


def test_every_schedule_that_may_be_named_exists():
    fields = TrainConfig.__dataclass_fields__
    assert set(fields["schedule"].metadata["choices"]) == set(SCHEDULES)


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
