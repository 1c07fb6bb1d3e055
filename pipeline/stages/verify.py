"""Recompute results from stored weights, episodes and tables, and say whether they are the same. Nothing is written.

Every digest that a result names is held against the files, and the result is joined again from these files: it must be
what they say, bit for bit. Then the networks are tested again by the functions of the stage that tested them. Exit code
0 says that what came out is identical, or within tolerance where something else computes.
"""

import io
import json
import os
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pipeline.core import provenance
from pipeline.core.artifacts import read_csv, read_json, sha256, to_json
from pipeline.core.errors import ArtifactError, PipelineError, UnknownNameError, shown
from pipeline.report.schema import check_classifier, check_lookup, check_result
from pipeline.stages import adapt, compare, contrast, evaluate, look_up, test
from pipeline.stages.common import FROZEN, read_params

LOOKS_FOR_DAMAGE = True
TOLERANCE = 0.005
"""Of fractions that are tested again, where what computes is not what computed then: half a percentage point."""
OF_THE_TEST = ("commit", "versions", "hardware", "reproducible")
"""What the provenance of a test says only about where and when it ran."""
OF_THE_LOOK_UP = ("commit", "versions")
COMPUTES = ("processor", "threads", "device", "accelerator")
TOOLS = ("snakemake", "dvc")
"""Packages that compute no number."""
ABSENT = "absent"


@dataclass(frozen=True)
class Difference:
    """A field that is not the same, by its path in the result."""

    field: str
    stored: Any
    found: Any

    def __str__(self) -> str:
        stored, found = (str(value)[:120] for value in (self.stored, self.found))
        return f"{self.field[:200]} is {stored} in the result and {found} recomputed"

    @property
    def size(self) -> float:
        """Of two fractions; infinite between anything else."""
        values = (self.stored, self.found)
        if not all(isinstance(value, float) for value in values):
            return float("inf")
        return abs(self.stored - self.found)


@dataclass(frozen=True)
class Kind:
    """How results of one kind are made.

    Attributes:
        check: of the shape.
        stage: that writes the result.
        inputs: roles of the files that it reads.
        join: the result again, from its files by role and the frozen parameters of the stage.
        tested_by: stage that tests its networks; None where they are looked up, which the stage itself does.
        assess: what `tested_by` measures, and its table.
    """

    check: Callable[[Any, str], None]
    stage: str
    inputs: Collection[str]
    join: Callable[[Mapping[str, str], str], dict[str, Any]]
    tested_by: str | None = None
    assess: Callable[[Any], Sequence[Any]] | None = None

    def places(self, result: Mapping[str, Any]) -> dict[str, str]:
        """Files that are needed besides those that the result names, by role."""
        dataset = result["dataset"]
        stem = f"{result['method']}_{dataset}"
        found = {"join_params": str(FROZEN / f"{self.stage}_{stem}.json")}
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


def compared(paths: Mapping[str, str], params: str) -> dict[str, Any]:
    names = [name.removeprefix("against_") for name in paths if name.startswith("against_")]
    inputs = compare.read(paths, [(paths[f"against_{name}"], paths[f"episodes_{name}"]) for name in names])
    compare.check_together(inputs)
    return compare.assemble(inputs, paths, params)


def contrasted(paths: Mapping[str, str], params: str) -> dict[str, Any]:
    files = {name: read_json(paths[name]) for name in contrast.INPUTS}
    contrast.check_together(files)
    return contrast.assemble(files, paths, params)


def looked_up(paths: Mapping[str, str], params: str) -> dict[str, Any]:
    return look_up.assemble(look_up.look_up(paths), paths, params)


