"""Recompute results from stored weights, episodes and tables, and say whether they are the same. Nothing is written.

Every digest that a result names is held against the files, then the networks are tested again by the functions of the
stage that tested them, and all is joined anew. Exit code 0 says that each result is identical or within tolerance.
"""

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pipeline.core.artifacts import read_json, sha256, to_json
from pipeline.core.errors import ArtifactError, UnknownNameError
from pipeline.report.schema import check_classifier, check_lookup, check_result
from pipeline.stages import adapt, compare, contrast, evaluate, look_up, test
from pipeline.stages.common import FROZEN, read_params

LOOKS_FOR_DAMAGE = True
TOLERANCE = 0.005
"""Of fractions, where what computes is not what computed then: half a percentage point."""
SURROUNDINGS = ("commit", "commits", "versions", "hardware", "command")
COMPUTES = ("processor", "threads", "device", "accelerator")
TOOLS = ("snakemake", "dvc")
"""Packages that compute no number."""
CONSEQUENCES = ("relative_improvement_percent", "paired_difference", "paired")
"""What follows from accuracies, on scales of its own."""
ABSENT = "absent"


@dataclass(frozen=True)
class Difference:
    """A field that is not the same, by its path in the result."""

    field: str
    stored: Any
    found: Any

    def __str__(self) -> str:
        stored, found = (" ".join(str(value).split())[:120] for value in (self.stored, self.found))
        return f"{self.field} is {stored} in the result and {found} recomputed"

    @property
    def size(self) -> float:
        """Of two fractions; infinite between anything else."""
        values = (self.stored, self.found)
        if not all(isinstance(value, float) for value in values):
            return float("inf")
        return abs(self.stored - self.found)


@dataclass(frozen=True)
class Again:
    """What was recomputed: the result, and the text of its table of accuracies where there is one."""

    result: dict[str, Any]
    table: str | None = None


@dataclass(frozen=True)
class Kind:
    """How results of one kind are made.

    Attributes:
        check: of the shape.
        join: stage that writes the result.
        tested_by: stage that tests its networks; None where they are looked up.
        recompute: from the result and the places of its files.
    """

    check: Callable[[Any, str], None]
    join: str
    tested_by: str | None
    recompute: Callable[[Mapping[str, Any], Mapping[str, str]], Again]

    def places(self, result: Mapping[str, Any]) -> dict[str, str]:
        """Files that are needed besides those that the result names, by role."""
        dataset = result["dataset"]
        stem = f"{result['method']}_{dataset}"
        found = {"join_params": str(FROZEN / f"{self.join}_{stem}.json")}
        if self.tested_by is not None:
            found |= {
                "params": str(FROZEN / f"{self.tested_by}_{stem}.json"),
                "weights": f"models/{stem}/weights.safetensors",
                "images": f"data/prepared/{dataset}.images.npy",
                "index": f"data/prepared/{dataset}.index.csv",
                "manifest": f"data/prepared/{dataset}.manifest.json",
            }
        if "episodes_digest" in result["provenance"]:
            found["episodes"] = f"data/episodes/{dataset}.csv"
        return found


def compared(assess: Callable[[Any], tuple[dict[str, Any], Any, Any]]) -> Callable[..., Again]:
    """The way to recompute results that `compare` joined, whose networks `assess` tests."""

    def recompute(result: Mapping[str, Any], places: Mapping[str, str]) -> Again:
        paths = result["artifacts"]
        names = [name.removeprefix("against_") for name in paths if name.startswith("against_")]
        inputs = compare.read(paths, [(paths[f"against_{name}"], paths[f"episodes_{name}"]) for name in names])
        measured, frame, _ = assess(SimpleNamespace(**places, genotype=paths["genotype"]))
        table = frame.to_csv(index=False, lineterminator="\n")
        accuracies = compare.episode_table(io.StringIO(table), measured["protocol"]["read_out"])
        inputs = inputs._replace(measured=plain(measured), accuracies=accuracies)
        compare.check_together(inputs)
        return Again(compare.assemble(inputs, paths, places["join_params"]), table)

    return recompute


