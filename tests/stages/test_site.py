"""The table of what jobs ask a cluster for, and the SLURM profile that hands it to Snakemake."""

import copy
import re

import pytest
import yaml

from pipeline.core.errors import ConfigError, UnknownNameError
from pipeline.stages.site import SITE, SITE_VARIABLE, WORKFLOW, Group, parsed, site, submitted_rules

RULES = ("look", "learn")
TABLE = {
    "groups": {
        "small": {"partition": "short", "mem_mb": 100},
        "large": {"partition": "long-2", "gpus": 2, "gpu_model": "a100", "cpus": 8, "account": "us", "minutes": 30},
    },
    "rules": {"small": ["look"], "large": ["learn"]},
}


@pytest.fixture
def no_other_table(monkeypatch):
    monkeypatch.delenv(SITE_VARIABLE, raising=False)
    # where Snakemake is started
    monkeypatch.chdir(WORKFLOW.parent)


def read_profile() -> dict:
    """The SLURM profile as Snakemake reads it."""
    from snakemake.profiles import ProfileConfigFileParser

    with open(WORKFLOW / "profiles/slurm/config.yaml", encoding="utf-8") as stream:
        return ProfileConfigFileParser().parse(stream)


def granted(expression, attempt: int) -> int:
    return eval(str(expression), {"attempt": attempt, "min": min})


def test_the_projects_own_table_covers_every_rule_that_is_submitted(no_other_table):
    assert set(site().group_of) == set(submitted_rules())
    assert {"search", "supernet", "meta_learn", "adapt", "database", "feature_net"} <= set(submitted_rules())


def test_rules_that_only_read_small_files_run_where_snakemake_runs():
    local = {"all", "compare", "contrast", "look_up", "report", "report_lookups", "fetch"}
    assert local.isdisjoint(submitted_rules())


def test_rules_that_may_use_an_accelerator_belong_to_groups_with_one(no_other_table):
    ours = site()
    for path in (WORKFLOW / "rules").glob("*.smk"):
        for name, text in re.findall(r"^rule (\w+):\n((?:    .*\n|\n)+)", path.read_text(), re.M):
            if name in ours.group_of:
                assert ("gpu=" in text) == bool(ours.groups[ours.group_of[name]].gpus), name


def test_the_test_episodes_are_drawn_before_any_other_job_that_is_ready():
    rules = [rule for path in (WORKFLOW / "rules").glob("*.smk")
             for rule in re.findall(r"^rule (\w+):\n((?:    .*\n|\n)+)", path.read_text("utf-8"), re.M)]  # fmt: skip
    assert [name for name, text in rules if "    priority: 1\n" in text] == ["episodes"]
    assert sum("priority:" in text for _, text in rules) == 1


def test_snakemake_understands_what_the_profile_makes_of_the_table(no_other_table):
    from snakemake.cli import parse_set_resources

    profile, ours = read_profile(), site()
    parsed_by_snakemake = parse_set_resources(profile["set-resources"])
    assert set(parsed_by_snakemake) == set(submitted_rules())
    for rule, resources in parsed_by_snakemake.items():
        group = ours.groups[ours.group_of[rule]]
        assert resources["gpu"].value == group.gpus
        # text and amounts that depend on the try come as expressions
        raw = {name: resources[name].raw for name in ("slurm_partition", "mem_mb", "runtime")}
        assert eval(raw["slurm_partition"]) == group.partition
        assert granted(raw["mem_mb"], 1) == group.mem_mb and granted(raw["runtime"], 1) == group.minutes
        assert f"{rule}={group.cpus}" in profile["set-threads"]


@pytest.mark.parametrize("character", [*";&|`$<>", "\n"])
def test_further_arguments_that_the_shell_would_read_otherwise_are_refused(character):
    table = copy.deepcopy(TABLE)
    table["groups"]["large"]["extra"] = f"--exclusive {character} --nice=1"
    with pytest.raises(ConfigError, match=r"groups\.large\.extra holds .*options and their values only"):
        parsed(table, RULES)


@pytest.mark.parametrize("extra", ["script.sh", "--nice 5", "--comment='x"])
def test_further_arguments_that_are_no_options_are_refused(extra):
    table = copy.deepcopy(TABLE)
    table["groups"]["large"]["extra"] = extra
    with pytest.raises(ConfigError, match=r"groups\.large\.extra is "):
        parsed(table, RULES)


@pytest.mark.parametrize("content", [b"a: \xe9", b"a: 2001-99-99", b"[" * 20_000, b"a: [", b"a: " + b"9" * 5000])
def test_a_table_that_cannot_be_read_is_named(content, tmp_path, monkeypatch):
    path = tmp_path / "site.yaml"
    path.write_bytes(content)
    monkeypatch.setenv(SITE_VARIABLE, str(path))
    with pytest.raises(ConfigError, match="The cluster's table .*site.yaml .*FEWSHOT_NAS_SITE names it"):
        site()


