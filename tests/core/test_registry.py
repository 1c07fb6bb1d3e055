"""Registries: names from the source text, entries imported one by one."""

import subprocess
import sys

import pytest

import pipeline.core.registry as registry_module
from pipeline import data, learners, methods, proxies, spaces, strategies
from pipeline.core.errors import ConfigError, UnknownNameError
from pipeline.core.registry import Registry

ALL = {
    "spaces": spaces.SPACES,
    "proxies": proxies.PROXIES,
    "learners": learners.LEARNERS,
    "strategies": strategies.STRATEGIES,
    "methods": methods.METHODS,
    "data": data.DATASETS,
}


@pytest.mark.parametrize("room", ALL)
def test_every_listed_entry_can_be_had_and_carries_its_name(room):
    assert ALL[room].names(), f"pipeline/{room} has no entries"
    for name in ALL[room].names():
        assert ALL[room].get(name).name == name


def test_an_unknown_name_is_answered_with_the_nearest_known_one():
    with pytest.raises(UnknownNameError, match="Unknown method 'metank'. Did you mean 'metantk'"):
        methods.get("metank")


@pytest.mark.parametrize("name", ["birds", "flowers"])
def test_a_name_that_resembles_none_gets_no_suggestion(name):
    with pytest.raises(UnknownNameError) as error:
        data.get(name)
    assert "Did you mean" not in str(error.value) and "cifarfs" in str(error.value)


def test_two_files_that_claim_one_name_are_both_told(tmp_path, monkeypatch):
    monkeypatch.setattr(registry_module, "PACKAGE", tmp_path)
    (tmp_path / "room").mkdir()
    for file in ("one.py", "two.py"):
        (tmp_path / "room" / file).write_text('@REG.register("same")\nclass A: pass\n')
    with pytest.raises(ConfigError, match=r"one\.py and .*two\.py"):
        Registry("room", "thing").names()


def test_one_new_file_is_all_it_takes_to_add_an_entry(tmp_path, monkeypatch):
    monkeypatch.setattr(registry_module, "PACKAGE", tmp_path)
    (tmp_path / "room").mkdir()
    reg = Registry("room", "thing")
    assert reg.names() == []
    (tmp_path / "room" / "new.py").write_text('@REG.register("fresh-one")\nclass A: pass\n')
    assert reg.names() == ["fresh-one"] and "fresh-one" in reg


@pytest.mark.parametrize("line", ['@REG.register("fresh")', "@REG.register('fresh')"])
def test_a_name_may_stand_in_quotes_of_either_kind(line, tmp_path, monkeypatch):
    monkeypatch.setattr(registry_module, "PACKAGE", tmp_path)
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "new.py").write_text(f"{line}\nclass A: pass\n")
    assert Registry("room", "thing").names() == ["fresh"]


@pytest.mark.parametrize("statement", ["import pipeline.stages.settings", "import pipeline.stages.driver"])
def test_reading_the_configuration_imports_no_torch(statement):
    names = "[m.get(n) for m in (methods, data) for n in m.names()]"
    code = f"import sys; {statement}; from pipeline import methods, data; {names}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
