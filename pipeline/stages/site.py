"""What jobs ask a SLURM cluster for, from the table that the cluster's users edit.

The table (workflow/profiles/slurm/site.yaml) says under `groups` what one job of each group asks for, and under `rules`
which rules belong to which group. The SLURM profile hands it to Snakemake. It says where and with how much a job
computes, never what.
"""

import os
import pathlib
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.core.config import build, knob
from pipeline.core.errors import ConfigError, UnknownNameError
from pipeline.core.yaml_text import parse_yaml

WORKFLOW = pathlib.Path(__file__).resolve().parents[2] / "workflow"
SITE = WORKFLOW / "profiles/slurm/site.yaml"
SITE_VARIABLE = "FEWSHOT_NAS_SITE"
IN_SHELL = re.compile(r"[;&|`$<>\n\r]")
"""Characters that mean something to the shell; Snakemake puts `extra` into sbatch's command line as it is."""


@dataclass(frozen=True)
class Group:
    """What one job of a group asks for; each retry asks for twice the memory and time of the try before."""

    partition: str | None = knob(None, "SLURM partition; null: the cluster's default")
    gpus: int = knob(0, "accelerators of a job", low=0)
    gpu_model: str | None = knob(None, "their type, where the cluster has several (gres.conf)")
    cpus: int = knob(1, "processor cores of a job", low=1)
    mem_mb: int = knob(4000, "memory of a job in MB", low=1)
    max_mem_mb: int | None = knob(None, "most that a retry may ask for; null: no limit", low=1)
    minutes: int = knob(60, "time limit of a job", low=1)
    max_minutes: int | None = knob(None, "most that a retry may ask for; null: no limit", low=1)
    account: str | None = knob(None, "account that is charged; null where the cluster keeps none")
    qos: str | None = knob(None, "quality of service")
    constraint: str | None = knob(None, "features of the nodes")
    extra: str | None = knob(None, "further arguments of sbatch")
    together: int = knob(1, "jobs of one rule that are submitted as one, which asks for the sum", low=1)

    def resources(self) -> dict[str, int | str]:
        """Snakemake's resources of a job; text in quotes, and what grows with the tries as expressions."""
        texts = {
            "slurm_partition": self.partition,
            "gpu_model": self.gpu_model,
            "slurm_account": self.account,
            "qos": self.qos,
            "constraint": self.constraint,
            "slurm_extra": self.extra,
        }
        return {
            "gpu": self.gpus,
            "cpus_per_task": self.cpus,
            "mem_mb": growing(self.mem_mb, self.max_mem_mb),
            "runtime": growing(self.minutes, self.max_minutes),
            **{name: repr(text) for name, text in texts.items() if text is not None},
        }


def growing(first: int, most: int | None) -> str:
    """The expression of an amount that doubles with each try, up to `most`."""
    grown = f"{first} * 2 ** (attempt - 1)"
    return f"min({grown}, {most})" if most else grown


@dataclass(frozen=True)
class Site:
    """A cluster's table.

    Attributes:
        groups: name -> what one job of the group asks for.
        group_of: rule -> name of its group, for all rules whose jobs are submitted.
    """

    groups: dict[str, Group]
    group_of: dict[str, str]

    def set_resources(self) -> dict[str, dict[str, int | str]]:
        """What Snakemake's `set-resources` says: rule -> resources of its jobs."""
        return {rule: self.groups[group].resources() for rule, group in self.group_of.items()}

    def set_threads(self) -> dict[str, int]:
        """What Snakemake's `set-threads` says: rule -> processor cores of its jobs."""
        return {rule: self.groups[group].cpus for rule, group in self.group_of.items()}

    def grouped_rules(self) -> dict[str, str]:
        """What Snakemake's `groups` says: rule -> name of the group of jobs that its jobs are submitted in."""
        return {rule: rule for rule in self.group_components()}

    def group_components(self) -> dict[str, int]:
        """What Snakemake's `group-components` says: name of such a group -> how many jobs are submitted as one."""
        together = {rule: self.groups[group].together for rule, group in self.group_of.items()}
        return {rule: number for rule, number in together.items() if number > 1}


