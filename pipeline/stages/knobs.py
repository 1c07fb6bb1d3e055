"""Print every knob with its default and meaning, in the form of params.yaml."""

import json
import textwrap
from collections.abc import Iterator

from pipeline.core.config import knobs_of
from pipeline.core.errors import UnknownNameError
from pipeline.recipes import oracles
from pipeline.stages.settings import METHOD_SECTIONS, SECTIONS, with_section


def written(value) -> str:
    """A value as params.yaml would have it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {written(inner)}" for key, inner in value.items()) + "}"
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)


def sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def lines_of(cls: type, indent: str) -> Iterator[str]:
    for field in knobs_of(cls).values():
        choices = field.metadata["choices"]
        meaning = sentence(field.metadata["help"]) + (f" One of {', '.join(map(str, choices))}." if choices else "")
        for line in textwrap.wrap(meaning, 118 - len(indent)):
            yield f"{indent}# {line}"
        yield f"{indent}{field.name}: {written(field.metadata['table'] or field.default)}"


def add_arguments(parser) -> None:
    what = "only this section, or only search.METHOD, meta_learn.METHOD, supernet.METHOD or oracle.NAME"
    parser.add_argument("section", nargs="?", help=what)


def run(arguments) -> None:
    wanted = arguments.section
    nested = {
        **{section: with_section(section) for section in METHOD_SECTIONS},
        "oracle": {name: oracles.get(name) for name in oracles.names()},
    }
    known = [*SECTIONS, *nested, *(f"{section}.{name}" for section, of in nested.items() for name in of)]
    if wanted is not None and wanted not in known:
        raise UnknownNameError("section", wanted, known)
    for name, cls in SECTIONS.items():
        if wanted in (None, name):
            print(f"{name}:\n" + "\n".join(lines_of(cls, "  ")) + "\n")
    for section, entries in nested.items():
        if wanted is None:
            print(f"{section}:")
        for name, cls in entries.items():
            if wanted in (None, section, f"{section}.{name}"):
                fields = "\n".join(lines_of(cls, "    "))
                print(f"  {name}:" + ("\n" + fields if fields else " {}") + "\n")
