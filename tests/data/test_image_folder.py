"""A user's own folder: classes, splits, and what is said when something is wrong."""

import pytest

from pipeline.core.errors import ConfigError, DataError
from pipeline.core.types import SPLITS
from pipeline.data.image_folder import drawn_split
from pipeline.data.settings import FetchConfig, PrepareConfig
from tests.data.test_battery import check_classes, check_prepared
from tests.data.tiny_sources import encoded, folder_files, made, made_folder, picture, write, write_tar, write_zip

KNOBS = PrepareConfig(max_image_size=8, min_images_per_class=2)


def test_classes_are_split_by_fraction(folder_set):
    assert [folder_set.n_classes(split) for split in SPLITS] == [8, 2, 2]
    assert sorted(folder_set.class_names) == [f"class{c:02d}" for c in range(12)]
    assert folder_set.title == "Mine" and folder_set.images.shape == (72, 8, 8, 3)


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "zip"])
def test_an_archive_of_the_folder_gives_the_same_set(folder_set, suffix, tmp_path):
    path = tmp_path / f"pictures.{suffix}"
    files = {f"pictures/{name}": content for name, content in folder_files().items()}
    if suffix == "zip":
        write_zip(path, files)
    else:
        write_tar(path, files, "w:gz" if suffix.endswith("gz") else "w")
    packed = made(tmp_path, "mine", knobs=KNOBS, spec=FetchConfig(path=str(path)))
    assert packed.class_names == folder_set.class_names
    assert (packed.images == folder_set.images).all()


def split_with(tmp_path, **options):
    for name, content in folder_files().items():
        write(tmp_path / "pictures" / name, content)
    spec = FetchConfig(path=str(tmp_path / "pictures"), **options)
    return made(tmp_path, "mine", knobs=KNOBS, spec=spec).manifest["classes"]


def test_counts_take_exactly_so_many_classes(tmp_path):
    classes = split_with(tmp_path, base=5.0, validation=2.0, novel=3.0)
    assert [len(classes[split]) for split in SPLITS] == [5, 2, 3]


@pytest.mark.parametrize("shares", [(0.64, 0.16, 0.2), (0.5, 0.2, 0.3)])
def test_shares_that_add_up_to_one_leave_no_class_out_and_are_kept_to_a_class(shares, capsys):
    options = dict(zip(SPLITS, shares, strict=True))
    for n_classes in range(9, 120):
        places = [f"class{c}" for c in range(n_classes)]
        split_of = drawn_split(places, FetchConfig(path="x", **options))
        assert sorted(split_of) == sorted(places)
        for split, share in options.items():
            assert abs(list(split_of.values()).count(split) - share * n_classes) <= 1
    assert capsys.readouterr().err == ""


def test_classes_that_are_in_no_split_are_told(tmp_path, capsys):
    split_with(tmp_path, base=0.5, validation=2, novel=0.25)
    said = capsys.readouterr().err
    assert "pictures: 1 of 12 classes are in no split and left out, e.g. class" in said
    assert "The split is base 6, validation 2, novel 3," in said


@pytest.mark.parametrize("one", [1, 1.0])
def test_a_count_of_one_is_one_class_and_not_all_of_them(tmp_path, one):
    classes = split_with(tmp_path / "a", validation=one)
    assert [len(classes[split]) for split in SPLITS] == [8, 1, 2]
    with pytest.raises(ConfigError, match="base 8, validation 2, novel 1 of the 12 classes"):
        split_with(tmp_path / "b", novel=one)


def test_another_seed_gives_another_split_and_the_same_seed_the_same(tmp_path):
    first, again, other = (split_with(tmp_path / str(i), split_seed=seed) for i, seed in enumerate((0, 0, 1)))
    assert first == again != other


def test_folders_named_after_splits_are_the_split(tmp_path):
    files = {
        f"{('train', 'val', 'test')[i % 3]}/{name}": content for i, (name, content) in enumerate(sorted(
            folder_files(6).items(), key=lambda item: (item[0].split("/")[1], item[0])
        ))
    }  # fmt: skip
    assert {name.split("/")[0] for name in files} == {"train", "val", "test"}
    prepared = made_folder(tmp_path, files)
    assert prepared.manifest["classes"] == {
        "base": ["class00", "class03"], "validation": ["class01", "class04"], "novel": ["class02", "class05"]
    }  # fmt: skip


def test_an_incomplete_given_split_is_refused(tmp_path):
    files = {f"train/{name}": content for name, content in folder_files(4).items()}
    files |= {f"test/{name}": content for name, content in folder_files(8).items() if name > "class04"}
    with pytest.raises(DataError, match="validation 0, novel"):
        made_folder(tmp_path / "a", files)
    files |= {f"val/{name}": content for name, content in folder_files(12).items() if name > "class08"}
    files = {name: content for name, content in files.items() if not name.startswith("test") or "class05" in name}
    with pytest.raises(DataError, match=r"novel 1\. Needed are at least 2 base, 1 validation and 2 novel"):
        made_folder(tmp_path / "b", files)


