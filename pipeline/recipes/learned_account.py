"""What a search with meta-trained networks is given, whether that belongs together, and what a result has to say of it:
what was learned from what, what it failed at, what it had seen before, and what it cost."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.core.errors import ArtifactError, ConfigError
from pipeline.core.wording import fixed
from pipeline.data.database import Database
from pipeline.data.features import FeatureSet, familiar, seen_classes
from pipeline.recipes.learned import Learned
from pipeline.recipes.learned_settings import LearnedSearchConfig
from pipeline.strategies.indicators import Indicator
from pipeline.strategies.runner import Context

PREDICTION = Indicator("prediction", higher_is_better=True)
"""The accuracy that an architecture would have by the predictor, in the unit of the database it learned from."""
HELD_OUT = {
    "predictor": ("within_tasks", "new_architectures", "first_choice", "beats_random"),
    "generator": ("drawn", "generated_vs_uniform"),
}
"""The figures on held-out tasks that a result repeats."""


@dataclass(frozen=True)
class Given:
    """What a learned search needs besides the images."""

    features: FeatureSet
    generator: Learned
    predictor: Learned
    database: Database

    @classmethod
    def of(cls, context: Context, space: Any) -> "Given":
        """From the context.

        Raises:
            ArtifactError: networks and features do not belong together.
            ConfigError: the test accuracies that will judge the search are what was learned from.
        """
        given = context.given
        own = cls(*(given[name] for name in ("data_features", "cell_generator", "cell_predictor", "accuracy_database")))
        for network in (own.generator, own.predictor):
            facts = network.facts
            if facts["space"] != space.name:
                raise ArtifactError(
                    f"The {facts['kind']} knows architectures of {facts['space']}, but the search is about "
                    f"{space.name}. Set search.metad2a.space and database.space alike."
                )
            if facts["database_digest"] != own.database.digest:
                raise ArtifactError(
                    f"The {facts['kind']} was trained on another database than the one given. Run the "
                    f"meta-train-{facts['kind']} stage again."
                )
            theirs, ours = facts["features_made_by"], own.features.made_by
            if different := [name for name in ours if theirs[name] != ours[name]]:
                raise ArtifactError(
                    f"The {facts['kind']} was trained on other features than those given: {', '.join(different)} "
                    f"differ. Run the features stage and then meta-train-{facts['kind']} again."
                )
        own.require_no_test_accuracies()
        return own

    def require_no_test_accuracies(self) -> None:
        """Raises ConfigError when the database is the table of test accuracies of the very data set."""
        table, target = self.table, self.features.prepared
        if table and (table["dataset"], table["part"]) == (target.name, "test"):
            raise ConfigError(
                f"The database holds the published test accuracies of {target.title}, by which what this search finds "
                "is judged. Set oracle.table.part to valid, or oracle.table.dataset to another data set."
            )

    @property
    def table(self) -> Mapping[str, Any] | None:
        """Of a database of published accuracies, which these are; None for other databases."""
        return self.database.report["oracle"].get("table")


def account_of(config: LearnedSearchConfig, given: Given) -> dict[str, Any]:
    """What a result has to say of what was learned, in JSON's types."""
    facts = {"generator": given.generator.facts, "predictor": given.predictor.facts}
    report, first = given.database.report, given.generator.facts
    held_out = {kind: of["held_out"] or {} for kind, of in facts.items()}
    return {
        "source": first["source"],
        "source_title": first["source_title"],
        "oracle": first["oracle"],
        "features_network": {name: value for name, value in given.features.network.items() if name != "cost"},
        "triples": report["statistics"]["counts"]["triples_by_split"],
        "indicators": {PREDICTION.name: PREDICTION.higher_is_better},
        "n_resamplings": config.n_resamplings,
        "best_of": config.best_of,
        "held_out": {kind: {name: held_out[kind].get(name) for name in names} for kind, names in HELD_OUT.items()},
        "digests": {
            "features": given.features.digest,
            "database": given.database.digest,
            **{kind: of["digest"] for kind, of in facts.items()},
        },
        "warnings": list(warnings_of(given)),
    }


