"""What `summary` tells of a finished result."""

import pathlib

import pytest

from pipeline.__main__ import main
from pipeline.core.artifacts import read_json
from pipeline.stages import summary
from tests.made_lookups import looked_up
from tests.made_results import CONTROL, FOUND, compared, write_inputs

FIGURES = pathlib.Path(__file__).resolve().parents[2] / "benchmarks/figures"
ADAPTED = FIGURES / "adapted_laptop"


def lines(result) -> list[str]:
    return summary.lines(result, "the result")


def test_a_control_is_called_by_its_name_and_architectures_of_tasks_by_how_many_they_are_for():
    told = lines(read_json(ADAPTED / "tnas_omniglot.json"))
    assert "  1-shot accuracy 67.0 ± 1.6 %   randomtnas 66.1 ± 1.4 %   untrained 47.0 ± 1.5 %" in told
    assert any(line.startswith("  architecture of 116 tasks with k_shot 5: Genotype(") for line in told)


def test_a_network_for_all_tasks_is_told_with_its_seed():
    told = lines(read_json(ADAPTED / "maml_omniglot.json"))
    assert "  architecture 0: conv4_flat" in told
    assert all(line.endswith(" % (300 episodes)") for line in told if "untrained" in line)
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


@pytest.mark.parametrize("content", ["{}", "[]", "1.5", '{"kind": "dream"}', '{"kind": []}'])
def test_what_is_no_result_is_refused_by_name(tmp_path, capsys, content):
    (tmp_path / "x.json").write_text(content)
    assert main(["summary", str(tmp_path / "x.json")]) == 1
    assert "x.json" in capsys.readouterr().err


def test_a_single_episode_is_told_without_an_interval(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = {1: {0: [0.5, 0.5]}}
    write_inputs(tmp_path, "random", one)
    write_inputs(tmp_path, "metantk", one)
    result = compared("metantk")
    result["accuracy"]["1"]["ci95"], result["protocol"]["n_episodes"] = None, 1
    told = lines(result)
    assert "1 stored episode of" in told[0] and "1-shot accuracy 50.0 %   random" in told[1]


def test_a_looked_up_result_is_told_with_rank_regret_and_its_control():
    told = lines(read_json(FIGURES / "metad2a_laptop/metad2a_cifar10.json"))
    assert told[:4] == [
        "metad2a on cifar10 (budget laptop), looked up among 15,625 architectures of nas_bench_201: test accuracy "
        "after 200 epochs",
        "  found 93.03 %, rank 1,778, regret 1.35 points (means over 2 seeds)",
        "  random search, equal budget 93.25 %, rank 854, regret 1.12 points (means over 2 seeds)",
        "  the best 94.37 %, the mean of all 87.06 %",
    ]
    assert told[-2] == "  table: a copy by others, not the benchmark's own file"
    assert told[-1].startswith("  searched on: a mirror's variant of the data")


def test_a_looked_up_result_without_a_control_has_no_line_of_one():
    told = summary.looked_up(looked_up(control=None, found={0: 0.93}))
    assert "regret 1.37 points" in told[1] and "seeds" not in told[1] and "random search" not in " ".join(told)


def test_a_trained_classifier_is_told_with_its_test_accuracies():
    told = lines(read_json(FIGURES / "metad2a_laptop/metad2a_pets.json"))
    assert told[:3] == [
        "metad2a on pets (budget laptop), 37 classes, 221 test images",
        "  top-1 accuracy 14.0 ± 4.6 %   random architectures 13.3 ± 4.5 %   untrained 2.7 ± 2.3 %",
        "  top-5 accuracy 38.0 ± 6.3 %   random architectures 36.2 ± 6.3 %   untrained 13.6 ± 4.5 %",
    ]
    assert any(line.startswith("  search 1 s, training 1 min 20 s, ") for line in told)


def test_a_report_card_is_told_proxy_by_proxy():
    told = lines(read_json(FIGURES / "proxies_nas_bench_201_cifar10.json"))
    assert told[0].startswith("proxies on cifar10 (budget laptop), 300 of 15,625 architectures of nas_bench_201")
    assert "  n_params: 0.606 (0.553 to 0.652)" in told


def test_the_command_prints_the_lines_of_each_result(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    paths = [str(ADAPTED / f"{method}_omniglot.json") for method in ("maml", "metalstm")]
    assert main(["summary", *paths]) == 0
    assert capsys.readouterr().out.splitlines() == [line for path in paths for line in lines(read_json(path))]