def test_a_split_that_does_not_fit_the_classes_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="of the 12 classes"):
        split_with(tmp_path / "a", base=20.0)
    with pytest.raises(ConfigError, match=r"validation 0.* at least 2 base, 1 validation and 2 novel"):
        split_with(tmp_path / "b", validation=0.01)
    with pytest.raises(ConfigError, match="2.5 is neither"):
        split_with(tmp_path / "c", novel=2.5)


def test_an_empty_folder_is_refused(tmp_path):
    (tmp_path / "pictures").mkdir()
    with pytest.raises(DataError, match="empty"):
        made(tmp_path, "mine", knobs=KNOBS, spec=FetchConfig(path=str(tmp_path / "pictures")))


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        made(tmp_path, "mine", knobs=KNOBS, spec=FetchConfig(path=str(tmp_path / "nowhere")))
    with pytest.raises(ConfigError, match="needs a path"):
        made(tmp_path, "mine", knobs=KNOBS, spec=FetchConfig())


def test_images_outside_class_folders_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"in one folder of .*/a/pictures\. .*one sub-folder of images per class"):
        made_folder(tmp_path / "a", {"0.png": encoded(picture("a")), "1.png": encoded(picture("b"))})
    with pytest.raises(DataError, match="beside the class folders"):
        made_folder(tmp_path / "b", folder_files() | {"stray.png": encoded(picture("stray"))})


def test_a_damaged_archive_of_the_user_is_named_by_its_own_path(tmp_path):
    write(tmp_path / "pictures.tar", b"no archive")
    with pytest.raises(DataError) as error:
        made(tmp_path / "out", "mine", knobs=KNOBS, spec=FetchConfig(path=str(tmp_path / "pictures.tar")))
    assert str(error.value).startswith(f"{tmp_path}/pictures.tar cannot be read")
    assert str(error.value).endswith("Mend it and run the same command again.")


@pytest.mark.parametrize("files", [{}, {"robin/notes.txt": b"x", "more.zip": b"x"}])
def test_an_archive_or_folder_without_images_is_refused_with_what_it_holds(files, tmp_path):
    write_zip(tmp_path / "x.zip", files)
    for name, content in files.items():
        write(tmp_path / "x" / name, content)
    for path in ("x.zip", *(["x"] if files else [])):
        with pytest.raises(DataError, match=rf"{path} holds no image.* one sub-folder of images per class") as error:
            made(tmp_path, "mine", knobs=KNOBS, spec=FetchConfig(path=str(tmp_path / path)))
        assert ("(1 .zip, 1 .txt), e.g. 'more.zip', 'robin/notes.txt'" in str(error.value)) == bool(files)


def test_other_files_and_hidden_files_are_left_out(tmp_path, folder_set):
    noise = {"class00/notes.txt": b"x", ".trash/1.png": b"x", "class01/.hidden.png": b"x", "Thumbs.db": b"x"}
    assert made_folder(tmp_path, folder_files() | noise).digest == folder_set.digest


def test_files_that_are_left_out_are_told_with_their_number_kinds_and_first_names(tmp_path, capsys):
    noise = {"class00/notes.txt": b"x", ".trash/1.png": b"x", "class01/a.HEIC": b"x", "class01/b.heic": b"x", "x": b""}
    made_folder(tmp_path / "folder", folder_files() | noise)
    said = capsys.readouterr().err
    assert "1 hidden files and folders of" in said and "e.g. '.trash'" in said
    assert "pictures: 4 files are left out (2 .heic, 1 .txt, 1 without a suffix), e.g. 'class00/notes.txt'" in said
    write_zip(tmp_path / "x.zip", folder_files() | {"class00/.hidden\n.png": b""})
    made(tmp_path / "zip", "mine", knobs=KNOBS, spec=FetchConfig(path=str(tmp_path / "x.zip")))
    assert r"1 file is left out (1 hidden), e.g. 'class00/.hidden\n.png'. Images are" in capsys.readouterr().err


def test_nothing_is_told_of_a_folder_of_which_nothing_is_left_out(tmp_path, capsys):
    made_folder(tmp_path, folder_files())
    assert "left out" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "suffix, kind",
    [
        ("JPE", "JPEG"),
        ("jfif", "JPEG"),
        ("webp", "WEBP"),
        ("bmp", "BMP"),
        ("tif", "TIFF"),
        ("gif", "GIF"),
        ("pnm", "PPM"),
    ],
)
def test_the_usual_suffixes_are_those_of_images(suffix, kind, tmp_path):
    other = {f"class{c:02d}/other.{suffix}": encoded(picture(c, "other", side=16), kind) for c in range(12)}
    assert len(made_folder(tmp_path, folder_files() | other).images) == 84


