"""params.yaml as a whole: what is frozen for whom."""

import copy
import dataclasses
import os

import pytest
import yaml

from pipeline import data, methods
from pipeline.core.code import PACKAGE, CodeIndex
from pipeline.core.config import BUDGETS
from pipeline.core.errors import ConfigError, UnknownNameError
from pipeline.recipes import oracles
from pipeline.stages.driver import check_targets, with_overrides
from pipeline.stages.freeze import freeze, remember
from pipeline.stages.settings import (
    FOLDER_FAMILY,
    METHOD_SECTIONS,
    PARAMS,
    SECTIONS,
    Freezer,
    adapted,
    control_of,
    folders,
    grid,
    has_supernet,
    is_adapted,
    learned,
    load,
    machine_settings,
    references_of,
    with_section,
)


@pytest.fixture(scope="module")
def config():
    return load(PARAMS)


PLAIN_STAGES = ("search", "train", "evaluate", "compare")
IMAGENETS = ("miniimagenet", "tieredimagenet")


def changed(config: dict, *path_and_value) -> dict:
    config = copy.deepcopy(config)
    *path, last, value = path_and_value
    into = config
    for key in path:
        into = into.setdefault(key, {})
    into[last] = value
    return config


def difference(before: dict, after: dict) -> set[str]:
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def test_params_yaml_shows_every_knob_of_every_section_it_has(config):
    for name, cls in SECTIONS.items():
        assert set(config[name]) == {field.name for field in dataclasses.fields(cls)}, name
    for name, section in config["search"].items():
        knobs = {field.name for field in dataclasses.fields(methods.get(name).Config)}
        assert set(section or {}) == knobs, f"search.{name}"
    for section in METHOD_SECTIONS:
        assert set(config[section]) <= set(with_section(section))
    for section in ("supernet", "meta_learn"):
        for name, cls in with_section(section).items():
            assert set(config[section][name]) == {field.name for field in dataclasses.fields(cls)}, f"{section}.{name}"
    for name in oracles.names():
        knobs = {field.name for field in dataclasses.fields(oracles.get(name))}
        assert set(config["oracle"][name]) == knobs, f"oracle.{name}"


def test_every_knob_has_a_sentence_and_a_value_for_every_budget():
    of_methods = [cls for section in METHOD_SECTIONS for cls in with_section(section).values()]
    nested = [*of_methods, *map(oracles.get, oracles.names())]
    for cls in [*SECTIONS.values(), *nested]:
        for field in dataclasses.fields(cls):
            assert len(field.metadata["help"]) > 10, f"{cls.__name__}.{field.name}"
            table = field.metadata["table"]
            assert table is None or set(BUDGETS) <= set(table), f"{cls.__name__}.{field.name}"


@pytest.mark.parametrize("budget", BUDGETS)
def test_every_job_of_every_budget_has_its_parameters(config, budget):
    files = Freezer(changed(config, "budget", budget)).files
    for dataset in ("miniimagenet", "tieredimagenet", "cifarfs", "fc100", "omniglot", "doublemnist"):
        assert {f"{stage}_{dataset}.json" for stage in ("fetch", "prepare", "episodes")} <= set(files)
        for method in methods.names():
            stages = ("search", "meta_learn", "adapt", "compare") if is_adapted(method) else PLAIN_STAGES
            stages = ("supernet", *stages) if has_supernet(method) else stages
            own = {name for name in files if name.endswith(f"_{method}_{dataset}.json")}
            assert own == {f"{stage}_{method}_{dataset}.json" for stage in stages}
    assert {content["budget"] for content in files.values() if content.get("budget")} == {budget}
    assert {f"features_{dataset}_by_miniimagenet.json" for dataset in ("cifar10", "cifarfs")} <= set(files)
    assert files["features_cifar10_by_miniimagenet.json"]["source"] == "miniimagenet"
    assert "feature_net_miniimagenet.json" in files and "feature_net_cifar10.json" not in files
    for name in ("fetch_omniglot.json", "prepare_omniglot.json", "table_nas_bench_201.json"):
        assert files[name]["budget"] is None and files[name]["seed"] is None


