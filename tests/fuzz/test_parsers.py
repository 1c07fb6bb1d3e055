"""Whatever a file holds, a parser gives its value or an error that a user can act on, and nothing else."""

import ast
import contextlib
import dataclasses
import functools
import io
import json
import warnings
from unittest import mock

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from pipeline import spaces
from pipeline.core.artifacts import read_csv, read_json, sha256, to_json, write_json
from pipeline.core.checkpoint import Checkpoint
from pipeline.core.errors import ArtifactError, PipelineError
from pipeline.core.registry import Registry
from pipeline.core.rng import torch_stream
from pipeline.core.tensors import read_tensors
from pipeline.core.types import Episode
from pipeline.data.accuracy_tables import read_compact_csv
from pipeline.data.archives import Tree
from pipeline.data.database import COLUMNS, read_rows, read_tasks
from pipeline.data.images import decode
from pipeline.data.pickles import read_pickle, read_torch_file
from pipeline.data.prepared import PreparedSet
from pipeline.data.settings import FetchConfig
from pipeline.episodes import files
from pipeline.report.lookups import lookup_table, stacked_lookups
from pipeline.spaces.genotype import Genotype
from pipeline.stages import verify
from pipeline.stages.common import read_params
from pipeline.stages.settings import (
    PARAMS,
    SECTIONS,
    Freezer,
    adapted,
    classification,
    grid,
    learned,
    load,
    machine_settings,
)
from pipeline.stages.site import SITE, parsed, read_yaml, submitted_rules
from pipeline.stages.submitting import options
from pipeline.stages.track import recorded_stages
from tests import made_results, tiny_set
from tests.fuzz import mutations
from tests.fuzz.counted import counts
from tests.fuzz.mutations import BATCH, of_bytes, of_text, written
from tests.made_lookups import looked_up, lookup_row

LIGHT, FULL = 200, 10_000


@pytest.fixture(scope="module", autouse=True)
def names_are_read_once():
    """Registries read the source texts of their rooms for each look at their names; these do not change here."""
    plain, Registry.files = Registry.files, functools.cache(Registry.files)
    yield
    Registry.files = plain


