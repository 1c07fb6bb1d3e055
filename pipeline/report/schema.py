"""The shape of a result file, checked against workflow/schemas/result.schema.json."""

import functools
from typing import Any

from pipeline.core.artifacts import read_json
from pipeline.core.errors import ArtifactError
from pipeline.core.provenance import ROOT

SCHEMA = ROOT / "workflow" / "schemas" / "result.schema.json"


@functools.cache
def _validator():
    from jsonschema import Draft202012Validator

    schema = read_json(SCHEMA)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def check_result(result: Any, where: str) -> None:
    """Raises ArtifactError naming every place of `result` that the schema does not allow, and why."""
    problems = [
        f"{'.'.join(map(str, error.absolute_path)) or 'top level'}: {error.message[:200]}"
        for error in sorted(_validator().iter_errors(result), key=lambda error: list(map(str, error.absolute_path)))
    ]
    if problems:
        raise ArtifactError(
            f"{where} does not have the shape of a result ({len(problems)} problem(s)): {'; '.join(problems[:5])}. "
            f"Run the stage that makes it again; {SCHEMA.name} describes the shape."
        )