KINDS = {
    "few_shot": Kind(check_result, "compare", compare.INPUTS, compared, "evaluate", evaluate.assess),
    "adapted": Kind(check_result, "compare", compare.INPUTS, compared, "adapt", adapt.assess),
    "trained": Kind(check_classifier, "contrast", contrast.INPUTS, contrasted, "test", test.assess),
    "looked_up": Kind(check_lookup, "look_up", look_up.INPUTS, looked_up),
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
    except (PipelineError, OSError) as error:
        stands, verdict = False, f"cannot be verified. {error}"
    except RecursionError:
        stands, verdict = False, "cannot be verified. It is no result: it is nested too deeply."
    print(f"{printable(path)}: {printable(verdict)}", flush=True)
    return stands


def printable(text: str) -> str:
    """A text on one line, of which a terminal obeys nothing."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in " ".join(text.split()))


def verify(path: str) -> tuple[bool, str]:
    """Whether a result stands, and in words why.

    Raises PipelineError when a file is missing or damaged, or of another run, or when files do not belong together.
    """
    result = read_json(path)
    kind = kind_of(result, path)
    kind.check(result, path)
    places = kind.places(result)
    require(result, kind, places)
    if wrong := next(different_digests(result, places), None):
        return False, f"different: {wrong}"
    require_params(result, kind, places)
    joined = plain(joined_again(result, kind, places))
    surroundings = OF_THE_LOOK_UP if kind.tested_by is None else ()
    if wrong := next(differences(judged(result, surroundings), judged(joined, surroundings)), None):
        return False, f"different: {wrong}"
    if kind.assess is None:
        return True, f"identical ({spoken_accuracy(joined)})"
    return tested_again(result["artifacts"], kind.assess, places)


def tested_again(
    paths: Mapping[str, str], assess: Callable[[Any], Sequence[Any]], places: Mapping[str, str]
) -> tuple[bool, str]:
    """Whether the networks reach what is stored of them, and in words how far."""
    stored = read_json(paths["measured"])
    measured, frame, *_ = assess(SimpleNamespace(**places, genotype=paths["genotype"]))
    measured = plain(measured)
    fields = list(differences(judged(stored, OF_THE_TEST), judged(measured, OF_THE_TEST)))
    lines: list[Difference] = []
    means: list[Difference] = []
    if "accuracies" in paths:
        table = frame.to_csv(index=False, lineterminator="\n")
        lines, means = different_lines(paths["accuracies"], table), different_means(paths["accuracies"], table)
    accuracy = spoken_accuracy(measured)
    if not fields and not lines:
        return True, f"identical ({accuracy})"
    changed = changed_surroundings(stored["provenance"], measured["provenance"])
    if not changed:
        return False, f"different: {[*fields, *lines][0]}"
    largest = max([*fields, *means] or lines, key=lambda one: one.size)
    # of single episodes the mean is judged
    if largest not in lines and largest.size > TOLERANCE:
        return False, f"different: {largest}"
    return True, (
        f"within tolerance ({accuracy}): the largest difference is that {largest}; fractions may differ by {TOLERANCE} "
        f"where what computes differs ({changed})"
    )


def kind_of(result: Any, path: str) -> Kind:
    """Raises ArtifactError or UnknownNameError when the file is none of the results that can be recomputed."""
    if not isinstance(result, dict) or "provenance" not in result or "method" not in result:
        raise ArtifactError(
            f"It is no result of one method on one data set; those are the files results/{{method}}_{{dataset}}.json, "
            f"of the kinds {', '.join(KINDS)}."
        )
    name = result.get("kind", "few_shot")
    if not isinstance(name, str) or name not in KINDS:
        raise UnknownNameError("kind of result", name, KINDS, f"({path})")
    return KINDS[name]


def require(result: Mapping[str, Any], kind: Kind, places: Mapping[str, str]) -> None:
    """Raises ArtifactError naming every file that is not named or gone, and the commands that make them."""
    paths = result["artifacts"]
    beside = [f"episodes_{role.removeprefix('against_')}" for role in paths if role.startswith("against_")]
    if unnamed := [role for role in (*kind.inputs, "drawing", *beside) if role not in paths]:
        raise ArtifactError(
            f"Its artifacts do not name the files of {', '.join(map(in_words, unnamed))}. Make it again: "
            f"`{remake(result)}`."
        )
    needed = dict.fromkeys([*result["provenance"]["files"], *paths.values(), *places.values()])
    # os.path, unlike Path, takes names that no file can have
    gone = [path for path in needed if not os.path.isfile(path)]
    if not gone:
        return
    frozen = [path for path in gone if Path(path).is_relative_to(FROZEN)]
    made = [path for path in gone if path not in frozen and in_words(path) == path]
    ways = ["`python -m pipeline freeze`"] if frozen else []
    if made:
        names = " ".join(made)
        ways.append(f"`snakemake --cores 4 --config budget={result['budget']} -- {names}`, or `dvc checkout {names}`")
    raise ArtifactError(
        f"Missing: {', '.join(map(in_words, gone))}. Run from the project's folder. What makes them: "
        f"{'; '.join(ways or [f'`{remake(result)}`'])}."
    )


def in_words(path: str) -> str:
    """A path as it stands where a shell takes it so, else shortened and in quotes."""
    return path if shlex.quote(path) == path and len(path) < 200 else shown(path)


def remake(result: Mapping[str, Any], *options: str) -> str:
    """The command that makes a result of these parameters."""
    budget, stem = result["budget"], f"{result['method']}_{result['dataset']}"
    return f"snakemake {' '.join(options or ['--cores 4'])} --config budget={budget} -- results/{stem[:200]}.json"


def different_digests(result: Mapping[str, Any], places: Mapping[str, str]) -> Iterator[Difference]:
    """Digests in the result that are not those of the files on the disk."""
    facts = result["provenance"]
    for path, stored in facts["files"].items():
        yield from differences(stored, sha256(path), f"provenance.files[{path}]")
    for name, role in (("weights_sha256", "weights"), ("episodes_digest", "episodes")):
        if role in places:
            yield from differences(facts.get(name, ABSENT), sha256(places[role]), f"provenance.{name}")
    path = places.get("manifest") or result["artifacts"]["manifest"]
    manifest = read_json(path)
    if not isinstance(manifest, dict):
        raise ArtifactError(f"{in_words(path)} is no manifest of a prepared set. Delete it and run the prepare stage.")
    yield from differences(facts["data_digest"], manifest.get("digest", ABSENT), "provenance.data_digest")


def require_params(result: Mapping[str, Any], kind: Kind, places: Mapping[str, str]) -> None:
    """Raises ArtifactError unless the frozen parameters are those of the result: with others, it would be another."""
    facts = result["provenance"]
    for stage, role in ((kind.stage, "join_params"), (kind.tested_by, "params")):
        if role not in places:
            continue
        frozen, wanted = read_params(places[role]), facts["params_digest"].get(stage, ABSENT)
        if frozen.digest == wanted:
            continue
        budget = f", its budget {shown(frozen.budget)}" if frozen.budget != result["budget"] else ""
        now = provenance.commit()
        code = f" (commit {facts['commit'][:80]} then, {now} now)" if facts["commit"] != now else ""
        raise ArtifactError(
            f"{places[role]} holds other parameters than those of the result{budget}, or the code is another{code}: "
            f"provenance.params_digest.{stage} is {wanted} in the result and {frozen.digest} of what is in force. "
            "Bring back params.yaml, the code and all values of --config as they were, and make the parameters those "
            f"of the result: `{remake(result, '-n')}`. To have a result of what is in force, make it again instead."
        )


def joined_again(result: Mapping[str, Any], kind: Kind, places: Mapping[str, str]) -> dict[str, Any]:
    """What the stage that writes the result makes of its files. Raises ArtifactError where that is nothing."""
    try:
        return kind.join(result["artifacts"], places["join_params"])
    # files may be as the result names them, and still not what the stages write
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(
            f"The files in its artifacts are not those that the {kind.stage} stage reads "
            f"({type(error).__name__}: {error}). Make it again: `{remake(result)}`."
        ) from None


def judged(content: Mapping[str, Any], surroundings: Collection[str]) -> dict[str, Any]:
    """A result, or what was measured, without these parts of its provenance, which comes first."""
    facts = {name: value for name, value in content["provenance"].items() if name not in surroundings}
    return {"provenance": facts, **{name: value for name, value in content.items() if name != "provenance"}}


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


def different_means(path: str, table: str) -> list[Difference]:
    """Where a stored table of accuracies has, of a network, other episodes or another mean than the recomputed one."""
    stored, found = (
        {
            f"seed {seed}, {k_shot}-shot, {read_out}": {
                "episodes": part["episode"].tolist(),
                "mean": float(part["accuracy"].mean()),
            }
            for (seed, k_shot, read_out), part in read_csv(source).groupby(["seed", "k_shot", "read_out"])
        }
        for source in (path, io.StringIO(table))
    )
    return list(differences(stored, found, path))


def changed_surroundings(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """In words, from the provenance of both tests, why the same bits cannot be expected; empty where they can."""
    pairs = {name: [facts["hardware"].get(name) for facts in (then, now)] for name in COMPUTES}
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