def submitted_rules(workflow: pathlib.Path = WORKFLOW) -> list[str]:
    """Names of the rules whose jobs go to the cluster: all but `localrules` of the Snakefile, in alphabetical order."""
    (local,) = re.findall(r"^localrules:\n((?:    \w+,\n)+)", (workflow / "Snakefile").read_text("utf-8"), re.M)
    texts = [path.read_text("utf-8") for path in (workflow / "rules").glob("*.smk")]
    rules = {rule for text in texts for rule in re.findall(r"^(?:rule|checkpoint) (\w+):", text, re.M)}
    return sorted(rules - set(re.findall(r"\w+", local)))


def parsed(table: Any, rules: Iterable[str], where: str = "site.yaml") -> Site:
    """A site from the contents of its table.

    Args:
        rules: names of all rules whose jobs are submitted; each must belong to one group.

    Raises ConfigError or UnknownNameError, naming the place, what was given and what is allowed.
    """
    rules, sections = list(rules), ("groups", "rules")
    table = _section(table, where)
    for key in table:
        if key not in sections:
            raise UnknownNameError(f"key in {where}:", key, sections)
    groups = {}
    for name, values in _section(table.get("groups"), f"{where}: groups").items():
        place = f"{where}: groups.{name}"
        group = groups[name] = build(Group, _section(values, place), place)
        for most, first in (("max_mem_mb", "mem_mb"), ("max_minutes", "minutes")):
            if (limit := getattr(group, most)) is not None and limit < getattr(group, first):
                raise ConfigError(f"{place}.{most} is {limit}, less than {first}: {getattr(group, first)}.")
        if group.extra and (found := IN_SHELL.search(group.extra)):
            raise ConfigError(
                f"{place}.extra holds {found[0]!r}, which the shell that calls sbatch would not leave as it is. Give "
                "options and their values only, none of them with ; & | ` $ < > or an end of line."
            )
        if not all(word.startswith("-") for word in _words(group.extra, place)):
            raise ConfigError(
                f"{place}.extra is {group.extra!r}. Give options of sbatch only, each with its value behind `=`, as in "
                "--nice=5."
            )
        if group.gpu_model and not group.gpus:
            raise ConfigError(f"{place} names a gpu_model, but its jobs ask for no gpus. Set gpus, or drop gpu_model.")
    group_of: dict[str, str] = {}
    for name, members in _section(table.get("rules"), f"{where}: rules").items():
        if name not in groups:
            raise UnknownNameError(f"group in {where}: rules:", name, groups)
        if not isinstance(members, list):
            raise ConfigError(f"{where}: rules.{name} must be a list of rules, not {members!r}.")
        for rule in members:
            if rule not in rules:
                hint = "Rules named in localrules of the Snakefile run where Snakemake runs and belong to no group."
                raise UnknownNameError(f"rule in {where}: rules.{name}:", rule, rules, hint)
            if rule in group_of:
                raise ConfigError(f"{where}: rule {rule} is in the groups {group_of[rule]} and {name}. Keep one.")
            group_of[rule] = name
    if missing := [rule for rule in rules if rule not in group_of]:
        raise ConfigError(
            f"{where}: no group says what these rules ask for: {', '.join(missing)}. "
            f"Add them under rules, to one of: {', '.join(groups)}."
        )
    return Site(groups, group_of)


def _words(extra: str | None, place: str) -> list[str]:
    """Raises ConfigError."""
    try:
        return shlex.split(extra or "")
    except ValueError as error:
        raise ConfigError(f"{place}.extra is {extra!r}, which is no list of options: {error}.") from None


def _section(value: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not value:
        raise ConfigError(f"{place} must be a section of `key: value` lines, not {value!r}.")
    return value


def site() -> Site:
    """The table that FEWSHOT_NAS_SITE names, or the project's own. Raises ConfigError."""
    named = f" ({SITE_VARIABLE} names it)" if os.environ.get(SITE_VARIABLE) else ""
    path = pathlib.Path(os.environ.get(SITE_VARIABLE) or SITE)
    return parsed(read_yaml(path, "The cluster's table", named), submitted_rules(), str(path))


def read_yaml(path: pathlib.Path, what: str, more: str = "") -> Any:
    """Contents of a file that people edit. Raises ConfigError, calling it `what`, with `more` behind its name."""
    try:
        return parse_yaml(path.read_bytes(), f"{what} {path}{more}")
    except OSError as error:
        raise ConfigError(f"{what} {path}{more} cannot be read: {error.strerror}.") from None