def test_the_paper_budget_is_the_published_recipe(config):
    files = Freezer(changed(config, "budget", "paper")).files
    mini, tiered = (files[f"train_metantk_{name}.json"]["params"]["train"] for name in IMAGENETS)
    facts = ("learning_rate", "epochs", "milestones", "batch_size", "drop_path")
    assert [mini[name] for name in facts] == [0.02, 100, [60, 80], 64, 0.2]
    assert [tiered[name] for name in facts] == [0.01, 60, [30, 40, 50], 64, 0.1]
    search = files["search_metantk_miniimagenet.json"]["params"]["search"]
    published = {"algorithm": "maml", "inner_lr_time": 1000.0, "reg_coef": 1e-3, "repeat": 3, "prune_number": 1}
    assert {name: search[name] for name in published} == published
    assert files["search_metantk_miniimagenet.json"]["params"]["network"] == {
        "channels": 48,
        "n_cells": 5,
        "stem": "plain",
        "stem_multiplier": 1,
    }


def test_the_paper_budget_with_eight_cells_is_the_published_recipe_of_eight_cells(config):
    config = changed(changed(config, "budget", "paper"), "network", "n_cells", 8)
    files = Freezer(config).files
    search = {name: files[f"search_metantk_{name}.json"]["params"]["search"] for name in IMAGENETS}
    train = {name: files[f"train_metantk_{name}.json"]["params"]["train"] for name in IMAGENETS}
    facts = ("algorithm", "inner_lr_time", "reg_coef")
    assert [search["miniimagenet"][name] for name in facts] == ["anil", 1.0, 1e-5]
    assert [search["tieredimagenet"][name] for name in facts] == ["anil", 1000.0, 1e-3]
    assert (train["miniimagenet"]["batch_size"], train["tieredimagenet"]["batch_size"]) == (40, 56)


def test_the_paper_budget_trains_classifiers_at_the_published_size_and_length(config):
    files = Freezer(changed(config, "budget", "paper")).files
    for dataset, size, epochs in (("cifar10", (36, 20), 600), ("cifar100", (36, 20), 600), ("imagenet", (48, 14), 250)):
        params = files[f"train_metantk_{dataset}.json"]["params"]
        assert (params["network"]["channels"], params["network"]["n_cells"]) == size
        assert params["train"]["epochs"] == epochs
        tested = files[f"test_metantk_{dataset}.json"]["params"]
        assert {name: tested[name] for name in ("network", "train")} == params


def test_the_number_of_cells_that_rows_may_name_is_that_of_the_data_sets_own_network(config):
    config = changed(changed(config, "budget", "paper"), "train", "decay", {"paper": 0.1, "paper/20cells": 0.2})
    freezer = Freezer(config)
    assert (freezer.n_cells("cifar10"), freezer.n_cells("imagenet"), freezer.n_cells("miniimagenet")) == (20, 14, 5)
    decay = {
        name: freezer.files[f"train_metantk_{name}.json"]["params"]["train"]["decay"]
        for name in ("cifar10", "imagenet", "miniimagenet")
    }
    assert decay == {"cifar10": 0.2, "imagenet": 0.1, "miniimagenet": 0.1}


def test_a_number_of_cells_set_for_one_data_set_brings_its_rows_for_that_one_alone(config):
    cells = {"laptop": 5, "gpu": 5, "paper": 5, "laptop/miniimagenet": 8}
    files = Freezer(changed(config, "network", "n_cells", cells)).files
    search = {name: files[f"search_metantk_{name}.json"]["params"]["search"] for name in IMAGENETS}
    assert [search[name]["algorithm"] for name in IMAGENETS] == ["anil", "maml"]


def test_a_number_of_cells_that_depends_on_itself_is_refused(config):
    cells = {"laptop": 5, "gpu": 5, "paper": 5, "laptop/5cells": 8}
    with pytest.raises(ConfigError, match="depends on itself"):
        Freezer(changed(config, "network", "n_cells", cells)).n_cells("miniimagenet")


def test_one_key_changes_the_parameters_of_just_the_jobs_that_use_it(config):
    before = Freezer(config).files
    after = Freezer(changed(config, "evaluate", "n_resamples", 70)).files
    assert {name.split("_")[0] for name in difference(before, after)} == {"evaluate"}
    after = Freezer(changed(config, "search", "metantk", "repeat", 9)).files
    assert difference(before, after) == {name for name in before if name.startswith("search_metantk_")}
    after = Freezer(changed(config, "train", "epochs", 3)).files
    assert {name.split("_")[0] for name in difference(before, after)} == {"train", "evaluate", "test"}
    after = Freezer(changed(config, "test", "batch_size", 70)).files
    assert {name.split("_")[0] for name in difference(before, after)} == {"test"}
    after = Freezer(changed(config, "features", "epochs", 5)).files
    assert difference(before, after) == {name for name in before if name.startswith("feature_net_")}
    after = Freezer(changed(config, "features", "images_per_batch", 9)).files
    assert difference(before, after) == {name for name in before if name.startswith("features_")}


