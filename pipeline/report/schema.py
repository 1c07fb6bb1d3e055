"""The shapes of result files, checked against the JSON schemas in workflow/schemas/."""

import functools
from typing import Any

from pipeline.core.artifacts import read_json
from pipeline.core.errors import ArtifactError
from pipeline.core.provenance import ROOT
from pipeline.core.wording import n_of

SCHEMAS = ROOT / "workflow" / "schemas"


def check_result(result: Any, where: str) -> None:
    """Raises ArtifactError naming every place of a few-shot `result` that its schema does not allow, and why."""
    _check(result, where, "result", "a result")


def check_lookup(result: Any, where: str) -> None:
    """The same for a result whose architectures were looked up in a benchmark's table."""
    _check(result, where, "lookup", "a looked-up result")


def check_classifier(result: Any, where: str) -> None:
    """The same for a result whose architectures were trained and tested as classifiers."""
    _check(result, where, "classifier", "a classifier's result")


def check_card(card: Any, where: str) -> None:
    """The same for the report card of the proxies, whose scores must be as many as its architectures."""
    _check(card, where, "proxies", "a report card of proxies")
    n, scatter = card["sample"]["n_architectures"], card["scatter"]
    columns = {"accuracies": scatter["accuracies"], **scatter["scores"]}
    wrong = [name for name, values in columns.items() if len(values) != n]
    unknown = sorted(set(scatter["scores"]) - {proxy["name"] for proxy in card["proxies"]})
    if wrong or unknown:
        what = f"not {n} values of {', '.join(wrong)}" if wrong else f"scores of no proxy: {', '.join(unknown)}"
        raise ArtifactError(f"{where} has {what}. Run the stage that makes it again.")


@functools.cache
def _validator(name: str):
    from jsonschema import Draft202012Validator

    schema = read_json(SCHEMAS / f"{name}.schema.json")
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def _check(content: Any, where: str, name: str, kind: str) -> None:
    errors = sorted(_validator(name).iter_errors(content), key=lambda error: list(map(str, error.absolute_path)))
    problems = [f"{'.'.join(map(str, error.absolute_path)) or 'top level'}: {error.message[:200]}" for error in errors]
    if problems:
        raise ArtifactError(
            f"{where} does not have the shape of {kind} ({n_of(len(problems), 'problem')}): {'; '.join(problems[:5])}. "
            f"Run the stage that makes it again; {name}.schema.json describes the shape."
        )
