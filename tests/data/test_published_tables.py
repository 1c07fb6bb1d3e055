"""The table of NAS-Bench-201 from generated files in the structure of the official ones, and from the real compact one.

The official files are too large to be here; `official_tables.py` makes up small ones. No number in them is real.
"""

import bz2
import csv
import dataclasses
import gzip
import hashlib
import os
import pathlib
import pickle
import tarfile

import numpy as np
import pytest
import torch

from pipeline import data, spaces
from pipeline.core.artifacts import read_json, sha256
from pipeline.core.errors import DataError, DownloadError, UnknownNameError
from pipeline.data import nas_bench_201
from pipeline.data.accuracy_tables import read_compact_csv
from pipeline.data.published_tables import TABLES, make
from tests.data.official_tables import SEEDS, TEXTS, WRITERS, accuracy, nats, nb201, write_archive
from tests.data.tiny_sources import vouch

PARTS = {
    ("cifar10", "valid"): ("cifar10-valid", "x-valid"),
    ("cifar10", "test"): ("cifar10", "ori-test"),
    ("cifar100", "valid"): ("cifar100", "x-valid"),
    ("cifar100", "test"): ("cifar100", "x-test"),
    ("imagenet16", "valid"): ("ImageNet16-120", "x-valid"),
    ("imagenet16", "test"): ("ImageNet16-120", "x-test"),
}
COMPACT = "nb201_full_15625.csv.gz"


@pytest.fixture(autouse=True)
def three_architectures(monkeypatch):
    monkeypatch.setattr(nas_bench_201, "N_ARCHITECTURES", len(TEXTS))


def made(folder: pathlib.Path, name: str, writer=None, vouched: bool = True):
    """The table made from one source in a mirror, and its facts."""
    source = folder / "mirror/nas_bench_201" / name
    source.parent.mkdir(parents=True, exist_ok=True)
    (writer or WRITERS[name])(source)
    if vouched:
        vouch(folder / "mirror")
    out, facts = folder / "tables/nas_bench_201.csv", folder / "tables/nas_bench_201.json"
    make("nas_bench_201", out, facts, mirror=folder / "mirror")
    return read_compact_csv(out), read_json(facts)


def test_each_table_is_of_the_data_sets_that_are_said_to_have_one():
    assert TABLES == {"nas_bench_201": ("cifar10", "cifar100", "imagenet16")}
    assert set(TABLES) <= set(spaces.names())
    for datasets in TABLES.values():
        assert all(data.kind_of(name) == "classification" for name in datasets)


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_of_the_official_structure_gives_every_accuracy_it_has(name, tmp_path):
    table, facts = made(tmp_path, name)
    assert list(table.texts) == TEXTS
    for n_epochs in (200, 12):
        for (dataset, part), official in PARTS.items():
            if "v1_0-e61699" in name and n_epochs == 12 and (dataset, part) != ("cifar10", "valid"):
                continue
            for index, text in enumerate(TEXTS):
                seeds = [accuracy(index, n_epochs, *official, seed) for seed in sorted(SEEDS[n_epochs][index])]
                mean = table.accuracy(text, dataset, part, epoch=n_epochs)
                assert mean == pytest.approx(np.mean(seeds) / 100, rel=1e-15)
                for number, seed in enumerate(seeds):
                    found = table.accuracy(text, dataset, part, epoch=n_epochs, seed=number)
                    assert found == pytest.approx(seed / 100, rel=1e-15)
                with pytest.raises(DataError, match=f"{len(seeds)} single seeds"):
                    table.accuracy(text, dataset, part, epoch=n_epochs, seed=len(seeds))
    assert facts["source"] == name and facts["official"] is False
    assert facts["sha256"] == sha256(tmp_path / "mirror/nas_bench_201" / name)


def test_the_forms_of_one_benchmark_give_the_same_table(tmp_path):
    texts = [made(tmp_path / name, name) and (tmp_path / name / "tables/nas_bench_201.csv") for name in WRITERS]
    archive, whole, v1_1, _ = (path.read_text() for path in texts)
    assert archive == whole == v1_1


def test_what_a_source_lacks_is_written_down(tmp_path):
    assert made(tmp_path / "whole", "NATS-tss-v1_0-3ffb9-simple.tar")[1]["lacks"] == []
    table, facts = made(tmp_path / "old", "NAS-Bench-201-v1_0-e61699.pth")
    (lacking,) = facts["lacks"]
    assert lacking.startswith("accuracies after 12 epochs of cifar10_test, cifar100_valid")
    assert set(table.others) == {12} and set(table.others[12].means) == {("cifar10", "valid")}
    with pytest.raises(UnknownNameError, match="12 epochs"):
        table.accuracy(TEXTS[0], "cifar100", "valid", epoch=12)
    with pytest.raises(DataError, match="after 12 and 200 epochs only"):
        table.accuracy(TEXTS[0], "cifar100", epoch=90)


