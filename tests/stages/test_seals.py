"""What stages wrote is used only as they wrote it."""

import argparse
import hashlib
import os
import pathlib
import types

import pytest
import yaml

from pipeline.__main__ import run
from pipeline.core.artifacts import sha256
from pipeline.core.errors import ArtifactError
from pipeline.stages import seals

SOURCE, COPY = pathlib.Path("made/source.txt"), pathlib.Path("made/copy.txt")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    SOURCE.parent.mkdir()
    SOURCE.write_text("as it was given")
    return tmp_path


def copy(arguments) -> None:
    pathlib.Path(arguments.out).write_bytes(pathlib.Path(arguments.source).read_bytes())


def stage(source=SOURCE, out=COPY, do=copy, **more) -> int:
    """A stage that copies, run as the command line runs it."""
    return run(types.SimpleNamespace(run=do, **more), argparse.Namespace(source=str(source), out=str(out), number=3))


def test_a_file_that_a_stage_wrote_is_used_and_one_that_was_changed_since_is_refused_by_name():
    stage()
    assert stage(COPY, "made/third.txt") == 0
    content = bytearray(COPY.read_bytes())
    content[3] ^= 1
    COPY.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"made/copy.txt is not what .* damaged or edited.*Delete it"):
        stage(COPY, "made/fourth.txt")
    assert not pathlib.Path("made/fourth.txt").exists()


def test_a_truncated_file_is_refused_too_also_in_a_folder_that_is_named():
    stage()
    COPY.write_bytes(COPY.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match="made/copy.txt"):
        stage("made", "other.txt", do=lambda arguments: pytest.fail("the stage must not begin"))


def test_of_a_folder_that_others_write_to_neither_their_unfinished_files_nor_their_new_ones_are_taken(monkeypatch):
    real, unfinished = os.stat, pathlib.Path("made/.row.csv.0a1b2c3d")
    unfinished.write_text("half")

    def renamed_meanwhile(path, **options):
        if str(path) == str(unfinished):
            raise FileNotFoundError(path)
        return real(path, **options)

    def reads(arguments):
        pathlib.Path("made/row.csv").write_text("by another stage, which has not ended yet")

    monkeypatch.setattr(os, "stat", renamed_meanwhile)
    monkeypatch.setattr(
        seals, "sha256", lambda path: sha256(path) if path != str(unfinished) else renamed_meanwhile(path)
    )
    stage("made", "other.txt", do=reads)
    assert not pathlib.Path("build").exists()


def test_a_file_that_no_stage_wrote_may_be_edited():
    stage()
    SOURCE.write_text("edited")
    stage()
    assert COPY.read_text() == "edited"


def test_a_file_that_was_made_again_is_used_and_so_is_an_earlier_version_that_came_back():
    stage()
    first = COPY.read_bytes()
    SOURCE.write_text("another")
    COPY.unlink()
    stage()
    stage(COPY, "made/third.txt")
    COPY.write_bytes(first)
    stage(COPY, "made/third.txt")


def test_what_a_stage_that_failed_has_written_is_not_vouched_for():
    def fails(arguments):
        copy(arguments)
        raise ArtifactError("failed")

    with pytest.raises(ArtifactError, match="failed"):
        stage(do=fails)
    assert not pathlib.Path("build").exists()


def test_what_is_written_beside_the_files_named_is_sealed_too():
    def both(arguments):
        copy(arguments)
        pathlib.Path("made/facts.json").write_text("{}")

    stage(do=both, beside=lambda arguments: ["made/facts.json"])
    pathlib.Path("made/facts.json").write_text("{ }")
    with pytest.raises(ArtifactError, match="made/facts.json"):
        stage("made/facts.json", "made/third.txt")


def test_a_stage_that_looks_for_damage_gets_to_see_it():
    stage()
    COPY.write_text("damaged")
    seen = []
    stage(COPY, "made/third.txt", do=lambda arguments: seen.append(arguments.source), LOOKS_FOR_DAMAGE=True)
    assert seen == [str(COPY)]


def test_files_outside_the_project_and_frozen_parameters_are_left_alone(tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "copy.txt"
    stage(out=outside)
    outside.write_text("edited")
    stage(outside, "made/third.txt")
    pathlib.Path("build/params").mkdir(parents=True)
    stage(out="build/params/a.json")
    pathlib.Path("build/params/a.json").write_text("edited")
    stage("build/params/a.json", "made/third.txt")


@pytest.mark.parametrize("kept", ["", " \n", "0" * 63, "0" * 64 + "\n\x00", None], ids=repr)
def test_a_file_whose_digests_were_lost_is_refused_until_it_is_made_again(kept):
    stage()
    seal = pathlib.Path("build/seals/made/copy.txt.sha256")
    digests = seal.read_text()
    if kept is None:
        seal.unlink()
        seal.mkdir()
    else:
        seal.write_text(kept)
    COPY.write_text("edited")
    with pytest.raises(
        ArtifactError, match=r"build/seals/made/copy\.txt\.sha256, which .* cannot be read .*Delete both"
    ):
        stage(COPY, "made/third.txt")
    if kept is None:
        seal.rmdir()
    COPY.unlink()
    stage()
    assert seal.read_text() == digests


def recorded(content: bytes, cached: bytes | None = None) -> pathlib.Path:
    """A dvc.lock that vouches for the copy with this content, and the object in DVC's cache."""
    md5 = hashlib.md5(content).hexdigest()
    entry = {"path": str(COPY), "hash": "md5", "md5": md5, "size": len(content)}
    pathlib.Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {"copy": {"outs": [entry]}}}))
    stored = pathlib.Path(".dvc/cache/files/md5") / md5[:2] / md5[2:]
    stored.parent.mkdir(parents=True)
    stored.write_bytes(content if cached is None else cached)
    return stored


def test_what_dvc_vouches_for_is_used_though_no_stage_wrote_it_here():
    stage()
    recorded(b"made elsewhere")
    COPY.write_bytes(b"made elsewhere")
    stage(COPY, "made/third.txt")
    pathlib.Path("made/third.txt").unlink()
    COPY.write_bytes(b"made elsewherf")
    with pytest.raises(ArtifactError, match="`dvc checkout made/copy.txt` brings back"):
        stage(COPY, "made/third.txt")


def test_a_damaged_object_of_dvcs_cache_is_refused_and_named_after_a_checkout():
    stored = recorded(b"made elsewhere", cached=b"made elsewherf")
    COPY.write_bytes(stored.read_bytes())
    with pytest.raises(ArtifactError, match=f"DVC's object {stored} is damaged too"):
        stage(COPY, "made/third.txt")
