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
    code._read.cache_clear()
    return tuple(code.code_digest([package / "stages" / name]) for name in ("one.py", "two.py"))


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
    code._read.cache_clear()
    files = code.reachable([package / "stages/two.py"], ["idle"])
    assert package / "tools/idle.py" in files and package / "tools/leaf.py" not in files


def test_data_files_of_a_reached_room_count(package):
    one, two = digests(package)
    (package / "tools/table.csv").write_text("a,b\n")
    assert digests(package)[0] != one and digests(package)[1] == two
