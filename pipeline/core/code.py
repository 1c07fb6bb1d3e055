"""Digest of the code a stage can reach, so that a real edit reruns exactly the stages it may change.

Comments, docstrings and formatting do not count: the digest is over the syntax trees without docstrings.
"""

import ast
import functools
import hashlib
import pathlib
from collections.abc import Iterable

from pipeline.core.artifacts import sha256
from pipeline.core.registry import Registry

DATA_SUFFIXES = (".csv", ".txt", ".json", ".j2", ".html", ".css")
PACKAGE = pathlib.Path(__file__).resolve().parent.parent


def _without_docstrings(tree: ast.AST) -> ast.AST:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return tree


@functools.cache
def _read(path: pathlib.Path, modified: int) -> tuple[str, frozenset[str], frozenset[str]]:
    """Digest of one file's syntax tree, the dotted names it imports from the package, and its short text constants."""
    del modified
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    imported, words = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            words.add(node.value)
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            imported.add(node.module)
            imported.update(f"{node.module}.{alias.name}" for alias in node.names)
    own = frozenset(name for name in imported if name.split(".")[0] == PACKAGE.name)
    text = ast.dump(_without_docstrings(tree))
    return hashlib.sha256(text.encode()).hexdigest(), own, frozenset(words)


def _file_of(dotted: str) -> pathlib.Path | None:
    path = PACKAGE.joinpath(*dotted.split(".")[1:])
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file() and candidate != PACKAGE / "__init__.py":
            return candidate
    return None


def _entry_files() -> dict[str, list[pathlib.Path]]:
    """Files of all registry entries by name, over all rooms."""
    files: dict[str, list[pathlib.Path]] = {}
    for room in sorted(path for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()):
        for name, path in Registry(room.name, "entry").files().items():
            files.setdefault(name, []).append(path)
    return files


def reachable(entries: Iterable[pathlib.Path], names: Iterable[str] = ()) -> list[pathlib.Path]:
    """All files of the package that a stage may run, sorted.

    Those are the files of `entries`, what they import, directly or not, and the registry entries that `names` or the
    text constants of a reachable file name.
    """
    by_name = _entry_files()
    todo, seen = [pathlib.Path(entry).resolve() for entry in entries], set()
    for name in names:
        todo += by_name.get(name, [])
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        _, imported, words = _read(path, path.stat().st_mtime_ns)
        for dotted in imported:
            parts = dotted.split(".")
            # a module brings the packages it lies in
            todo += filter(None, (_file_of(".".join(parts[:depth])) for depth in range(2, len(parts) + 1)))
        for word in words:
            todo += by_name.get(word, [])
    return sorted(seen)


def code_digest(entries: Iterable[pathlib.Path], names: Iterable[str] = ()) -> str:
    """Hex SHA-256 over the syntax trees of all files reachable from `entries` and `names`.

    Data files that the rooms of those files ship (class lists, templates) count by their bytes.
    """
    whole = hashlib.sha256()
    files = reachable(entries, names)
    rooms = sorted({path.relative_to(PACKAGE).parts[0] for path in files if len(path.relative_to(PACKAGE).parts) > 1})
    for path in sorted(path for room in rooms for path in (PACKAGE / room).rglob("*") if path.suffix in DATA_SUFFIXES):
        whole.update(f"{path.relative_to(PACKAGE)}\0{sha256(path)}\n".encode())
    for path in files:
        whole.update(f"{path.relative_to(PACKAGE)}\0{_read(path, path.stat().st_mtime_ns)[0]}\n".encode())
    return whole.hexdigest()