def warnings_of(given: Given) -> Iterator[str]:
    """What has to be said of what was learned: what was seen before, what the numbers are, and what it failed at."""
    yield from warnings_of_what_was_seen(given)
    oracle = given.database.report["oracle"]
    if oracle["name"] == "proxy":
        yield f"Predictions are no accuracies: the predictor learned {oracle['meaning']}."
    if not given.predictor.facts["held_out"]:
        yield "Nobody measured what was learned on held-out tasks: the database has none (database.n_novel_tasks)."
    elif not oracle["knows_tasks"]:
        yield (
            "An architecture has the same number on every task of the database, so nothing could be learned of data "
            "sets, and the held-out tasks repeat one another: whether what was learned is better than chance was not "
            "tested."
        )
    else:
        yield from warnings_of_failures(given)


def warnings_of_what_was_seen(given: Given) -> Iterator[str]:
    """Images and accuracies of the data set itself."""
    if given.features.warning:
        yield given.features.warning
    prepared, source = given.features.prepared, given.database.report["source"]
    learned = {name for task in given.database.tasks if task.split != "novel" for name in task.classes}
    if seen := familiar(prepared, seen_classes(prepared, learned, source), source):
        yield f"Meta-training on {given.generator.facts['source_title']} saw images of {seen}."
    if given.table and given.table["dataset"] == prepared.name:
        yield (
            f"The predictor learned accuracies published for {prepared.title} itself ({given.table['part']} part), and "
            "the generator architectures that are good by them: this data set is not new to them."
        )


def warnings_of_failures(given: Given) -> Iterator[str]:
    """What held-out tasks could not tell from chance."""
    of_predictor = given.predictor.facts["held_out"]
    ranking, choice = of_predictor["within_tasks"]["spearman"], of_predictor["first_choice"]
    unit = given.database.report["oracle"]["unit"]
    if not of_predictor["beats_random"]["ranking"]:
        yield (
            f"On tasks held out from meta-training the predictor's ranking of architectures {beside(ranking)} a random "
            f"one: Spearman's correlation inside a task is {told(ranking)}. More or better accuracies in the database "
            "may help."
        )
    if not of_predictor["beats_random"]["first_choice"]:
        yield (
            "On tasks held out from meta-training the architecture predicted best, which is what this search returns, "
            f"{beside(choice)} one drawn at random: its accuracy is {told(choice)} off the mean of the task's ({unit})."
        )
    drawn = given.generator.facts["held_out"]["generated_vs_uniform"]
    if drawn is not None and not drawn["beats_uniform"]:
        yield (
            "On tasks held out from meta-training the architectures that the generator draws "
            f"{beside(drawn['difference'], 'are worse than')} uniformly drawn ones: their accuracy differs by "
            f"{told(drawn['difference'])} ({drawn['unit']})."
        )


def beside(estimate: Mapping[str, Any] | None, worse: str = "is worse than") -> str:
    """How an estimate that is not above 0 by more than its interval stands to 0, in words."""
    below = estimate and estimate["ci95"] is not None and estimate["mean"] < -estimate["ci95"]
    return worse if below else "cannot be told from"


def told(estimate: Mapping[str, Any] | None) -> str:
    """An estimate with its interval."""
    if estimate is None:
        return "undefined"
    half = " (one task, so no interval)" if estimate["ci95"] is None else f" ± {estimate['ci95']:.2f}"
    return f"{fixed(estimate['mean'], signed=True)}{half}"


def amortised(given: Given) -> dict[str, dict[str, float]]:
    """What was spent before any search, once for all data sets: seconds by work.

    Features of the source are left out where the search is for the source itself, since they are its own then.
    """
    own = given.features.digest == given.generator.facts["features_digest"]
    return {
        "feature_network": seconds(given.features.network["cost"]),
        **({} if own else {"source_features": seconds(given.generator.facts["features"]["cost"])}),
        "database": seconds(given.database.report["cost"]),
        "generator": seconds(given.generator.facts["cost"]),
        "predictor": seconds(given.predictor.facts["cost"]),
    }


def seconds(cost: Mapping[str, float]) -> dict[str, float]:
    return {name: cost[name] for name in ("wall_seconds", "device_seconds")}
