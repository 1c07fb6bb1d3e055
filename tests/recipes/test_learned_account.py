"""What a result has to say of what was learned, and which combinations a search refuses."""

import copy
import dataclasses
from types import SimpleNamespace

import pytest

from pipeline import spaces
from pipeline.core.errors import ArtifactError, ConfigError
from pipeline.recipes.learned import Learned
from pipeline.recipes.learned_account import Given, amortised, warnings_of
from tests.small_learning import Source, cost_of

SURE, UNSURE, WORSE = ({"mean": mean, "ci95": 1.0, "n": 8} for mean in (2.0, 0.5, -2.0))


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Source:
    return Source(tmp_path_factory.mktemp("source"))


def predictor_facts(ranking=SURE, choice=SURE):
    beats = {"ranking": ranking is SURE, "first_choice": choice is SURE}
    return {"within_tasks": {"spearman": ranking}, "first_choice": choice, "beats_random": beats}


def given_of(source, oracle=None, dataset="tiny", predictor=None, drawn=SURE):
    """What a search is given, with figures of held-out tasks made up.

    Args:
        oracle: what the database's report says of its oracle, beside what it says already.
        dataset: name of the set that is searched for.
    """
    features, database = source.features, source.database
    report = copy.deepcopy(database.report)
    report["oracle"] |= oracle or {}
    prepared = dataclasses.replace(features.prepared, name=dataset)
    common = {
        "source_title": "Tiny", "space": "nas_bench_201", "features_made_by": features.made_by,
        "features_digest": features.digest, "database_digest": database.digest, "features": {"cost": cost_of(7.0)},
    }  # fmt: skip
    beside = {"difference": drawn, "beats_uniform": drawn is SURE, "unit": "per cent"}
    learned = [
        {**common, "kind": "generator", "held_out": {"generated_vs_uniform": beside}, "cost": cost_of(2.0)},
        {**common, "kind": "predictor", "held_out": predictor or predictor_facts(), "cost": cost_of(3.0)},
    ]
    return Given(
        dataclasses.replace(features, prepared=prepared),
        *(Learned(None, facts) for facts in learned),
        dataclasses.replace(database, report=report),
    )


def opened(given):
    """As a search opens it."""
    names = {"data_features": given.features, "cell_generator": given.generator, "cell_predictor": given.predictor}
    context = SimpleNamespace(given={**names, "accuracy_database": given.database})
    return Given.of(context, spaces.get("nas_bench_201")())


def table(dataset, part="valid"):
    return {"name": "table", "knows_tasks": False, "table": {"dataset": dataset, "part": part}}


def test_what_beats_chance_on_new_classes_needs_no_warning(source):
    assert list(warnings_of(opened(given_of(source)))) == []


def test_a_predictor_that_learned_the_targets_own_published_accuracies_is_told(source):
    told = " ".join(warnings_of(given_of(source, table("cifar10"), "cifar10")))
    assert "accuracies published for Tiny itself (valid part)" in told
    assert "published for" not in " ".join(warnings_of(given_of(source, table("cifar100"), "cifar10")))


def test_test_accuracies_of_the_target_are_refused_and_those_of_another_set_are_not(source):
    with pytest.raises(ConfigError, match=r"test accuracies of Tiny.*oracle\.table\.part"):
        opened(given_of(source, table("cifar10", "test"), "cifar10"))
    opened(given_of(source, table("cifar100", "test"), "cifar10"))


def test_a_table_leaves_untested_whether_what_was_learned_beats_chance(source):
    (told,) = warnings_of(given_of(source, table("cifar10"), predictor=predictor_facts(UNSURE, UNSURE), drawn=UNSURE))
    assert "repeat one another" in told and "was not tested" in told


def test_predictions_of_a_proxys_numbers_are_called_what_they_are(source):
    oracle = {"name": "proxy", "meaning": "the proxy naswot; no accuracy"}
    (told,) = warnings_of(given_of(source, oracle))
    assert told == "Predictions are no accuracies: the predictor learned the proxy naswot; no accuracy."


@pytest.mark.parametrize(
    ("figures", "wanted"),
    [
        ({"predictor": predictor_facts(ranking=UNSURE)}, "ranking of architectures cannot be told from a random one"),
        ({"predictor": predictor_facts(choice=UNSURE)}, "predicted best, which is what this search returns, cannot be"),
        ({"drawn": UNSURE}, "generator draws cannot be told from uniformly drawn ones"),
        ({"predictor": predictor_facts(ranking=WORSE)}, "ranking of architectures is worse than a random one"),
        ({"drawn": WORSE}, "generator draws are worse than uniformly drawn ones"),
    ],
)
def test_what_held_out_tasks_could_not_tell_from_chance_is_told_with_its_interval(source, figures, wanted):
    (told,) = warnings_of(given_of(source, **figures))
    assert wanted in told
    assert ("-2.00" if "worse" in wanted else "+0.50") + " ± 1.00" in told


def test_a_figure_without_interval_or_value_is_told_as_such(source):
    facts = predictor_facts(ranking=None, choice={"mean": 0.5, "ci95": None, "n": 1})
    ranking, choice = warnings_of(given_of(source, predictor=facts))
    assert "is undefined" in ranking and "+0.50 (one task, so no interval)" in choice


def test_classes_of_the_target_that_meta_training_saw_are_told_for_every_kind(source):
    given = given_of(source)
    prepared, seen = source.prepared, source.prepared.classes_of("base")
    few_shot = dataclasses.replace(prepared, split_classes={**prepared.split_classes, "novel": seen})
    whole = dataclasses.replace(prepared, kind="classification", split_classes={"train": seen, "test": seen})
    for one, wanted in (
        (few_shot, "6 of the 6 novel classes"),
        (whole, "6 of the 6 classes of Tiny, so this data set"),
    ):
        (told,) = warnings_of(dataclasses.replace(given, features=dataclasses.replace(given.features, prepared=one)))
        assert told.startswith("Meta-training on Tiny saw images of") and wanted in told


@pytest.mark.parametrize(
    ("name", "value"), [("network_sha256", "5" * 64), ("image_size", 64), ("normalise_by", "network"), ("dim", 9)]
)
def test_features_that_were_made_otherwise_than_those_learned_from_are_refused(source, name, value):
    given = given_of(source)
    features = dataclasses.replace(given.features, facts={**given.features.facts, name: value})
    with pytest.raises(ArtifactError, match=f"other features than those given: {name} differ"):
        opened(dataclasses.replace(given, features=features))


def test_features_may_be_normalised_by_the_statistics_of_each_data_set(source):
    given = given_of(source)
    facts = {**given.features.facts, "mean": [0.1] * 3, "std": [0.3] * 3}
    opened(dataclasses.replace(given, features=dataclasses.replace(given.features, facts=facts)))


def test_all_work_before_the_search_is_counted_and_the_sources_features_once(source):
    given = given_of(source)
    spent = {work: of["wall_seconds"] for work, of in amortised(given).items()}
    wanted = {"feature_network": 50.0, "database": 40.0, "generator": 2.0, "predictor": 3.0}
    assert spent == wanted
    other = dataclasses.replace(given.features, facts={**given.features.facts, "digest": "6" * 64})
    spent = {work: of["wall_seconds"] for work, of in amortised(dataclasses.replace(given, features=other)).items()}
    assert spent == wanted | {"source_features": 7.0}