def classified(result: Mapping[str, Any], places: Mapping[str, str]) -> Again:
    paths = result["artifacts"]
    measured, _ = test.assess(SimpleNamespace(**places, genotype=paths["genotype"]))
    files = {name: read_json(paths[name]) for name in contrast.INPUTS} | {"measured": plain(measured)}
    return Again(contrast.assemble(files, paths, places["join_params"]))


def looked_up(result: Mapping[str, Any], places: Mapping[str, str]) -> Again:
    paths = result["artifacts"]
    return Again(look_up.assemble(look_up.look_up(paths), paths, places["join_params"]))


KINDS = {
    "few_shot": Kind(check_result, "compare", "evaluate", compared(evaluate.assess)),
    "adapted": Kind(check_result, "compare", "adapt", compared(adapt.assess)),
    "trained": Kind(check_classifier, "contrast", "test", classified),
    "looked_up": Kind(check_lookup, "look_up", None, looked_up),
}


def add_arguments(parser) -> None:
    parser.add_argument("results", nargs="+", metavar="FILE", help="files results/{method}_{dataset}.json")


def run(arguments) -> int:
    verdicts = [told(path) for path in arguments.results]
    return 0 if all(verdicts) else 1


def told(path: str) -> bool:
    """Print the verdict on one result; returns whether it stands."""
    try:
        stands, verdict = verify(path)
    except ArtifactError as error:
        stands, verdict = False, f"cannot be verified. {error}"
    print(f"{path}: {verdict}", flush=True)
    return stands


def verify(path: str) -> tuple[bool, str]:
    """Whether a result stands, and in words why.

    Raises ArtifactError when a file is missing or damaged, or when files do not belong together.
    """
    result = read_json(path)
    kind = kind_of(result, path)
    kind.check(result, path)
    places = kind.places(result)
    require(result, places)
    if wrong := next(different_digests(result, kind, places), None):
        return False, f"different: {wrong}"
    again = kind.recompute(result, places)
    found = plain(again.result)
    every = list(differences(judged(result), judged(found)))
    if again.table is not None:
        every += different_lines(result["artifacts"]["accuracies"], again.table)
    if not every:
        return True, f"identical ({spoken_accuracy(found)})"
    changed = changed_surroundings(result, found, kind.tested_by)
    grave = [one for one in every if counts(one) and one.size > TOLERANCE]
    if not changed or grave:
        return False, f"different: {(grave or every)[0]}"
    largest = max((one for one in every if counts(one)), key=lambda one: one.size, default=every[0])
    return True, (
        f"within tolerance ({spoken_accuracy(found)}): the largest difference is that {largest}; fractions may differ "
        f"by {TOLERANCE} where what computes differs ({changed})"
    )


def kind_of(result: Any, path: str) -> Kind:
    """Raises ArtifactError or UnknownNameError when the file is none of the results that can be recomputed."""
    if not isinstance(result, dict) or "provenance" not in result or "method" not in result:
        raise ArtifactError(
            f"It is no result of one method on one data set; those are the files results/{{method}}_{{dataset}}.json, "
            f"of the kinds {', '.join(KINDS)}."
        )
    name = result.get("kind", "few_shot")
    if name not in KINDS:
        raise UnknownNameError("kind of result", name, KINDS, f"({path})")
    return KINDS[name]


def require(result: Mapping[str, Any], places: Mapping[str, str]) -> None:
    """Raises ArtifactError naming every file that is gone, and the commands that make them."""
    needed = dict.fromkeys([*result["provenance"]["files"], *places.values()])
    gone = [path for path in needed if not Path(path).is_file()]
    if not gone:
        return
    frozen = [path for path in gone if Path(path).is_relative_to(FROZEN)]
    made = [path for path in gone if path not in frozen]
    ways = ["`python -m pipeline freeze`"] if frozen else []
    if made:
        names = " ".join(made)
        ways.append(f"`snakemake --cores 4 --config budget={result['budget']} -- {names}`, or `dvc checkout {names}`")
    raise ArtifactError(
        f"Missing: {', '.join(gone)}. Run from the project's folder. What makes them: {'; '.join(ways)}."
    )


