"""The digest of the code a stage can reach."""

import pathlib

import pytest

import pipeline.core.code as code
import pipeline.core.registry as registry

LEAF = '''"""A leaf."""
from pipeline.tools import REG


@REG.register("leaf")
def leaf():
    """Say one."""
    return 1
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    root = tmp_path / "pipeline"
    files = {
        "__init__.py": "",
        "stages/__init__.py": "",
        "stages/one.py": "from pipeline.tools import get\n\ndef run():\n    return get('leaf')\n",
        "stages/two.py": "import pipeline.other\n",
        "tools/__init__.py": "from pipeline.core.registry import Registry\nREG = Registry('tools', 'tool')\n",
        "tools/leaf.py": LEAF,
        "tools/idle.py": LEAF.replace('"leaf"', '"idle"'),
        "other.py": "x = 1\n",
        "core/__init__.py": "",
        "core/registry.py": "class Registry: pass\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    monkeypatch.setattr(code, "PACKAGE", root)
    monkeypatch.setattr(registry, "PACKAGE", root)
    return root


def digests(package: pathlib.Path) -> tuple[str, str]:
    index = code.CodeIndex()
    return tuple(index.digest([package / "stages" / name]) for name in ("one.py", "two.py"))


def test_an_edit_counts_only_for_stages_that_reach_it(package):
    one, two = digests(package)
    (package / "tools/leaf.py").write_text(LEAF.replace("return 1", "return 2"))
    assert digests(package)[0] != one and digests(package)[1] == two
    one, two = digests(package)
    (package / "other.py").write_text("x = 2\n")
    assert digests(package)[0] == one and digests(package)[1] != two


def test_comments_docstrings_and_formatting_do_not_count(package):
    before = digests(package)
    text = LEAF.replace("Say one.", "Say one, loudly.").replace("return 1", "return (1)  # one")
    (package / "tools/leaf.py").write_text(text)
    assert digests(package) == before


def test_an_entry_that_nobody_names_does_not_count(package):
    before = digests(package)
    (package / "tools/idle.py").unlink()
    assert digests(package) == before


def test_an_entry_named_in_the_parameters_counts(package):
    files = code.CodeIndex().reachable([package / "stages/two.py"], ["idle"])
    assert package / "tools/idle.py" in files and package / "tools/leaf.py" not in files


def test_data_files_of_a_reached_room_count(package):
    one, two = digests(package)
    (package / "tools/table.csv").write_text("a,b\n")
    assert digests(package)[0] != one and digests(package)[1] == two


def test_the_cache_changes_nothing_but_the_time(package, tmp_path):
    plain = digests(package)
    for _ in range(2):
        index = code.CodeIndex(tmp_path / "cache.json")
        assert tuple(index.digest([package / "stages" / name]) for name in ("one.py", "two.py")) == plain
        index.save()
    (package / "other.py").write_text("x = 3\n")
    index = code.CodeIndex(tmp_path / "cache.json")
    assert index.digest([package / "stages/two.py"]) == digests(package)[1] != plain[1]