def test_a_database_depends_on_its_own_knobs_and_those_of_its_oracle_alone(config):
    before = Freezer(config).files
    databases = {f"database_{name}.json" for name in Freezer(config).datasets}
    for path in (("database", "n_base_tasks"), ("oracle", "train", "epochs")):
        assert difference(before, Freezer(changed(config, *path, 3)).files) == databases
    for path in (("oracle", "proxy", "n_images"), ("train", "epochs")):
        assert not difference(before, Freezer(changed(config, *path, 5)).files) & databases


def test_another_oracle_brings_its_own_knobs_and_code(config):
    before = Freezer(config).files["database_miniimagenet.json"]
    asking = Freezer(changed(config, "database", "oracle", "table")).files["database_miniimagenet.json"]
    assert asking["code"] != before["code"] and asking["params"]["oracle"] == {"dataset": None, "part": "valid"}


@pytest.mark.parametrize(
    ("stage", "names", "wanted"),
    [
        ("database", ["train_oracle"], {"train"}),
        ("database", ["table_oracle"], {"table"}),
        ("prepare", [], set()),
        ("train", [], set()),
        ("score", [], set()),
    ],
)
def test_the_code_of_an_oracle_counts_only_where_it_is_asked(stage, names, wanted):
    reached = CodeIndex().reachable([PACKAGE / "stages" / f"{stage}.py"], names)
    files = {path.stem for path in reached if path.parent.name == "oracles"} - {"__init__"}
    assert files == wanted


def test_only_a_database_of_published_accuracies_needs_a_table(config):
    assert Freezer(config).database_tables == {}
    asking = Freezer(
        changed(config, "database", "oracle", {**dict.fromkeys(BUDGETS, "train"), "laptop/cifar100": "table"})
    )
    assert asking.database_tables == {"cifar100": "nas_bench_201"}
    nowhere = changed(changed(config, "database", "oracle", "table"), "database", "space", "darts")
    with pytest.raises(ConfigError, match="no table of accuracies of the space darts"):
        _ = Freezer(nowhere).database_tables


def test_a_row_of_another_budget_changes_nothing(config):
    table = {**config["train"]["epochs"], "paper": 7}
    assert difference(Freezer(config).files, Freezer(changed(config, "train", "epochs", table)).files) == set()


def test_where_bytes_are_and_what_computes_changes_no_parameters(config):
    before = Freezer(config).files
    other = changed(changed(config, "data", "mirror", "/elsewhere"), "compute", "device", "cpu")
    assert difference(before, Freezer(other).files) == set()
    assert machine_settings(other)["mirror"] == "/elsewhere"
    assert with_overrides({**config, "mirror": "/elsewhere"})["data"]["mirror"] == "/elsewhere"


def test_a_users_folder_becomes_a_data_set_like_any_other(config, tmp_path):
    config = changed(config, "data", "folders", {"birds": {"path": str(tmp_path)}})
    files = Freezer(changed(config, "grid", "datasets", ["birds"])).files
    assert files["fetch_birds.json"]["params"]["folder"]["path"] == str(tmp_path)
    assert "train_metantk_birds.json" in files


BIRDS = {"birds": {"path": "/pictures/birds", "kind": "classification"}}


