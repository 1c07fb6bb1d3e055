"""Registries: one file per entry, found by name without importing the others.

A room's entry is a class or function under `@REGISTRY.register("name")` in a module of that room. The names are read
from the source text, so listing them imports nothing; only the module of the entry asked for is imported.
"""

import importlib
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any

from pipeline.core.errors import ConfigError, UnknownNameError

PACKAGE = pathlib.Path(__file__).resolve().parent.parent


class Registry:
    """The named entries of one room.

    Args:
        room: folder below `pipeline/` whose modules hold the entries, e.g. "proxies".
        kind: the word for one entry in messages, e.g. "proxy".
    """

    def __init__(self, room: str, kind: str):
        self.room, self.kind = room, kind
        self._entries: dict[str, Any] = {}
        self._pattern = re.compile(r"""^@[\w.]+\.register\((["'])([\w\-]+)\1\)""", re.MULTILINE)

    def register(self, name: str) -> Callable[[Any], Any]:
        """Decorator that files a class or function under `name`. Raises ConfigError when the name is taken."""

        def file_under(entry):
            taken = self._entries.get(name)
            if taken is not None and taken.__module__ != entry.__module__:
                raise ConfigError(
                    f"Two {self.kind} entries are called '{name}': {taken.__module__} and {entry.__module__}. "
                    "Rename one of them."
                )
            entry.name = name
            self._entries[name] = entry
            return entry

        return file_under

    def files(self) -> dict[str, pathlib.Path]:
        """Where each entry is defined: name -> source file. Raises ConfigError when two files claim one name."""
        found: dict[str, pathlib.Path] = {}
        for path in sorted((PACKAGE / self.room).rglob("*.py")):
            for _, name in self._pattern.findall(path.read_text(encoding="utf-8")):
                if name in found:
                    raise ConfigError(
                        f"Two {self.kind} entries are called '{name}': {found[name]} and {path}. Rename one of them."
                    )
                found[name] = path
        return found

    def names(self) -> list[str]:
        """Sorted names of all entries; imports none of them."""
        return sorted(self.files())

    def get(self, name: str) -> Any:
        """The entry called `name`. Raises UnknownNameError, with the nearest known name, when there is none."""
        if name not in self._entries:
            files = self.files()
            if name not in files:
                raise UnknownNameError(self.kind, name, files)
            module = files[name].relative_to(PACKAGE.parent).with_suffix("")
            importlib.import_module(".".join(module.parts))
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self.files()
