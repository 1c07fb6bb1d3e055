"""Typed configuration: frozen dataclasses of knobs, unknown keys refused, one value or a table by budget.

A knob in params.yaml is either a value or a table whose keys are made of tags joined by `/`:

    lr: {laptop: 0.05, gpu: 0.05, paper: 0.02, paper/tieredimagenet: 0.01}

Tags are the budget, the data set, its kind (`few_shot` or `classification`) and `5cells`, `8cells` (the number of
cells). A row applies when all its tags hold; of the rows that apply the one with most tags counts, and of those with
equally many the one that does not name the kind.
"""

import contextlib
import dataclasses
import functools
import math
import re
import types
import typing
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from pipeline.core.errors import ConfigError, UnknownNameError, shown
from pipeline.core.types import KINDS

CELLS = re.compile(r"\d+cells")
LARGEST = 2**63 - 1
BUDGETS = ("laptop", "gpu", "paper")


def knob(
    default: Any,
    help: str,
    *,
    choices: Collection[Any] | None = None,
    low: float | None = None,
    high: float | None = None,
    may_be_empty: bool = False,
) -> Any:
    """A field of a configuration dataclass.

    Args:
        default: value when params.yaml does not mention the knob; may be a table by budget (see the module).
        help: one sentence; shown by `python -m pipeline knobs`.
        choices: the allowed values.
        low, high: inclusive bounds of a number (or of each number of a tuple).
        may_be_empty: whether a tuple may hold nothing.
    """
    metadata = {"help": help, "choices": choices, "low": low, "high": high, "empty": may_be_empty, "table": None}
    if isinstance(default, Mapping):
        metadata["table"] = dict(default)
        default = default["laptop"]
    return dataclasses.field(default=default, metadata=metadata)


@functools.cache
def knobs_of(cls: type) -> Mapping[str, dataclasses.Field]:
    """The fields of a configuration dataclass by name. Raises ConfigError for one that is no knob."""
    fields = {field.name: field for field in dataclasses.fields(cls)}
    plain = [name for name, field in fields.items() if "help" not in field.metadata]
    if plain:
        raise ConfigError(
            f"Fields of {cls.__module__}.{cls.__qualname__} that are no knobs: {', '.join(plain)}. A knob has a "
            f'default and a meaning: write `{plain[0]}: TYPE = knob(DEFAULT, "what it means")`, with `knob` from '
            "pipeline.core.config."
        )
    return fields


def with_default(cls: type, name: str, default: Any) -> Any:
    """The knob `name` of `cls` with another default, for a subclass; help, choices and bounds stay.

    Raises KeyError when `cls` has no such knob.
    """
    known = knobs_of(cls)[name].metadata
    return knob(
        default,
        known["help"],
        choices=known["choices"],
        low=known["low"],
        high=known["high"],
        may_be_empty=known["empty"],
    )


def is_table(value: Any) -> bool:
    """True for a table by budget: a mapping, at least one of whose keys begins with a budget's name."""
    return isinstance(value, Mapping) and any(str(key).split("/")[0] in BUDGETS for key in value)


def resolve_table(table: Mapping[str, Any], tags: Collection[str], where: str, known_tags: Collection[str]) -> Any:
    """The row of a table by budget that applies under `tags`. Raises ConfigError for unknown tags, ties and gaps.

    Args:
        known_tags: the budgets, data sets and numbers of cells that there are; kinds are always known.
    """
    best: list[tuple[tuple[int, bool], str]] = []
    for key in table:
        parts = str(key).split("/")
        for part in parts:
            if part not in known_tags and part not in KINDS:
                named = [*KINDS, *(tag for tag in known_tags if not CELLS.fullmatch(tag))]
                raise UnknownNameError(f"tag in a row of {where}:", part, [*named, "5cells (any number of cells)"])
        if all(part in tags for part in parts):
            best.append(((len(parts), KINDS.keys().isdisjoint(parts)), key))
    if not best:
        raise ConfigError(f"{where} has no value for {', '.join(sorted(tags))}; it has rows for {', '.join(table)}.")
    most = max(rank for rank, _ in best)
    winners = [key for rank, key in best if rank == most]
    if len(winners) > 1:
        raise ConfigError(f"{where}: the rows {' and '.join(winners)} apply equally. Keep one of them.")
    return table[winners[0]]


