import subprocess
import sys

import pytest

from pipeline.core.config import build, resolve
from pipeline.core.errors import ConfigError
from pipeline.episodes.sampler import PARTS
from pipeline.evaluation.episodic_settings import ENTRIES, AdamGroup, EpisodicConfig, Phase, one_phase
from tests.evaluation.test_settings import TAGS

MAML = {
    "n_iterations": 60_000,
    "tasks_per_batch": 4,
    "n_query": 15,
    "learning_rate": 1e-3,
    "beta1": 0.9,
    "beta2": 0.999,
    "weight_decay": 0.0,
    "clip_norm": 0.0,
    "validate_on": "validation",
    "flip": False,
}


def knobs(budget, section=None):
    return resolve(EpisodicConfig, section, (budget, "miniimagenet", "few_shot"), TAGS, "meta_learn.maml")


def test_the_paper_budget_holds_what_maml_published():
    assert MAML.items() <= knobs("paper").items()


def test_smaller_budgets_differ_from_the_paper_in_length_alone():
    for budget in ("laptop", "gpu"):
        differing = {name for name, value in knobs(budget).items() if value != knobs("paper")[name]}
        assert differing <= {"n_iterations", "validate_every", "n_validation_episodes"}
    lengths = [knobs(budget)["n_iterations"] for budget in ("laptop", "gpu", "paper")]
    assert lengths == sorted(set(lengths))


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"validate_on": "novel"}, "validate_on is 'novel'; allowed: validation, base"),
        ({"n_validation_episodes": 1}, "at least 2"),
        ({"n_iterations": 0}, "at least 1"),
        ({"beta1": 1}, "beta1 is 1"),
        ({"clip_norm": -1}, "at least 0"),
    ],
)
def test_knobs_out_of_range_are_refused(section, message):
    with pytest.raises(ConfigError, match=message):
        knobs("laptop", section)


def test_one_phase_moves_everything_by_the_settings_of_the_knobs():
    config = build(EpisodicConfig, knobs("laptop", {"learning_rate": 0.1, "beta1": 0.5, "clip_norm": 2.0}))
    assert one_phase(config) == (Phase((AdamGroup("all", 0.1, 0.5, 0.999, 0.0, 2.0),), "all"),)
    assert one_phase(config)[0].pool in PARTS


@pytest.mark.parametrize("name", ["alphas.normal", "alphas.reduce", "stem.0.weight", "head.alphas", "cell.input"])
def test_every_entry_is_either_a_weight_or_an_architecture_parameter(name):
    assert ENTRIES["all"](name)
    assert ENTRIES["alphas"](name) != ENTRIES["weights"](name)
    assert ENTRIES["alphas"](name) == (name in ("alphas.normal", "alphas.reduce"))


def test_phases_can_be_named_without_torch():
    program = "import sys; import pipeline.evaluation.episodic_settings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