@pytest.mark.parametrize("budget", BUDGETS)
def test_a_folder_for_classification_is_planned_like_pets_without_a_row_that_names_it(config, budget):
    config = changed(changed(config, "data", "folders", BIRDS), "budget", budget)
    freezer = Freezer(changed(config, "classification", {"datasets": ["birds"], "trained": ["tegnas_evo", "random"]}))
    files = freezer.files
    assert "episodes_birds.json" not in files
    assert files["fetch_birds.json"]["params"]["folder"]["kind"] == "classification"
    knobs = files["train_tegnas_evo_birds.json"]["params"]
    assert knobs == files["train_tegnas_evo_pets.json"]["params"]
    assert (knobs["train"]["flip"], knobs["train"]["pad"], knobs["train"]["jitter"]) == (False, 0, 0.0)
    for stage in ("search", "train", "test", "contrast"):
        assert {f"{stage}_tegnas_evo_birds.json", f"{stage}_random_birds.json"} <= set(files)
    assert files["search_random_birds.json"]["params"]["search"]["space"] == "nas_bench_201"
    assert {freezer.kinds[method, "birds"] for method in ("tegnas_evo", "tenas", "random")} == {"trained"}
    check_targets(["results/tegnas_evo_birds.json"], freezer)


def test_new_data_sets_for_classification_are_trained_and_not_looked_up(config):
    freezer = Freezer(config)
    for dataset in ("mnist", "svhn", "aircraft", "pets"):
        check_targets([f"results/random_{dataset}.json", f"results/tegnas_evo_{dataset}.json"], freezer)
        assert freezer.kinds["tegnas_evo", dataset] == freezer.kinds["random", dataset] == "trained"
    assert freezer.kinds["tegnas_evo", "cifar10"] == "looked_up"
    assert freezer.kinds["tegnas_evo", "imagenet32"] == "few_shot"


def test_a_few_shot_folder_is_not_listed_for_classification_and_the_other_way_round(config):
    few_shot = changed(config, "data", "folders", {"birds": {"path": "/pictures/birds"}})
    with pytest.raises(ConfigError, match="is of the kind 'few_shot'. List it under grid"):
        _ = Freezer(changed(few_shot, "classification", {"datasets": ["birds"], "trained": ["random"]})).files
    with pytest.raises(ConfigError, match="is of the kind 'trained'. List it under classification.trained"):
        _ = Freezer(changed(changed(config, "data", "folders", BIRDS), "grid", "datasets", ["birds"])).files


def test_the_kind_of_a_folder_changes_only_its_own_jobs(config):
    of_kind = {kind: {"birds": {"path": "/pictures/birds", "kind": kind}} for kind in ("few_shot", "classification")}
    before, after = (Freezer(changed(config, "data", "folders", folders)).files for folders in of_kind.values())
    assert all("birds" in name for name in difference(before, after))


def test_only_data_sets_whose_classes_can_be_new_have_episodes(config):
    files = Freezer(config).files
    for name in data.names():
        if name != FOLDER_FAMILY:
            assert f"prepare_{name}.json" in files
            assert (f"episodes_{name}.json" in files) == (data.kind_of(name) == "few_shot")


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"miniimagenet": {"path": "x"}}, "name of a known data set"),
        ({"My Birds": {"path": "x"}}, "small letters and digits"),
        ({"birds": "x"}, "must be options"),
        (["birds"], "must map names"),
        ({"laptop": {"path": "x"}}, "name of a known data set, of a budget or of a kind"),
        ({"classification": {"path": "x"}}, "name of a known data set, of a budget or of a kind"),
        ({"birds": {"path": "x", "kind": "clasification"}}, "Did you mean 'classification'"),
        ({"birds": {"path": "x", "kind": ["few_shot"]}}, "Unknown kind in data.folders.birds"),
        ({"birds": {"path": "x", "kind": "classification", "novel": 3}}, "novel is for folders of the kind few_shot"),
        ({"birds": {"path": "x", "test_fraction": 0.1}}, "test_fraction is for folders of the kind classification"),
    ],
)
def test_a_folder_that_cannot_be_named_so_is_refused(config, named, message):
    with pytest.raises(ConfigError, match=message):
        folders(changed(config, "data", "folders", named))


def test_the_grid_without_the_control_is_refused(config):
    with pytest.raises(ConfigError, match="must hold 'random'"):
        grid(changed(config, "grid", "methods", ["metantk"]))


def test_a_target_of_an_unknown_method_or_data_set_is_refused_with_the_nearest(config):
    freezer = Freezer(config)
    check_targets(["--cores", "4", "results/metantk_miniimagenet.json", "results/report.html"], freezer)
    with pytest.raises(UnknownNameError, match="Did you mean 'metantk'"):
        check_targets(["results/metank_miniimagenet.json"], freezer)
    with pytest.raises(UnknownNameError, match="Did you mean 'miniimagenet'"):
        check_targets(["results/metantk_miniimagent.json"], freezer)