def test_further_arguments_of_sbatch_reach_it_as_they_are():
    table = copy.deepcopy(TABLE)
    table["groups"]["large"]["extra"] = "--exclusive --mail-type=END,FAIL --comment='a (small) try'"
    resources = parsed(table, RULES).set_resources()["learn"]
    assert eval(resources["slurm_extra"]) == table["groups"]["large"]["extra"]


def test_the_profile_retries_requeues_and_repeats_the_default_profiles_lines(no_other_table):
    profile = read_profile()
    assert int(profile["retries"]) >= 1 and profile["slurm-requeue"] == "True"
    default = yaml.safe_load((WORKFLOW.parent / "profiles/default/config.yaml").read_text())
    for name in ("max-checksum-file-size", "rerun-incomplete"):
        assert profile[name] == str(default[name])


def test_each_retry_asks_for_twice_as_much_up_to_the_limit():
    resources = Group(mem_mb=4000, max_mem_mb=10000, minutes=60).resources()
    assert [granted(resources["mem_mb"], attempt) for attempt in (1, 2, 3)] == [4000, 8000, 10000]
    assert [granted(resources["runtime"], attempt) for attempt in (1, 2, 3)] == [60, 120, 240]


def test_a_group_says_only_what_it_knows():
    resources = parsed(TABLE, RULES).set_resources()
    assert set(resources["look"]) == {"gpu", "cpus_per_task", "mem_mb", "runtime", "slurm_partition"}
    assert resources["look"]["gpu"] == 0
    learn = resources["learn"]
    assert (learn["gpu"], learn["gpu_model"], learn["slurm_account"]) == (2, "'a100'", "'us'")
    assert learn["slurm_partition"] == "'long-2'" and learn["cpus_per_task"] == 8


def test_jobs_of_seconds_are_submitted_together(no_other_table):
    profile, ours = read_profile(), site()
    together = {rule: ours.groups[group].together for rule, group in ours.group_of.items()}
    assert profile["groups"] == [f"{rule}={rule}" for rule, number in together.items() if number > 1] != []
    assert profile["group-components"] == [f"{rule}={number}" for rule, number in together.items() if number > 1]


def test_a_table_without_such_jobs_leaves_snakemakes_groups_alone(no_other_table, monkeypatch, tmp_path):
    table = yaml.safe_load(SITE.read_text())
    for group in table["groups"].values():
        group.pop("together", None)
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(table))
    monkeypatch.setenv(SITE_VARIABLE, str(tmp_path / "site.yaml"))
    assert {"groups", "group-components"}.isdisjoint(read_profile())


def changed(**values) -> dict:
    table = copy.deepcopy(TABLE)
    for place, value in values.items():
        section, name = place.split("__")
        table[section][name] = value
    return table


@pytest.mark.parametrize(
    "table, error, told",
    [
        (None, ConfigError, "must be a section"),
        ({**TABLE, "rule": {}}, UnknownNameError, "Did you mean 'rules'"),
        ({"groups": TABLE["groups"]}, ConfigError, "rules must be a section"),
        (changed(groups__small={"memory": 1}), UnknownNameError, r"key in site.yaml: groups.small: 'memory'"),
        (changed(groups__small={"mem_mb": "4G"}), ConfigError, r"groups.small.mem_mb"),
        (changed(groups__small={"minutes": 0}), ConfigError, r"groups.small.minutes"),
        (changed(groups__small={"mem_mb": 9, "max_mem_mb": 8}), ConfigError, "is 8, less than mem_mb: 9"),
        (changed(groups__small={"gpu_model": "a100"}), ConfigError, "asks? for no gpus"),
        (changed(rules__smal=["look"]), UnknownNameError, "Did you mean 'small'"),
        (changed(rules__small=["loook"]), UnknownNameError, "Did you mean 'look'"),
        (changed(rules__small="look"), ConfigError, "must be a list of rules"),
        (changed(rules__large=["look", "learn"]), ConfigError, "rule look is in the groups small and large"),
        (changed(rules__large=[]), ConfigError, "no group says what these rules ask for: learn"),
    ],
)
def test_a_wrong_table_is_told_with_the_place(table, error, told):
    with pytest.raises(error, match=told):
        parsed(table, RULES)


def test_the_environment_only_says_where_the_table_is(tmp_path, monkeypatch):
    table = yaml.safe_load(SITE.read_text())
    for group in table["groups"].values():
        group["partition"] = "elsewhere"
    path = tmp_path / "ours.yaml"
    path.write_text(yaml.safe_dump(table))
    monkeypatch.setenv(SITE_VARIABLE, str(path))
    assert {asked["slurm_partition"] for asked in site().set_resources().values()} == {"'elsewhere'"}
    monkeypatch.setenv(SITE_VARIABLE, str(tmp_path / "none.yaml"))
    with pytest.raises(ConfigError, match=r"none.yaml \(FEWSHOT_NAS_SITE names it\) cannot be read"):
        site()
