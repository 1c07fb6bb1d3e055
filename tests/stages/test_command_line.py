"""The command line: errors as one paragraph, exit codes, memory."""

import dataclasses
import errno
import os
import subprocess
import sys

import pytest
import torch

import pipeline.__main__ as command_line
from pipeline import methods
from pipeline.data import kind_of
from pipeline.stages import freeze


def test_an_error_of_the_user_is_one_paragraph_and_a_failing_exit_code(capsys, tmp_path):
    assert command_line.main(["freeze", "--params", str(tmp_path / "none.yaml")]) == 1
    told = capsys.readouterr().err.strip()
    assert told.startswith("error: ") and "\n\n" not in told and "Traceback" not in told


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "disk or quota is full"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), "No permission"),
        (MemoryError(), "Out of memory"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"), "Lower train.batch_size"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes"), "Out of memory"),
    ],
)
def test_a_failing_machine_is_told_with_the_way_out(error, words, capsys, monkeypatch):
    def fail(arguments):
        raise error

    monkeypatch.setattr(freeze, "run", fail)
    assert command_line.main(["freeze"]) == 1
    assert words in " ".join(capsys.readouterr().err.split())


def test_memory_that_really_runs_out_is_told(capsys, monkeypatch):
    monkeypatch.setattr(freeze, "run", lambda arguments: torch.empty(2**60))
    assert command_line.main(["freeze"]) == 1
    assert "Out of memory" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_ends_the_printing_quietly():
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "pipeline", "knobs"]
    ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (1, "")


def test_a_broken_pipe_to_something_else_keeps_its_traceback(monkeypatch):
    def fail(arguments):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(freeze, "run", fail)
    with pytest.raises(BrokenPipeError):
        command_line.main(["freeze"])


def test_an_error_of_the_program_keeps_its_traceback(monkeypatch):
    def fail(arguments):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(freeze, "run", fail)
    with pytest.raises(RuntimeError, match="shapes differ"):
        command_line.main(["freeze"])


@pytest.mark.parametrize("section", ["search.metank", "trian"])
def test_knobs_of_a_section_that_is_not_there_are_an_error_with_the_nearest(section, capsys):
    assert command_line.main(["knobs", section]) == 1
    printed = capsys.readouterr()
    nearest = {"search.metank": "search.metantk", "trian": "train"}[section]
    assert f"Unknown section '{section}'. Did you mean '{nearest}'" in printed.err and printed.out == ""


def test_knobs_of_one_method_are_printed_alone(capsys):
    assert command_line.main(["knobs", "search.ntk"]) == 0
    printed = capsys.readouterr().out
    assert "  ntk:" in printed and "metantk:" not in printed and "train:" not in printed


def test_a_method_whose_config_has_a_plain_field_is_told_by_name_when_its_knobs_are_asked_for(monkeypatch, capsys):
    plain = dataclasses.make_dataclass("Config", [("depth", int, 3)], frozen=True)
    monkeypatch.setattr(methods.get("ntk"), "Config", plain)
    assert command_line.main(["knobs", "search.ntk"]) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert "no knobs: depth" in told and "write `depth: TYPE = knob(" in told


@pytest.mark.parametrize("kind", ["few_shot", "classification"])
def test_data_sets_are_listed_by_kind(kind, capsys):
    assert command_line.main(["list", "datasets"]) == 0
    every = capsys.readouterr().out.split()
    assert command_line.main(["list", "datasets", "--kind", kind]) == 0
    listed = capsys.readouterr().out.split()
    assert listed == [name for name in every if kind_of(name) == kind] and {"cifar10", "cifarfs"} <= set(every)


def test_folders_are_listed_under_the_kind_they_ask_for(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    text = "data: {folders: {birds: {path: x}, cats: {path: y, kind: classification}}}"
    (tmp_path / "params.yaml").write_text(text)
    for kind, own in (("few_shot", "birds"), ("classification", "cats")):
        assert command_line.main(["list", "datasets", "--kind", kind]) == 0
        assert [name for name in capsys.readouterr().out.split() if name in ("birds", "cats")] == [own]