def test_an_image_in_two_splits_is_refused_unless_reported(tmp_path):
    files = folder_files()
    files |= {f"class{c:02d}/copy.png": encoded(picture("the same")) for c in range(12)}
    with pytest.raises(DataError, match=r"mine \(.*/a/pictures\): 4 images lie in two splits"):
        made_folder(tmp_path / "a", files)
    assert not (tmp_path / "a/mine.images.npy").exists()
    for name, content in files.items():
        write(tmp_path / "b" / name, content)
    spec = FetchConfig(path=str(tmp_path / "b"), duplicates="report")
    checks = made(tmp_path, "mine", knobs=KNOBS, spec=spec).manifest["checks"]
    assert checks["duplicates_across_splits"]["count"] == 4
    assert checks["duplicates_between_classes_of_a_split"]["count"] == 9


@pytest.mark.parametrize("kind", ["few_shot", "classification"])
def test_an_image_twice_in_one_split_is_told_with_what_it_means(kind, tmp_path, capsys):
    parts = {"few_shot": ("train", "val", "test"), "classification": ("train", "test")}[kind]
    shared = {"few_shot": "{0}-class{1}", "classification": "class{1}"}[kind]
    files = {
        f"{part}/{shared.format(part, c)}/{i}.png": encoded(picture(part, c, i))
        for part in parts for c in (1, 2) for i in range(3)
    }  # fmt: skip
    first, second = (f"train/{shared.format('train', c)}" for c in (1, 2))
    made_folder_of(kind, tmp_path / "a", files)
    assert "lie" not in capsys.readouterr().err
    files |= {f"{first}/again.png": files[f"{first}/0.png"], f"{second}/again.png": files[f"{first}/1.png"]}
    checks = made_folder_of(kind, tmp_path / "b", files).manifest["checks"]
    assert checks["duplicates_across_splits"]["count"] == 0
    assert checks["duplicates_within_classes"]["count"] == checks["duplicates_between_classes_of_a_split"]["count"] == 1
    said = capsys.readouterr().err
    assert f"1 image lies twice in one class:\n  {first}/0.png = {first}/again.png\n" in said
    assert f"1 image lies in two classes of one split:\n  {first}/1.png = {second}/again.png\n" in said


def made_folder_of(kind, tmp_path, files):
    """The prepared set of a folder of a kind whose top level names the splits."""
    for name, content in files.items():
        write(tmp_path / "pictures" / name, content)
    return made(tmp_path, "mine", knobs=KNOBS, spec=FetchConfig(path=str(tmp_path / "pictures"), kind=kind))


def classified(tmp_path, files=None, **options):
    """The prepared set of a folder of the kind classification."""
    for name, content in (files or folder_files()).items():
        write(tmp_path / "pictures" / name, content)
    spec = FetchConfig(path=str(tmp_path / "pictures"), kind="classification", **options)
    return made(tmp_path, "mine", knobs=KNOBS, spec=spec)


def sources(prepared, folder) -> dict[str, set[str]]:
    """Split -> names of its images' files."""
    lines = [line.split(",") for line in (folder / "mine.index.csv").read_text().splitlines()[1:]]
    return {split: {line[3] for line in lines if line[2] == split} for split in prepared.split_classes}


def test_a_folder_for_classification_has_all_classes_in_both_parts(tmp_path):
    prepared = classified(tmp_path, test_fraction=0.34)
    check_prepared(prepared, "mine")
    check_classes(prepared)
    assert prepared.kind == "classification" and prepared.class_names == [f"class{c:02d}" for c in range(12)]
    for label in range(12):
        assert (len(prepared.rows_of(label, "train")), len(prepared.rows_of(label, "test"))) == (4, 2)