def test_the_facts_name_the_networks_the_table_and_its_own_file(tmp_path):
    _, facts = made(tmp_path, "NATS-tss-v1_0-3ffb9.pickle.pbz2")
    assert facts["name"] == "NAS-Bench-201" and facts["space"] == "nas_bench_201"
    assert facts["network"] == {"channels": 16, "n_cells": 15} and facts["n_architectures"] == 3
    assert facts["table_sha256"] == sha256(tmp_path / "tables/nas_bench_201.csv")


def test_the_end_of_the_hash_makes_a_file_official_and_nobody_has_to_vouch_for_it(tmp_path, monkeypatch):
    def write(path):
        WRITERS["NATS-tss-v1_0-3ffb9.pickle.pbz2"](path)
        content = path.read_bytes()
        ends.append(hashlib.md5(content).hexdigest()[-5:])

    ends: list[str] = []
    write(tmp_path / "sample")
    layouts = nas_bench_201.NasBench201.layouts
    assert layouts[1].sources[0].hash_end == "3ffb9"
    own = dataclasses.replace(layouts[1].sources[0], hash_end=ends[0])
    changed = dataclasses.replace(layouts[1], sources=(own,))
    monkeypatch.setattr(nas_bench_201.NasBench201, "layouts", (changed,))
    assert made(tmp_path, own.name, vouched=False)[1]["official"] is True


def test_a_file_with_another_hash_that_nobody_vouches_for_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"neither the official .* \(MD5 or SHA-256 ending in 3ffb9\)"):
        made(tmp_path, "NATS-tss-v1_0-3ffb9.pickle.pbz2", vouched=False)


@pytest.mark.parametrize("mirror", [None, "mirror"])
def test_without_any_source_the_error_says_what_to_get_where_and_where_to_put_it(tmp_path, mirror):
    (tmp_path / "mirror").mkdir()
    with pytest.raises(DownloadError) as error:
        make("nas_bench_201", tmp_path / "t.csv", tmp_path / "t.json", mirror=mirror and tmp_path / mirror)
    said = str(error.value)
    assert all(name in said for name in (*WRITERS, COMPACT))
    assert "ending in 096897" in said and "drive.google.com" in said
    assert str(tmp_path / "mirror/nas_bench_201" if mirror else "MIRROR/nas_bench_201") in said
    assert not (tmp_path / "t.csv").exists()


def test_an_unknown_table_is_an_error(tmp_path):
    with pytest.raises(UnknownNameError, match="Known: nas_bench_201"):
        make("nas_bench_101", tmp_path / "t.csv", tmp_path / "t.json")


def test_the_unpacked_archive_is_taken_as_well(tmp_path):
    def unpacked(path):
        write_archive(path)
        with tarfile.open(path) as archive:
            archive.extractall(path.parent, filter="data")
        path.unlink()

    packed, _ = made(tmp_path / "a", "NATS-tss-v1_0-3ffb9-simple.tar")
    table, facts = made(tmp_path / "b", "NATS-tss-v1_0-3ffb9-simple.tar", unpacked)
    assert facts["source"] == "NATS-tss-v1_0-3ffb9-simple"
    assert all(np.array_equal(table.means[key], packed.means[key]) for key in PARTS)


def changed(change):
    def write(path):
        content = nats()
        change(content["arch2infos"][1]["200"], content)
        write_archive(path, content)

    return write


def in_trial(key, value):
    return lambda state, content: state["all_results"]["cifar10", 777].update({key: value})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state, content: state.update(arch_str="|x~0|"), r"'200' is \|x~0\| instead of \|b~0\|"),
        (lambda state, content: state["all_results"].pop(("cifar10", 777)), "architecture 1, '200' has no"),
        (lambda state, content: content["arch2infos"][1].pop("200"), "architecture 1, '200' has no '200'"),
        (lambda state, content: content["arch2infos"].pop(2), "holds no file '000002.pickle.pbz2'"),
        (lambda state, content: content["meta_archs"].pop(), "holds 2 architectures; NAS-Bench-201 has 3"),
        (in_trial("epochs", 90), "was not trained for 200 epochs"),
        (in_trial("eval_acc1es", {"ori-test@199": 101.0}), "101.0 is no accuracy in per cent"),
        (in_trial("eval_acc1es", {"ori-test@199": float("nan")}), "nan is no accuracy"),
        (in_trial("eval_acc1es", {"ori-test@199": "93"}), "'93' is no accuracy"),
    ],
)
def test_a_damaged_file_is_refused_with_the_architecture(tmp_path, change, said, monkeypatch):
    monkeypatch.setattr("tests.data.official_tables.TEXTS", list(TEXTS))
    with pytest.raises(DataError, match=said):
        made(tmp_path, "NATS-tss-v1_0-3ffb9-simple.tar", changed(change))
    assert not (tmp_path / "tables/nas_bench_201.csv").exists()


