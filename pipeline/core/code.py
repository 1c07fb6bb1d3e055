"""Digest of the code a stage can reach, so that a real edit reruns exactly the stages it may change.

Comments, docstrings and formatting do not count: the digest is over the syntax trees without docstrings.
"""

import ast
import functools
import hashlib
import pathlib
from collections.abc import Iterable

PACKAGE = pathlib.Path(__file__).resolve().parent.parent


def _without_docstrings(tree: ast.AST) -> ast.AST:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
                node.body = node.body[1:]
    return tree


@functools.cache
def _read(path: pathlib.Path, modified: int) -> tuple[str, tuple[str, ...]]:
    """Digest of one file's syntax tree, and the dotted names it imports from the package."""
    del modified
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            imported.add(node.module)
            imported.update(f"{node.module}.{alias.name}" for alias in node.names)
    own = tuple(sorted(name for name in imported if name.split(".")[0] == PACKAGE.name))
    text = ast.dump(_without_docstrings(tree))
    return hashlib.sha256(text.encode()).hexdigest(), own


def _file_of(dotted: str) -> pathlib.Path | None:
    path = PACKAGE.joinpath(*dotted.split(".")[1:])
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file() and candidate != PACKAGE / "__init__.py":
            return candidate
    return None


def reachable(entries: Iterable[pathlib.Path]) -> list[pathlib.Path]:
    """All files of the package that the given files import, directly or not, themselves included, sorted."""
    todo, seen = [pathlib.Path(entry).resolve() for entry in entries], set()
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        for dotted in _read(path, path.stat().st_mtime_ns)[1]:
            parts = dotted.split(".")
            # a module brings the packages it lies in
            for depth in range(2, len(parts) + 1):
                found = _file_of(".".join(parts[:depth]))
                if found is not None and found not in seen:
                    todo.append(found)
    return sorted(seen)


def code_digest(entries: Iterable[pathlib.Path]) -> str:
    """Hex SHA-256 over the syntax trees of all files reachable from `entries`."""
    whole = hashlib.sha256()
    for path in reachable(entries):
        name = path.relative_to(PACKAGE) if path.is_relative_to(PACKAGE) else path.name
        whole.update(f"{name}\0{_read(path, path.stat().st_mtime_ns)[0]}\n".encode())
    return whole.hexdigest()