def resolve(
    cls: type, section: Mapping[str, Any] | None, tags: Collection[str], known_tags: Collection[str], where: str
) -> dict:
    """All knobs of the dataclass `cls`, params.yaml's `section` over the defaults, tables resolved under `tags`.

    Returns a JSON-able dict that `build(cls, ...)` accepts. Raises ConfigError or UnknownNameError, naming the place;
    ConfigError too where a field of `cls` is no knob.
    """
    section = {} if section is None else section
    if not isinstance(section, Mapping):
        raise ConfigError(f"{where} must be a section of `key: value` lines, not {shown(section)}.")
    fields = knobs_of(cls)
    for key in section:
        if key not in fields:
            raise UnknownNameError(f"key in {where}:", key, fields)
    values = {}
    for name, field in fields.items():
        value = section.get(name, field.metadata["table"] or field.default)
        if is_table(value):
            value = resolve_table(value, tags, f"{where}.{name}", known_tags)
        values[name] = value
    instance = build(cls, values, where)
    return {name: _plain(getattr(instance, name)) for name in fields}


def build(cls: type, values: Mapping[str, Any], where: str | None = None) -> Any:
    """A frozen dataclass of knobs from plain values, each checked against its type, choices and bounds.

    Raises ConfigError naming the key, what was given and what is allowed; UnknownNameError for unknown keys.
    """
    where = where or cls.__name__
    fields = {field.name: field for field in dataclasses.fields(cls)}
    hints = _hints(cls)
    checked = {}
    for key, value in values.items():
        if key not in fields:
            raise UnknownNameError(f"key in {where}:", key, fields)
        checked[key] = _check(value, hints[key], fields[key].metadata, f"{where}.{key}")
    return cls(**checked)


_hints = functools.cache(typing.get_type_hints)


def _check(value: Any, hint: Any, metadata: Mapping[str, Any], place: str) -> Any:
    value = _convert(value, hint, place)
    if isinstance(value, tuple):
        if not value and not metadata.get("empty"):
            raise ConfigError(f"{place} is an empty list; at least one entry is needed.")
        twice = [item for item, count in Counter(value).items() if count > 1]
        if twice:
            raise ConfigError(f"{place} holds {twice[0]!r} more than once.")
    choices, low, high = (metadata.get(name) for name in ("choices", "low", "high"))
    if choices is not None and value is not None and value not in choices:
        raise ConfigError(f"{place} is {shown(value)}; allowed: {', '.join(map(str, choices))}.")
    for number in value if isinstance(value, tuple) else (value,):
        is_number = isinstance(number, (int, float)) and not isinstance(number, bool)
        if is_number and ((low is not None and number < low) or (high is not None and number > high)):
            bounds = [f"{word} {bound}" for word, bound in (("at least", low), ("at most", high)) if bound is not None]
            raise ConfigError(f"{place} is {number}; it must be {' and '.join(bounds)}.")
    return value


def _convert(value: Any, hint: Any, place: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        others = [argument for argument in arguments if argument is not type(None)]
        return _convert(value, others[0], place)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{place} is {shown(value)}; a list is needed, e.g. [1, 5].")
        return tuple(_convert(item, arguments[0], f"{place}[{i}]") for i, item in enumerate(value))
    if hint is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        # YAML reads 1e-3 as text
        with contextlib.suppress(ValueError, OverflowError):
            if math.isfinite(number := float(value)):
                return number
        raise ConfigError(f"{place} is {shown(value)}; a finite number is needed.")
    if hint is int and type(value) is int and abs(value) > LARGEST:
        raise ConfigError(f"{place} is {shown(value)}; whole numbers go up to {LARGEST}.")
    if hint is str and isinstance(value, str) and not is_text(value):
        raise ConfigError(f"{place} is {shown(value)}, which no file can hold as text.")
    if isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise ConfigError(f"{place} is {shown(value)}; a value of type {hint.__name__} is needed.")


def is_text(value: str) -> bool:
    """Whether a text can be written as UTF-8 and named to the operating system."""
    return "\0" not in value and not any("\ud800" <= letter <= "\udfff" for letter in value)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