def fuzzed(name: str, cases, parse, n_cases: int) -> None:
    """Give `n_cases` cases, drawn in batches, to `parse`, which returns or raises a PipelineError; all else fails."""

    @settings(
        max_examples=n_cases // BATCH,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def give(batch):
        for case in batch:
            counts[name]["cases"] += 1
            try:
                parse(case)
            except PipelineError as error:
                assert str(error)
            else:
                counts[name]["read"] += 1

    before = counts[name]["cases"]
    with warnings.catch_warnings(action="ignore"):
        give()
    assert counts[name]["cases"] - before >= n_cases


def genotype_text(name: str):
    space = spaces.get(name)()
    samples = [space.to_text(space.sample(torch_stream(seed, "fuzz"))) for seed in range(4)]

    def parse(text):
        found = space.from_text(text)
        canonical = space.to_text(found)
        assert space.from_text(canonical) == found
        if isinstance(found, Genotype):
            call = ast.parse(text.strip(), mode="eval").body
            said = eval(compile(ast.Expression(call), "text", "eval"), {"Genotype": dict, "range": range})
            pairs = [tuple(pair) for node in said["normal"] for pair in ([node] if isinstance(node[0], str) else node)]
            assert pairs == [pair for node in found.normal for pair in node]
        else:
            assert canonical == text.strip()

    return of_text(*samples), parse


def image(folder):
    def parse(content):
        found = decode(content, 8, 3)
        assert found.shape == (8, 8, 3) and found.dtype == np.uint8

    return of_bytes(*mutations.images()), parse


def pickled(folder):
    plain = (dict, list, tuple, set, str, bytes, bytearray, int, float, bool, type(None), np.ndarray, np.generic)

    def parse(content):
        found = read_pickle(content, "x.pkl")
        if isinstance(found, dict):
            assert all(isinstance(one, plain) or callable(one) for one in found.values())
            [one.tobytes() for one in found.values() if isinstance(one, np.ndarray)]

    return of_bytes(*mutations.pickles()), parse


def torch_pickled(folder):
    samples = []
    for new in (True, False):
        file = io.BytesIO()
        torch.save({"a": [1, 2.5], "b": "text"}, file, _use_new_zipfile_serialization=new)
        samples.append(file.getvalue())
    return of_bytes(*samples), lambda content: read_torch_file(io.BytesIO(content), "x.pth")


def archive(folder):
    def parse(content):
        tree = Tree.opened(written(folder / "x.tar", content), folder / "scratch")
        try:
            for name in tree:
                assert not name.startswith("/") and ".." not in name.split("/")
                assert len(tree.read(name)) == (tree[name].n_bytes if tree[name].deflated else tree[name].size)
        finally:
            for path in (folder / "scratch").glob("*"):
                path.unlink()

    return of_bytes(*mutations.archives()), parse


def index(folder):
    paths = tiny_set.write(folder, n_images=2, size=2)
    facts, text = json.loads(paths["manifest"].read_text()), paths["index"].read_text()
    original = PreparedSet.open(**paths)

    def parse(changed):
        written(paths["index"], changed)
        write_json(paths["manifest"], facts | {"index_sha256": sha256(paths["index"])})
        found = PreparedSet.open(**paths)
        # an index that is taken says of every image what the manifest says
        assert (found.labels == original.labels).all() and found.split_rows == original.split_rows

    return of_text(text), parse


def manifest(folder):
    paths = tiny_set.write(folder, n_images=2, size=2)
    facts = json.loads(paths["manifest"].read_text())

    def parse(changed):
        written(paths["manifest"], json.dumps(changed))
        found = PreparedSet.open(**paths)
        assert len(found.labels) == len(found.images) and min(found.std) > 0

    return mutations.changed_mapping(facts, mutations.nested(facts)), parse


def episodes(folder):
    rows = np.arange(24).reshape(4, 6)
    of_shots = {k: [Episode(np.arange(4) + i, rows[:, :k], rows[:, k:]) for i in range(2)] for k in (1, 5)}
    files.write(folder / "e.csv", of_shots)
    text = (folder / "e.csv").read_text()

    def parse(changed):
        found = files.read(written(folder / "e.csv", changed))
        files.write(folder / "again.csv", found)
        again = files.read(folder / "again.csv")
        for k_shot, of_one in found.items():
            for one, other in zip(of_one, again[k_shot], strict=True):
                assert (one.support == other.support).all() and (one.query == other.query).all()
                assert one.support.shape == (one.n_way, k_shot) and one.query.min() >= 0

    return of_text(text), parse


def result_rows(folder):
    text = lookup_row(looked_up("tenas"), "results/x.json", "0" * 64).to_csv(index=False)

    def parse(changed):
        table = stacked_lookups([("x.csv", read_csv(written(folder / "x.csv", changed)))], "nas_bench_201")
        assert len(lookup_table(table)) == len(table)

    return of_text(text), parse


def json_artifact(folder):
    text = to_json({"a": [1, 2.5, None, "x\n"], "b": {"ä": True, "n": -1e-7}, "c": []})

    def parse(changed):
        found = read_json(written(folder / "x.json", changed))
        # what is read can be written again
        assert json.loads(to_json(found)) == found

    return of_text(text), parse


def frozen(folder):
    keys = {"stage": "x", "dataset": "x", "budget": "laptop", "seed": 0, "params": {"a": 1}, "code": "x"}

    def parse(changed):
        assert read_params(written(folder / "x.json", changed)).digest

    return of_text(to_json(keys)), parse


def triples(folder):
    text = ",".join(COLUMNS) + "\n" + "".join(f"{i},base,g{i},{i}.5,table,0,1.0,x,nas,d\n" for i in range(3))

    def parse(changed):
        rows = read_rows(written(folder / "t.csv", changed))
        assert all(set(row) == set(COLUMNS) for row in rows)

    return of_text(text), parse


def tasks(folder):
    text = to_json({"tasks": [{"id": i, "split": "base", "classes": ["a", f"b{i}"]} for i in range(2)]})
    return of_text(text), lambda changed: read_tasks(written(folder / "t.json", changed))


def accuracy_table(folder):
    text = "index,arch_str,cifar10_test,cifar10_test_seeds\n0,a,93.5,93;94\n1,b,10,\n"

    def parse(changed):
        found = read_compact_csv(written(folder / "t.csv", changed))
        assert all(((column >= 0) & (column <= 1)).all() for column in found.means.values())

    return of_text(text), parse


def tensors(folder):
    content = save({"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(1, dtype=torch.int64)}, {"x": "y"})

    def parse(changed):
        found = read_tensors(written(folder / "w.safetensors", changed), "train")
        assert all(isinstance(one, torch.Tensor) for one in found.values())

    return of_bytes(content), parse


def checkpoint(folder):
    saved = Checkpoint(folder / "c.pt", "key")
    saved.save({"weights": torch.ones(2), "epoch": 3})
    content = (folder / "c.pt").read_bytes()

    def parse(changed):
        written(folder / "c.pt", changed)
        found = saved.load()
        # a state is whole, or is as good as none
        assert found is None or (found["epoch"] == 3 and found["weights"].equal(torch.ones(2)) and len(found) == 2)

    return of_bytes(content), parse


def verified(folder):
    with contextlib.chdir(folder):
        result = made_results.with_sources()
    path = folder / "results/metantk_doublemnist.json"
    text, (stored, table) = path.read_text(), (result["artifacts"][name] for name in ("measured", "accuracies"))

    def assess(arguments):
        return read_json(stored), read_csv(table), None

    kinds = {"few_shot": dataclasses.replace(verify.KINDS["few_shot"], assess=assess)}

    def parse(changed):
        written(path, changed)
        with contextlib.chdir(folder), mock.patch.dict(verify.KINDS, kinds):
            stands, words = verify.verify(str(path))
        # what was changed in any place does not stand
        assert stands == (json.loads(path.read_text()) == result) and words

    odd_values = mutations.changed_mapping(result, mutations.nested(result)).map(
        lambda some: list(map(json.dumps, some))
    )
    return st.one_of(of_text(text), odd_values), parse


def yaml_text(folder):
    text = "budget: laptop\nseed: 0\ngrid: {datasets: [doublemnist]}\ndata:\n  folders: {a: {path: x}}\n"

    def parse(changed):
        Freezer(load(written(folder / "p.yaml", changed)))

    return of_text(text, "a: &a [1, 2]\nb: [*a, *a]\nseed: 1\nbudget: gpu\n"), parse


def configuration(folder):
    content = load(PARAMS)
    content["data"] = {"mirror": None, "folders": {"birds": {"path": "x", "kind": "few_shot", "novel": 0.2}}}

    def parse(changed):
        freezer = Freezer(changed)
        machine_settings(changed)
        for listed in (grid, classification, learned, adapted):
            listed(changed)
        tags = freezer._tags("doublemnist")
        for name, knobs in SECTIONS.items():
            to_json(freezer._section(name, knobs, tags))
        to_json(freezer._section("data", FetchConfig, tags, freezer.folders.get("birds", {})))

    return mutations.changed_mapping(content, mutations.nested(content)), parse


def site_table(folder):
    def parse(changed):
        found = parsed(read_yaml(written(folder / "site.yaml", changed), "The table"), submitted_rules())
        for rule in found.set_resources():
            options(found.groups[found.group_of[rule]], 1)

    return of_text(SITE.read_text(encoding="utf-8")), parse


def recorded(folder):
    file = {"md5": "0" * 32, "path": "a", "size": 1}
    stages = {
        "prepare@x": {"cmd": "x", "deps": [file], "outs": [{**file, "path": "b"}]},
        "episodes@x": {"outs": [file]},
    }

    def parse(changed):
        assert all(isinstance(stage, dict) for stage in recorded_stages(written(folder / "dvc.lock", changed)).values())

    return of_text(yaml.safe_dump({"schema": "2.0", "stages": stages})), parse


PARSERS = {
    function.__name__: function
    for function in (
        image, pickled, torch_pickled, archive, index, manifest, episodes, result_rows, json_artifact, frozen, triples,
        tasks, accuracy_table, tensors, checkpoint, verified, yaml_text, configuration,
        site_table, recorded,
    )
}  # fmt: skip


@pytest.mark.parametrize("n_cases", [LIGHT, pytest.param(FULL, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", spaces.names())
def test_a_genotypes_text_is_read_as_it_stands_or_refused(name, n_cases):
    fuzzed(f"genotype of {name}", *genotype_text(name), n_cases)


@pytest.mark.parametrize("n_cases", [LIGHT, pytest.param(FULL, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_reads_or_refuses_whatever_it_is_given(name, n_cases, tmp_path):
    fuzzed(name, *PARSERS[name](tmp_path), n_cases)


def test_a_parser_that_fails_otherwise_is_found():
    def parse(text):
        if "[" in text:
            raise KeyError(text)
        raise ArtifactError(text)

    with pytest.raises(KeyError):
        fuzzed("a faulty parser", of_text("a[b"), parse, LIGHT)
    counts.pop("a faulty parser")
