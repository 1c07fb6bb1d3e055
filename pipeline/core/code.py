"""Digest of the code a stage can reach, so that a real edit reruns exactly the stages it may change.

Comments, docstrings and formatting do not count: the digest is over the syntax trees without docstrings.
"""

import ast
import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Iterable

from pipeline.core.artifacts import sha256, write_text
from pipeline.core.registry import Registry

DATA_SUFFIXES = (".csv", ".txt", ".json", ".j2", ".html", ".css")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
PACKAGE = pathlib.Path(__file__).resolve().parent.parent


def analyse(source: bytes) -> tuple[str, list[str], list[str]]:
    """Digest of a module's syntax tree, the dotted names it imports from the package, and its one-word texts."""
    tree = ast.parse(source)
    imported, words = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            if isinstance(node.value, str) and node.value.isidentifier():
                words.add(node.value)
        elif isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module and node.level == 0:
                imported.add(node.module)
                imported.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    own = sorted(name for name in imported if name.split(".")[0] == PACKAGE.name)
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), own, sorted(words)


class CodeIndex:
    """What each file of the package imports, names and contains.

    Args:
        cache: file that keeps the analyses between runs, by the digest of the source text; None keeps nothing.
    """

    def __init__(self, cache: str | os.PathLike | None = None):
        self._cache = None if cache is None else pathlib.Path(cache)
        self._known: dict[str, list] = {}
        if self._cache is not None and self._cache.exists():
            try:
                self._known = json.loads(self._cache.read_text(encoding="utf-8"))
            except json.JSONDecodeError:
                self._known = {}
        self._used: dict[str, list] = {}
        self._analysed = functools.cache(self._analyse)
        self._data_digest = functools.cache(self._digest_of_data)

    def _analyse(self, path: pathlib.Path) -> tuple[str, tuple[pathlib.Path, ...]]:
        """Digest of one file, and the files that it brings with it."""
        source = path.read_bytes()
        key = hashlib.sha256(source).hexdigest()
        analysis = self._known.get(key) or list(analyse(source))
        self._used[key] = analysis
        digest, imported, words = analysis
        brought = {self._modules.get(dotted) for name in imported for dotted in _packages_and_self(name)} - {None}
        for word in words:
            brought.update(self._entries.get(word, ()))
        return digest, tuple(brought)

    @functools.cached_property
    def _entries(self) -> dict[str, list[pathlib.Path]]:
        """Files of all registry entries by name, over all rooms."""
        files: dict[str, list[pathlib.Path]] = {}
        for room in sorted(path for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()):
            for name, path in Registry(room.name, "entry").files().items():
                files.setdefault(name, []).append(path)
        return files

    @functools.cached_property
    def _modules(self) -> dict[str, pathlib.Path]:
        """Files of the package by dotted name."""
        modules = {}
        for path in PACKAGE.rglob("*.py"):
            parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
            modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
        modules.pop(PACKAGE.name, None)
        return modules

    def _digest_of_data(self, room: str) -> str:
        files = sorted(path for path in (PACKAGE / room).rglob("*") if path.suffix in DATA_SUFFIXES)
        return "".join(f"{path.relative_to(PACKAGE)}\0{sha256(path)}\n" for path in files)

    def reachable(self, entries: Iterable[pathlib.Path], names: Iterable[str] = ()) -> list[pathlib.Path]:
        """All files of the package that a stage may run, sorted.

        Those are the files of `entries`, what they import, directly or not, and the registry entries that `names` or
        the one-word texts of a reachable file name.
        """
        todo, seen = [pathlib.Path(entry).resolve() for entry in entries], set()
        for name in names:
            todo += self._entries.get(name, [])
        while todo:
            path = todo.pop()
            if path not in seen:
                seen.add(path)
                todo += self._analysed(path)[1]
        return sorted(seen)

    def digest(self, entries: Iterable[pathlib.Path], names: Iterable[str] = ()) -> str:
        """Hex SHA-256 over the syntax trees of all files reachable from `entries` and `names`.

        Data files that the rooms of those files ship (class lists, templates) count by their bytes.
        """
        files = self.reachable(entries, names)
        whole = hashlib.sha256()
        for path in files:
            whole.update(f"{path.relative_to(PACKAGE)}\0{self._analysed(path)[0]}\n".encode())
        rooms = {path.relative_to(PACKAGE).parts[0] for path in files if len(path.relative_to(PACKAGE).parts) > 1}
        for room in sorted(rooms):
            whole.update(self._data_digest(room).encode())
        return whole.hexdigest()

    def save(self) -> None:
        """Keep the analyses used by this index for the next run."""
        if self._cache is not None and self._used.keys() != self._known.keys():
            write_text(self._cache, json.dumps(self._used))


def _packages_and_self(dotted: str) -> list[str]:
    """pipeline.a.b -> [pipeline.a, pipeline.a.b]: a module brings the packages it lies in."""
    parts = dotted.split(".")
    return [".".join(parts[:depth]) for depth in range(2, len(parts) + 1)]