def test_parts_are_drawn_by_the_seed(tmp_path):
    drawn = [
        sources(classified(tmp_path / str(i), test_fraction=0.34, split_seed=seed), tmp_path / str(i))["test"]
        for i, seed in enumerate((0, 0, 1))
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_folders_named_train_and_test_divide_the_images(tmp_path):
    files = folder_files(3, per_class=9)
    part = {0: "train", 1: "test", 2: "val"}
    divided = {f"{part[int(name[8]) % 3]}/{name}": content for name, content in files.items()}
    prepared = classified(tmp_path, divided)
    assert prepared.class_names == ["class00", "class01", "class02"]
    assert {split: prepared.n_classes(split) for split in prepared.split_classes} == {
        "train": 3, "validation": 3, "test": 3
    }  # fmt: skip
    found = sources(prepared, tmp_path)
    assert found["test"] == {name for name in divided if name.startswith("test/")}
    assert found["validation"] == {name for name in divided if name.startswith("val/")}


def test_a_part_without_its_counterpart_is_refused(tmp_path):
    files = {f"{top}/{name}": content for top in ("train", "val") for name, content in folder_files(3).items()}
    with pytest.raises(DataError, match=r"train, val of .* there is no folder 'test'"):
        classified(tmp_path, files)


def test_a_class_that_one_part_lacks_is_refused(tmp_path):
    files = {f"train/{name}": content for name, content in folder_files(3).items()}
    files |= {f"test/{name}": content for name, content in folder_files(2, channels=1).items()}
    with pytest.raises(DataError, match="no image in the test split, e.g. 'class02'"):
        classified(tmp_path, files)


def test_one_class_is_no_data_set(tmp_path):
    files = {f"{top}/owl/{i}.png": encoded(picture(top, i)) for top in ("train", "test") for i in range(3)}
    with pytest.raises(DataError, match="has one class, 'owl'"):
        classified(tmp_path, files)


def test_a_class_with_too_few_images_to_test_on_is_named(tmp_path):
    with pytest.raises(DataError, match=r"12 classes have fewer than 2 images: 'class00' \(test 1\)"):
        classified(tmp_path, test_fraction=0.1)


def test_an_image_to_train_on_and_to_test_on_is_refused_unless_reported(tmp_path):
    files = {f"{top}/class{c}/{i}.png": encoded(picture(top, c, i)) for top in ("train", "test") for c in (1, 2)
             for i in range(3)}  # fmt: skip
    files["test/class1/copy.png"] = files["train/class1/0.png"]
    with pytest.raises(DataError, match=r"1 image lies in two splits:\n  train/class1/0.png = test/class1/copy.png"):
        classified(tmp_path / "a", files)
    checks = classified(tmp_path / "b", files, duplicates="report").manifest["checks"]
    assert checks["duplicates_across_splits"]["count"] == 1


def test_the_same_folder_is_a_few_shot_set_unless_it_asks(tmp_path, folder_set):
    assert folder_set.kind == "few_shot"
    assert classified(tmp_path, test_fraction=0.34).digest != folder_set.digest


@pytest.mark.parametrize("kind", ["few_shot", "classification"])
@pytest.mark.parametrize("tops", [("train", "valid", "test"), ("Train", "Test"), ("train", "val", "test", "extra")])
def test_folders_that_look_like_splits_beside_others_are_no_classes(kind, tops, tmp_path):
    for top in tops:
        for name, content in folder_files().items():
            write(tmp_path / "pictures" / top / name, content)
    with pytest.raises(DataError, match="look like splits"):
        made(tmp_path, "mine", knobs=KNOBS, spec=FetchConfig(path=str(tmp_path / "pictures"), kind=kind))


@pytest.mark.parametrize("kind", ["few_shot", "classification"])
@pytest.mark.parametrize("tops", [("",), ("train/", "test/", "val/")])
def test_folders_within_a_class_are_no_classes_and_named(kind, tops, tmp_path):
    own = {top: top[:-1] if kind == "few_shot" else "" for top in tops}
    files = {f"{top}{own[top]}{name}": content for top in tops for name, content in folder_files().items()}
    owls = [f"{tops[0]}owl/{sex}" for sex in ("females", "males")]
    files |= {f"{folder}/{i}.png": encoded(picture(folder, i)) for folder in owls for i in range(6)}
    for name, content in files.items():
        write(tmp_path / "pictures" / name, content)
    with pytest.raises(DataError, match=f"2 folders of images inside .* {', '.join(owls)}. .*'owl', .*'owl_females'"):
        made(tmp_path, "mine", knobs=KNOBS, spec=FetchConfig(path=str(tmp_path / "pictures"), kind=kind))


def test_class_folders_that_are_links_are_followed(tmp_path, folder_set):
    for name, content in folder_files().items():
        write(tmp_path / "elsewhere" / name, content)
    (tmp_path / "pictures").mkdir()
    for folder in (tmp_path / "elsewhere").iterdir():
        (tmp_path / "pictures" / folder.name).symlink_to(folder)
    prepared = made(tmp_path, "mine", knobs=KNOBS, spec=FetchConfig(path=str(tmp_path / "pictures"), title="Mine"))
    assert prepared.digest == folder_set.digest


@pytest.mark.parametrize("target", [".", "..", "../class01"])
def test_links_that_lead_back_to_where_they_lie_are_refused(target, tmp_path):
    for name in ("class00", "class01"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
    (tmp_path / "pictures/class00/on").symlink_to(target)
    (tmp_path / "pictures/class01/back").symlink_to("../class00")
    with pytest.raises(DataError, match="a folder that it lies in itself"):
        made(tmp_path, "mine", knobs=KNOBS, spec=FetchConfig(path=str(tmp_path / "pictures")))