def test_freezing_writes_only_what_changed(config, tmp_path):
    root, machine = tmp_path / "params", tmp_path / "machine.json"
    assert len(freeze(Freezer(config), root, machine)) > 50
    stamps = {path.name: path.stat().st_mtime_ns for path in root.iterdir()}
    assert freeze(Freezer(config), root, machine) == []
    changes = freeze(Freezer(changed(config, "search", "ntk", "repeat", 9)), root, machine)
    assert changes and all(name.startswith("search_ntk_") for name in changes)
    for path in root.iterdir():
        assert (path.stat().st_mtime_ns == stamps[path.name]) == (path.name not in changes)


def test_parameters_that_come_back_are_older_than_what_was_made_with_them(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root, machine, made = tmp_path / "params", tmp_path / "machine.json", tmp_path / "genotype.json"
    other = changed(config, "search", "ntk", "repeat", 9)
    name = "search_ntk_omniglot.json"

    def is_fresh() -> bool:
        return (root / name).stat().st_mtime_ns < made.stat().st_mtime_ns

    freeze(Freezer(config), root, machine)
    made.write_text("made with the first parameters")
    remember([(str(root / name), [str(made)])])
    freeze(Freezer(other), root, machine)
    assert not is_fresh()
    freeze(Freezer(config), root, machine)
    assert is_fresh()

    # made anew meanwhile, by the other tool or by hand: nobody knows with what
    freeze(Freezer(other), root, machine)
    made.write_text("made with the second ones")
    freeze(Freezer(config), root, machine)
    assert not is_fresh()


@pytest.mark.parametrize("is_in_mirror", [False, True])
@pytest.mark.parametrize("change", ["a file more", "a longer file", "a file of the same length", "a file less"])
def test_a_users_folder_that_changed_is_fetched_again(config, tmp_path, monkeypatch, change, is_in_mirror):
    folder = tmp_path / "birds"
    if is_in_mirror:
        monkeypatch.delenv("FEWSHOT_NAS_MIRROR", raising=False)
        config = changed(config, "data", "mirror", str(tmp_path))
    (folder / "owl").mkdir(parents=True)
    for name in ("a.png", "b.png"):
        (folder / "owl" / name).write_bytes(b"12")
    named = changed(config, "data", "folders", {"birds": {"path": "birds" if is_in_mirror else str(folder)}})
    before = Freezer(named).files
    assert Freezer(named).files == before
    if change == "a file more":
        (folder / "owl" / "c.png").write_bytes(b"12")
    elif change == "a longer file":
        (folder / "owl" / "a.png").write_bytes(b"123")
    elif change == "a file of the same length":
        (folder / "owl" / "a.png").write_bytes(b"21")
        os.utime(folder / "owl" / "a.png", ns=(0, 1))
    else:
        (folder / "owl" / "a.png").unlink()
    assert difference(before, Freezer(named).files) == {"fetch_birds.json"}


def test_a_folder_that_cannot_be_read_is_left_to_the_fetch_stage_so_that_others_go_on(config, tmp_path):
    (tmp_path / "gone.png").symlink_to("nothing")
    options = {"birds": {"path": str(tmp_path)}, "owls": {}}
    files = Freezer(changed(config, "data", "folders", options)).files
    assert files["fetch_birds.json"]["params"]["content"] is files["fetch_owls.json"]["params"]["content"] is None


def test_a_report_is_made_anew_when_a_result_outside_the_grid_has_come(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = tmp_path / "results/rows"
    rows.mkdir(parents=True)
    before = Freezer(config).files
    (rows / "metantk_doublemnist.csv").write_text("of the grid")
    assert Freezer(config).files == before
    (rows / "metantk_omniglot.csv").write_text("asked for by name")
    assert difference(before, Freezer(config).files) == {"report.json"}


def test_another_seed_or_budget_fetches_nothing_anew(config):
    before = Freezer(config).files
    for key, value in (("seed", 7), ("budget", "gpu")):
        names = difference(before, Freezer(changed(config, key, value)).files)
        assert names and not any(name.startswith(("fetch_", "table_")) for name in names)
    assert not any(
        name.startswith("prepare_") for name in difference(before, Freezer(changed(config, "seed", 7)).files)
    )


@pytest.mark.parametrize(
    "path, value, message",
    [
        (("search", "metantk", "space"), "dartz", "darts"),
        (("search", "metantk", "seeds"), {"laptop": [], "gpu": [0], "paper": [0]}, "empty list"),
        (("search", "metantk", "seeds"), [0, 0], "more than once"),
        (("episodes", "k_shots"), [], "empty list"),
        (("compute", "device"), "gpu", "cuda:N"),
        (("database", "space"), "nas_bench_202", "nas_bench_201"),
        (("database", "oracle"), "synthetic", "allowed: proxy, table, train"),
        (("oracle", "trains"), {}, "Did you mean 'train'"),
        (("oracle", "train", "epoch"), 3, "epochs"),
        (("oracle", "proxy", "n_image"), 3, "n_images"),
        (("grid", "methods"), [], "random"),
    ],
)
def test_what_no_job_could_do_is_refused_before_any_job_starts(config, path, value, message):
    with pytest.raises((ConfigError, UnknownNameError), match=message):
        _ = Freezer(changed(config, *path, value)).files


@pytest.mark.parametrize(
    "section, message",
    [
        ({"datasets": ["cifar10"], "looked_up": ["tenas"]}, "classification.tables"),
        ({"datasets": ["cifar10"], "tables": ["nas_bench_201"], "looked_up": ["metantk"]}, "classification.trained"),
        ({"datasets": ["miniimagenet"], "tables": ["nas_bench_201"], "looked_up": ["tenas"]}, "grid"),
        ({"datasets": ["cifar10"], "trained": ["conv4"]}, "random"),
        ({"datasets": ["imagenet"], "tables": ["nas_bench_201"], "cards": ["nas_bench_201"]}, "cifar10"),
    ],
)
def test_a_result_listed_under_another_kind_than_its_own_is_refused(config, section, message):
    with pytest.raises(ConfigError, match=message):
        _ = Freezer(changed(config, "classification", section)).files


def test_a_mistake_leaves_the_frozen_files_as_they_were(config, tmp_path):
    with pytest.raises(ConfigError):
        freeze(Freezer(changed(config, "train", "epoch", 3)), tmp_path / "params", tmp_path / "machine.json")
    assert not (tmp_path / "params").exists()


def test_what_is_not_yaml_is_told(tmp_path):
    (tmp_path / "params.yaml").write_text("budget: [laptop")
    with pytest.raises(ConfigError, match="is not YAML"):
        load(tmp_path / "params.yaml")


def test_a_section_that_stands_twice_is_refused_with_its_lines(tmp_path):
    text = PARAMS.read_text(encoding="utf-8")
    (tmp_path / "params.yaml").write_text(f"{text}\ntrain: {{epochs: 3}}\n")
    last = text.count("\n") + 2
    with pytest.raises(ConfigError, match=rf"params.yaml holds the key 'train' twice .* lines \d+ and {last}\."):
        load(tmp_path / "params.yaml")


def test_the_printed_knobs_are_the_defaults_of_params_yaml(config, capsys):
    from pipeline.__main__ import main

    assert main(["knobs"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert set(printed) == {*SECTIONS, *METHOD_SECTIONS, "oracle"} and set(printed["search"]) == set(methods.names())
    for section in ("supernet", "meta_learn"):
        assert printed[section] == config[section], section
    assert printed["oracle"] == config["oracle"]
    for name in SECTIONS:
        assert printed[name] == config[name], name


LEARNED = {
    "methods": ["metad2a"], "controls": ["random201"], "sources": ["cifarfs"],
    "datasets": ["cifarfs", "miniimagenet", "cifar10"], "few_shot": ["miniimagenet"], "looked_up": ["cifar10"],
}  # fmt: skip


def with_learned(config, **changes):
    config = changed(config, "grid", "datasets", ["cifarfs", "miniimagenet"])
    config = changed(config, "classification", {"datasets": ["cifar10"], "tables": ["nas_bench_201"]})
    return changed(config, "learned", LEARNED | changes)


def test_a_method_that_learns_names_the_files_it_needs_and_others_none(config):
    needed = Freezer(config).needed
    assert {method for method, _ in needed} == {"metad2a", "tnas", "automaml"}
    files = needed["metad2a", "pets"]
    assert files["features"] == "data/features/pets_by_cifarfs.npy"
    assert files["predictor_facts"] == "models/predictor_cifarfs/facts.json"
    assert files["triples"] == "database/cifarfs/triples.csv"


def test_what_learns_beforehand_is_listed_by_kind_of_result(config):
    assert learned(with_learned(config))["few_shot"] == ["miniimagenet"]
    assert Freezer(with_learned(config)).files


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"sources": []}, "learned.sources must name"),
        ({"controls": []}, "learned.controls must hold 'random201'"),
        ({"sources": ["cifarfs", "cifar10"]}, "one data set at most"),
        ({"datasets": ["cifar10"]}, "learned.datasets must hold 'cifarfs'"),
        ({"datasets": ["cifarfs", "miniimagenet", "cifar10", "omniglot"]}, "neither grid.datasets nor"),
        ({"methods": ["tenas"]}, "metad2a"),
        ({"trained": ["cifar10"], "looked_up": []}, "of the kind 'looked_up'"),
    ],
)
def test_a_list_of_what_learns_that_cannot_be_made_is_refused(config, changes, message):
    with pytest.raises((ConfigError, UnknownNameError), match=message):
        _ = Freezer(with_learned(config, **changes)).files


