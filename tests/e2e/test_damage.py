"""Every artifact of a finished run damaged in turn: found by its digest, named, never used; and results recomputed."""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator

import pytest

from pipeline.__main__ import main
from tests.e2e.project import SMALL, Project, described_jobs

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
NAME = "doublemnist"
LITTLE = {
    "n_iterations": 2, "validate_every": 2, "n_validation_episodes": 2, "n_query": 2, "tasks_per_batch": 1,
    "channels": 2, "image_size": 16, "inner_steps": 1, "test_steps": 1,
}  # fmt: skip
PARAMS = SMALL | {
    "grid": {"datasets": [NAME], "methods": ["random", "conv4"]},
    "adapted": {"methods": ["maml"], "supernets": [], "datasets": [NAME]},
    "prepare": {"max_images_per_class": 8, "max_image_size": 16},
    "episodes": {"n_episodes": 6, "n_query": 3, "k_shots": [1]},
    "search": {"random": {"n_architectures": 1}},
    "train": {"epochs": 1},
    "evaluate": {"n_untrained_episodes": 2, "n_resamples": 10},
    "adapt": {"n_untrained_episodes": 2, "n_resamples": 10},
    "meta_learn": {"maml": LITTLE},
}
RESULTS = [f"results/{method}_{NAME}.json" for method in ("random", "maml")]


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    made = Project.copied(tmp_path_factory.mktemp("damage") / "project", PARAMS)
    made.snakemake()
    made.save("everything made")
    return made


@pytest.fixture(autouse=True)
def inside(project, monkeypatch):
    monkeypatch.chdir(project.folder)


def flipped(content: bytes) -> bytes:
    """One bit changed in the middle."""
    place = len(content) // 2
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def truncated(content: bytes) -> bytes:
    return content[: 2 * len(content) // 3]


def emptied(content: bytes) -> bytes:
    return b""


@contextlib.contextmanager
def kept(path: str | pathlib.Path) -> Iterator[bytes]:
    """A file's content, which comes back afterwards with its time stamp, by which Snakemake decides what to make."""
    content, seen = pathlib.Path(path).read_bytes(), os.stat(path)
    yield content
    pathlib.Path(path).write_bytes(content)
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def jobs_by_input(project) -> dict[str, list[str]]:
    """Of each artifact that a stage reads, the arguments of one such stage."""
    jobs, _ = described_jobs(project)
    made = {path for outputs, _ in jobs.values() for path in outputs}
    first: dict[str, list[str]] = {}
    for command, (_, inputs) in jobs.items():
        rows = {str(path) for path in pathlib.Path("results/rows").iterdir()} if "results/rows" in inputs else set()
        for path in sorted((inputs | rows) & made):
            first.setdefault(path, command.split()[3:])
    return first


def test_every_damaged_artifact_is_refused_by_name_by_the_stage_that_reads_it(project, capsys):
    readers, found, tried = jobs_by_input(project), [], 0
    assert len(readers) >= 25, "artifacts were not seen"
    for path, arguments in readers.items():
        with kept(path) as content:
            for damage in (flipped, truncated, emptied):
                tried += 1
                pathlib.Path(path).write_bytes(damage(content))
                code, told = main(arguments), " ".join(capsys.readouterr().err.split())
                if code == 1 and f"{path} is not what the stage that makes it wrote" in told:
                    found.append((path, damage.__name__))
    with capsys.disabled():
        print(f"\n{len(found)} of {tried} damages to {len(readers)} artifacts found")
    assert len(found) == tried


def test_results_are_recomputed_bit_for_bit_and_a_damaged_source_of_theirs_is_named(project, capsys):
    assert main(["verify", *RESULTS]) == 0
    assert capsys.readouterr().out.count(": identical (1-shot") == len(RESULTS)
    named, tried = 0, 0
    for result in RESULTS:
        stem = pathlib.Path(result).stem
        content = json.loads(pathlib.Path(result).read_text())
        sources = {
            f"models/{stem}/weights.safetensors": "provenance.weights_sha256",
            f"data/episodes/{NAME}.csv": "provenance.episodes_digest",
            f"data/prepared/{NAME}.images.npy": f"{NAME}.images.npy",
            f"data/prepared/{NAME}.index.csv": f"{NAME}.index.csv",
            **{path: f"provenance.files[{path}]" for path in content["provenance"]["files"]},
        }
        for path, name in sources.items():
            tried += 1
            with kept(path) as whole:
                pathlib.Path(path).write_bytes(flipped(whole))
                named += main(["verify", result]) == 1 and name in capsys.readouterr().out
    with capsys.disabled():
        print(f"\n{named} of {tried} damaged sources of results named by verify")
    assert named == tried


def test_a_number_edited_in_a_result_is_found_with_its_place(project, capsys):
    for path in map(pathlib.Path, RESULTS):
        with kept(path) as content:
            result = json.loads(content)
            result["accuracy"]["1"]["mean"] += 0.001
            path.write_text(json.dumps(result))
            assert main(["verify", str(path)]) == 1
            assert "different: accuracy.1.mean is " in capsys.readouterr().out


def test_damaged_weights_stop_the_workflow_and_are_made_again_once_deleted(project, capsys):
    assert project.snakemake("-n", RESULTS[0]) == []
    weights, measured = f"models/random_{NAME}/weights.safetensors", f"results/measured/random_{NAME}.json"
    whole = pathlib.Path(weights).read_bytes()
    pathlib.Path(weights).write_bytes(flipped(whole))
    printed = " ".join(project.run("snakemake", "--cores", "2", RESULTS[0], ok=False).split())
    assert project.code != 0 and f"{weights} is not what" in printed, printed[-2000:]
    assert f"Delete it and make it again: `snakemake --cores 4 -- {weights}`" in printed
    pathlib.Path(weights).unlink()
    project.run("snakemake", "--cores", "2", "--", weights)
    assert pathlib.Path(weights).read_bytes() == whole
    # Snakemake has removed what the refused job had made before, and verify says how to get it back
    assert main(["verify", RESULTS[0]]) == 1
    told = " ".join(capsys.readouterr().out.split())
    assert "Missing: " in told and measured in told.split("Missing: ")[1], told
    assert "snakemake --cores 4 --config budget=laptop -- " in told and "dvc checkout " in told
    project.run("snakemake", "--cores", "2", "--config", "budget=laptop", "--", measured)
    project.run("snakemake", "--cores", "2", "--", RESULTS[0])
    assert main(["verify", RESULTS[0]]) == 0


def test_a_damaged_object_of_dvcs_cache_is_named_after_a_checkout(project, capsys):
    path = pathlib.Path(f"results/measured/random_{NAME}.json")
    arguments, content = jobs_by_input(project)[str(path)], path.read_bytes()
    (stored,) = (file for file in pathlib.Path(".dvc/cache/files/md5").rglob("*") if file.is_file()
                 and file.read_bytes() == content)  # fmt: skip
    mode = stored.stat().st_mode
    stored.chmod(0o644)
    stored.write_bytes(flipped(content))
    # DVC looks into objects that may be written to, and trusts the others
    stored.chmod(mode)
    path.unlink()
    project.run("dvc", "checkout", "-f", str(path))
    assert path.read_bytes() == flipped(content)
    assert main(arguments) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert str(path) in told and f"DVC's object {stored} is damaged too" in told
