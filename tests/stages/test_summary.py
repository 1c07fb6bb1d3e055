"""What `summary` tells of a finished result."""

import pathlib

from pipeline.__main__ import main
from pipeline.core.artifacts import read_json
from pipeline.stages.summary import lines
from tests.made_results import CONTROL, FOUND, compared, write_inputs

FIGURES = pathlib.Path(__file__).resolve().parents[2] / "benchmarks/figures/adapted_laptop"


def test_a_control_is_called_by_its_name_and_architectures_of_tasks_by_how_many_they_are_for():
    told = lines(read_json(FIGURES / "tnas_omniglot.json"))
    assert "  1-shot accuracy 67.0 ± 1.6 %   randomtnas 66.1 ± 1.4 %   untrained 47.0 ± 1.5 %" in told
    assert any(line.startswith("  architecture of 116 tasks with k_shot 5: Genotype(") for line in told)


def test_a_network_for_all_tasks_is_told_with_its_seed():
    told = lines(read_json(FIGURES / "maml_omniglot.json"))
    assert "  architecture 0: conv4_flat" in told
    assert told[-1].startswith("  images: a mirror's variant of the data")


def test_the_control_of_a_search_is_called_random_architectures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_inputs(tmp_path, "random", CONTROL)
    write_inputs(tmp_path, "metantk", FOUND)
    told = lines(compared("metantk"))
    assert "random architectures" in told[1] and "untrained" in told[1]


def test_a_control_of_another_space_is_told_and_one_of_the_same_is_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_inputs(tmp_path, "random", CONTROL)
    write_inputs(tmp_path, "metantk", FOUND)
    assert not any("space" in line for line in lines(compared("metantk")))
    write_inputs(tmp_path, "conv4", FOUND, changes={"space": "conv4"})
    assert "  the control is random, of another space: darts_fewshot, not conv4" in lines(compared("conv4"))


def test_what_is_no_few_shot_result_is_refused_by_name(tmp_path, capsys):
    (tmp_path / "x.json").write_text("{}")
    assert main(["summary", str(tmp_path / "x.json")]) == 1
    assert "x.json" in capsys.readouterr().err


def test_the_command_prints_the_lines_of_each_result(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    paths = [str(FIGURES / f"{method}_omniglot.json") for method in ("maml", "metalstm")]
    assert main(["summary", *paths]) == 0
    assert capsys.readouterr().out.splitlines() == [line for path in paths for line in lines(read_json(path))]