def test_a_method_that_learns_is_not_listed_with_those_that_do_not(config):
    with pytest.raises(ConfigError, match="List it under learned"):
        _ = Freezer(changed(config, "grid", "methods", ["metad2a", "random"])).files
    with pytest.raises(ConfigError, match=r"Name it under learned\.controls"):
        _ = Freezer(changed(config, "grid", "methods", ["random201", "random"])).files


def test_a_source_that_is_no_few_shot_set_or_differs_from_the_listed_one_is_refused(config):
    with pytest.raises(UnknownNameError, match=r"search\.metad2a\.source"):
        _ = Freezer(changed(config, "search", "metad2a", "source", "cifar10")).files
    with pytest.raises(ConfigError, match="learns from 'omniglot'"):
        _ = Freezer(changed(with_learned(config), "search", "metad2a", "source", "omniglot")).files


def test_a_database_that_looks_into_a_table_cannot_be_listed_for_dvc(config):
    other = changed(with_learned(config), "database", "oracle", "table")
    with pytest.raises(ConfigError, match="looks into a table"):
        _ = Freezer(other).files


def test_a_knob_of_one_meta_training_changes_that_one_alone(config):
    before = Freezer(config).files
    for key, kind in (("generator_epochs", "generator"), ("predictor_epochs", "predictor")):
        names = difference(before, Freezer(changed(config, "meta_train", key, 3)).files)
        assert names == {name for name in before if name.startswith(f"meta_train_{kind}_")}