def different_digests(result: Mapping[str, Any], kind: Kind, places: Mapping[str, str]) -> Iterator[Difference]:
    """Digests in the result that are not those of the files on the disk."""
    facts = result["provenance"]
    for path, stored in facts["files"].items():
        yield from differences(stored, sha256(path), f"provenance.files[{path}]")
    for stage, role in ((kind.join, "join_params"), (kind.tested_by, "params")):
        if role in places:
            stored = facts["params_digest"].get(stage, ABSENT)
            yield from differences(stored, read_params(places[role]).digest, f"provenance.params_digest.{stage}")
    for name, role in (("weights_sha256", "weights"), ("episodes_digest", "episodes")):
        if role in places:
            yield from differences(facts.get(name, ABSENT), sha256(places[role]), f"provenance.{name}")
    manifest = places.get("manifest") or result["artifacts"]["manifest"]
    yield from differences(facts["data_digest"], read_json(manifest).get("digest"), "provenance.data_digest")


def judged(result: Mapping[str, Any]) -> dict[str, Any]:
    """A result without what says only where and when it was made; its provenance comes first."""
    facts = {name: value for name, value in result["provenance"].items() if name not in SURROUNDINGS}
    return {"provenance": facts, **{name: value for name, value in result.items() if name != "provenance"}}


def differences(stored: Any, found: Any, field: str = "") -> Iterator[Difference]:
    """Fields that are not equal, in the order of the stored value; numbers bit for bit."""
    if isinstance(stored, dict) and isinstance(found, dict):
        for name in dict.fromkeys([*stored, *found]):
            inner = f"{field}.{name}" if field else name
            yield from differences(stored.get(name, ABSENT), found.get(name, ABSENT), inner)
    elif isinstance(stored, list) and isinstance(found, list) and len(stored) == len(found):
        for i, (one, other) in enumerate(zip(stored, found, strict=True)):
            yield from differences(one, other, f"{field}[{i}]")
    elif stored != found:
        yield Difference(field, stored, found)


def different_lines(path: str, table: str) -> list[Difference]:
    """The first line of a stored table that is not that of the recomputed one, if any."""
    stored = Path(path).read_text(encoding="utf-8")
    if stored == table:
        return []
    both: Sequence[list[str]] = [text.splitlines() for text in (stored, table)]
    n = next((i for i, (one, other) in enumerate(zip(*both, strict=False)) if one != other), min(map(len, both)))
    one, other = (lines[n] if n < len(lines) else ABSENT for lines in both)
    return [Difference(f"{path}, line {n + 1},", one, other)]


def counts(difference: Difference) -> bool:
    """Whether the tolerance is about this field: not about what follows from others, nor about single episodes."""
    parts = difference.field.split(".")
    return not difference.field.endswith(",") and not any(name in parts for name in CONSEQUENCES)


def changed_surroundings(stored: Mapping[str, Any], found: Mapping[str, Any], tested_by: str | None) -> str:
    """In words, why the same bits cannot be expected; empty where they can."""
    then, now = stored["provenance"], found["provenance"]
    seen = [facts["hardware"].get(tested_by, {}) for facts in (then, now)]
    pairs = {name: [hardware.get(name) for hardware in seen] for name in COMPUTES}
    versions = {name: [facts["versions"].get(name) for facts in (then, now)] for name in then["versions"]}
    pairs |= {name: values for name, values in versions.items() if name not in TOOLS}
    changed = [f"{name}: {one} then, {other} now" for name, (one, other) in pairs.items() if one != other]
    if not then.get("reproducible", True):
        changed.append("its device does not give the same bits twice")
    return "; ".join(changed)


def spoken_accuracy(result: Mapping[str, Any]) -> str:
    accuracy = result["accuracy"]
    if "mean" in accuracy:
        return f"{100 * accuracy['mean']:.2f} %"
    names = {name: f"{name}-shot" if name.isdigit() else name for name in accuracy}
    return ", ".join(f"{names[name]} {100 * of['mean']:.2f} %" for name, of in accuracy.items())


def plain(value: Any) -> Any:
    """A value as it comes back from its JSON file."""
    return json.loads(to_json(value))