def test_a_column_that_some_architectures_lack_is_left_out_and_said(tmp_path):
    def without(state, content):
        state["dataset_seed"].pop("cifar100")

    table, facts = made(tmp_path, "NATS-tss-v1_0-3ffb9-simple.tar", changed(without))
    assert ("cifar100", "test") not in table.means and ("cifar10", "test") in table.means
    assert "cifar100_test is left out: the source has it of 2 of 3 architectures." in facts["notes"]
    assert facts["lacks"] == ["accuracies after 200 epochs of cifar100_valid, cifar100_test"]


class Attack:
    def __reduce__(self):
        return os.system, ("touch attacked",)


@pytest.mark.parametrize("name", list(WRITERS)[1:])
def test_a_file_that_wants_to_run_code_is_refused(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def attack(path):
        if name.endswith(".pth"):
            torch.save(nb201() | {"meta_archs": Attack()}, path, _use_new_zipfile_serialization=False)
        else:
            path.write_bytes(bz2.compress(pickle.dumps(nats() | {"meta_archs": Attack()})))

    with pytest.raises(DataError, match="it wants to call"):
        made(tmp_path, name, attack)
    assert not (tmp_path / "attacked").exists()


def test_a_file_of_a_later_torch_is_read_too(tmp_path):
    table, _ = made(tmp_path / "new", "NAS-Bench-201-v1_1-096897.pth", lambda path: torch.save(nb201(), path))
    old, _ = made(tmp_path / "old", "NAS-Bench-201-v1_1-096897.pth")
    assert all(np.array_equal(table.means[key], old.means[key]) for key in PARTS)


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps(5), pickle.dumps({"meta_archs": ["|a~0|"]})])
@pytest.mark.parametrize("name", ["NATS-tss-v1_0-3ffb9.pickle.pbz2", "NAS-Bench-201-v1_1-096897.pth"])
def test_what_is_no_such_file_is_refused_with_its_name(tmp_path, name, content):
    with pytest.raises(DataError, match=name):
        made(tmp_path, name, lambda path: path.write_bytes(content))


def test_fields_of_a_compact_table_are_kept_as_they_are(tmp_path):
    text = "index,arch_str,isomorph,cifar10_test,cifar10_test_seeds_v1_0,zen\n"
    text += "0,|a|,0,81.50,81;82,1\n1,|b|,1,9,,2\n2,|c|,2,1,,3\n"
    _, facts = made(tmp_path, COMPACT, lambda path: path.write_bytes(gzip.compress(text.encode())))
    rows = list(csv.reader((tmp_path / "tables/nas_bench_201.csv").open()))
    assert rows[0] == ["index", "arch_str", "cifar10_test", "cifar10_test_seeds"]
    assert rows[1:3] == [["0", "|a|", "81.50", "81;82"], ["1", "|b|", "9", ""]]
    assert facts["official"] is False and facts["columns"] == rows[0][2:]
    assert "accuracies after 12 epochs" in facts["lacks"]


MIRROR = os.environ.get("FEWSHOT_NAS_MIRROR")
REAL = pathlib.Path(MIRROR or ".") / "nas_bench_201" / COMPACT


@pytest.mark.skipif(not MIRROR or not REAL.is_file(), reason="FEWSHOT_NAS_MIRROR names no mirror with the table")
def test_the_real_compact_table_keeps_every_number(tmp_path, monkeypatch):
    monkeypatch.setattr(nas_bench_201, "N_ARCHITECTURES", 15_625)
    make("nas_bench_201", tmp_path / "t.csv", tmp_path / "t.json", mirror=MIRROR)
    made_one, source = read_compact_csv(tmp_path / "t.csv"), read_compact_csv(REAL)
    assert made_one.texts == source.texts and set(made_one.means) == set(source.means) == set(PARTS)
    assert all(np.array_equal(made_one.means[key], source.means[key]) for key in PARTS)
    assert made_one.seeds == source.seeds
    assert made_one.best("cifar10")[1] == pytest.approx(0.943733, abs=1e-6)