def with_adapted(config, **changes):
    config = changed(config, "grid", {"datasets": ["omniglot"], "methods": ["random", "conv4"]})
    listed = {"methods": ["maml", "randomtnas"], "supernets": ["tnas"], "datasets": ["omniglot"]}
    return changed(config, "adapted", listed | changes)


def test_what_adapts_is_listed_beside_what_it_is_compared_with(config):
    listed = adapted(with_adapted(config))
    assert listed == {"methods": ["maml", "randomtnas"], "supernets": ["tnas"], "datasets": ["omniglot"]}
    assert Freezer(with_adapted(config)).files
    assert adapted(config) == {"methods": [], "supernets": [], "datasets": []}


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"methods": ["randomtnas"]}, "adapted.methods must hold 'maml'"),
        ({"methods": ["maml"]}, "adapted.methods must hold 'randomtnas'"),
        ({"datasets": ["omniglot", "fc100"]}, "grid.datasets does not"),
        ({"datasets": ["cifar10"]}, "grid.datasets does not"),
        ({"methods": ["maml", "tnas"]}, "name in adapted.methods: 'tnas'"),
        ({"methods": ["conv4"]}, "name in adapted.methods: 'conv4'"),
        ({"method": ["maml"]}, "Did you mean 'methods'"),
    ],
)
def test_a_list_of_what_adapts_that_cannot_be_made_is_refused(config, changes, message):
    with pytest.raises((ConfigError, UnknownNameError), match=message):
        _ = Freezer(with_adapted(config, **changes)).files


def test_a_supernet_of_tnas_whose_alphas_would_stay_is_refused_before_it_is_trained(config):
    config = changed(with_adapted(config), "supernet", "tnas", {"adapts": "weights"})
    with pytest.raises(ConfigError, match="adapts is 'weights': the alphas would stay"):
        _ = Freezer(config).files


def test_what_adapts_needs_the_classifier_that_it_is_compared_with(config):
    config = changed(with_adapted(config), "grid", "methods", ["random"])
    with pytest.raises(ConfigError, match="grid.methods must hold 'conv4'"):
        _ = Freezer(config).files


def test_what_adapts_gives_no_result_where_there_are_no_tasks(config):
    freezer = Freezer(config)
    assert ("maml", "cifar10") not in freezer.kinds and freezer.kinds["maml", "omniglot"] == "adapted"
    with pytest.raises(ConfigError, match="few-shot tasks, which cifar10"):
        check_targets(["results/maml_cifar10.json"], freezer)
    with pytest.raises(ConfigError, match="List it under adapted"):
        _ = Freezer(changed(config, "grid", "methods", ["maml", "random"])).files


def test_every_control_and_reference_of_what_adapts_is_a_method(config):
    for name in filter(is_adapted, methods.names()):
        assert {control_of(name), *references_of(name)} <= set(methods.names())
        assert "maml" in references_of(name) and "conv4" in references_of(name)
    assert control_of("metantk") == "random" and references_of("metantk") == ()


def test_a_key_of_one_meta_learning_changes_that_method_alone(config):
    before = Freezer(config).files
    for section, method, stages in (
        ("meta_learn", "tnas", {"meta_learn", "adapt"}),
        ("supernet", "tnas", {"supernet"}),
        ("meta_learn", "metalstm", {"meta_learn", "adapt"}),
    ):
        names = difference(before, Freezer(changed(config, section, method, "learning_rate", 0.5)).files)
        few_shot = [name for name in Freezer(config).datasets if data.kind_of(name) == "few_shot"]
        assert names == {f"{stage}_{method}_{name}.json" for stage in stages for name in few_shot}


def test_the_number_of_test_queries_learns_nothing_anew(config):
    names = difference(Freezer(config).files, Freezer(changed(config, "episodes", "n_query", 7)).files)
    assert {name.split("_")[0] for name in names} == {"episodes"}


def test_architectures_that_are_compared_are_meta_learned_by_one_recipe(config):
    for budget in BUDGETS:
        files = Freezer(changed(config, "budget", budget)).files
        params = [files[f"meta_learn_{name}_omniglot.json"]["params"] for name in ("tnas", "automaml", "randomtnas")]
        assert params[0] == params[1] == params[2]


def test_the_paper_budget_of_what_adapts_is_published(config):
    files = Freezer(changed(config, "budget", "paper")).files

    def knobs(stage, method, dataset, *names):
        params = files[f"{stage}_{method}_{dataset}.json"]["params"][stage]
        return [params[name] for name in names]

    inner = ("inner_lr", "inner_steps", "test_steps", "tasks_per_batch", "channels")
    assert knobs("meta_learn", "maml", "miniimagenet", *inner) == [0.01, 5, 10, 4, 32]
    assert knobs("meta_learn", "maml", "omniglot", *inner) == [0.4, 1, 3, 32, 64]
    assert knobs("supernet", "tnas", "miniimagenet", *inner) == [0.1, 5, 10, 4, 16]
    outer = ("learning_rate", "learning_rate_alphas", "beta1_alphas", "weight_decay_alphas", "n_iterations")
    assert knobs("supernet", "tnas", "miniimagenet", *outer) == [1e-3, 1e-3, 0.5, 1e-3, 12_500]
    assert knobs("supernet", "automaml", "miniimagenet", *outer) == [1e-3, 3e-4, 0.5, 1e-3, 12_500]
    assert knobs("supernet", "automaml", "miniimagenet", "adapts", "inner_lr_alphas") == ["weights", 30.0]
    of_lstm = ("passes", "batch_size", "tasks_per_batch", "clip_norm", "n_iterations", "channels")
    assert knobs("meta_learn", "metalstm", "miniimagenet", *of_lstm) == [8, 25, 1, 0.25, 50_000, 32]
    assert files["search_tnas_miniimagenet.json"]["params"]["search"]["n_tasks"] == 600
    orders = [knobs("meta_learn", name, "miniimagenet", "first_order", "adapts") for name in ("maml", "fomaml", "anil")]
    assert orders == [[False, "all"], [True, "all"], [False, "head"]]
