"""Sources are found in the mirror, vouched for, and packed the same way every time."""

import contextlib
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile

import pytest

from pipeline.core.artifacts import sha256
from pipeline.core.errors import ArtifactError, DataError, DownloadError
from pipeline.data import get
from pipeline.data.archives import Tree
from pipeline.data.base import Dataset, Layout, Source
from pipeline.data.fetching import SOURCES_FILE, fetch
from tests.data.tiny_sources import BUILDERS, imagenet, make_mirror, mini_csv, vouch, write

CONTENT = b"the published bytes"


class OneFile(Dataset):
    """A data set of one published file."""

    name = "onefile"
    title, licence, native_size = "One file", "CC0", 8
    source = Source("published.bin", "CC0", page="the authors' page", md5=hashlib.md5(CONTENT).hexdigest())
    layouts = (Layout("file", (source,)),)

    def records(self, raw, layout):
        yield from ()


def sources_in(path) -> list[dict]:
    with tarfile.open(path) as archive:
        assert archive.getnames()[0] == SOURCES_FILE
        return json.load(archive.extractfile(SOURCES_FILE))["sources"]


def open_to_all(folder):
    """Let every account into a folder below the one for temporary files."""
    while folder != pathlib.Path(tempfile.gettempdir()) and folder != folder.parent:
        folder.chmod(0o777)
        folder = folder.parent


@contextlib.contextmanager
def without_privileges():
    """As an ordinary account, also where the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_the_raw_archive_of_the_same_sources_has_the_same_bytes(tmp_path):
    first = make_mirror(tmp_path / "one", mini_csv)
    second = make_mirror(tmp_path / "two", mini_csv)
    os.utime(second / "miniimagenet/train.csv", (1, 1))
    for name, mirror in (("a.tar", first), ("b.tar", second)):
        fetch(get("miniimagenet")(), "miniimagenet", tmp_path / name, mirror=mirror)
    assert sha256(tmp_path / "a.tar") == sha256(tmp_path / "b.tar")


def test_a_file_with_the_published_checksum_is_official_and_needs_no_list(tmp_path):
    write(tmp_path / "mirror/onefile/published.bin", CONTENT)
    fetch(OneFile(), "onefile", tmp_path / "raw.tar", mirror=tmp_path / "mirror")
    (source,) = sources_in(tmp_path / "raw.tar")
    assert source == {
        "name": "published.bin",
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "official": True,
        "origin": "mirror",
        "url": "the authors' page",
        "licence": "CC0",
    }
    assert Tree.opened(tmp_path / "raw.tar", tmp_path).read("published.bin") == CONTENT


def test_another_file_is_taken_as_the_mirrors_variant_when_the_mirror_vouches(tmp_path):
    write(tmp_path / "mirror/onefile/published.bin", b"reduced")
    vouch(tmp_path / "mirror")
    fetch(OneFile(), "onefile", tmp_path / "raw.tar", mirror=tmp_path / "mirror")
    assert sources_in(tmp_path / "raw.tar")[0]["official"] is False


def test_another_file_is_refused_when_nobody_vouches_and_the_message_says_how(tmp_path):
    write(tmp_path / "mirror/onefile/published.bin", b"reduced")
    with pytest.raises(DataError, match=OneFile.source.md5) as refusal:
        fetch(OneFile(), "onefile", tmp_path / "raw.tar", mirror=tmp_path / "mirror")
    line = str(refusal.value).splitlines()[-1].strip()
    (tmp_path / "mirror/SHA256SUMS").write_text(line + "\n")
    fetch(OneFile(), "onefile", tmp_path / "raw.tar", mirror=tmp_path / "mirror")


def test_a_file_that_differs_from_the_mirrors_own_list_is_refused(tmp_path):
    mirror = make_mirror(tmp_path / "mirror", mini_csv)
    path = mirror / "miniimagenet/images.tar"
    path.write_bytes(path.read_bytes()[:-1024])
    with pytest.raises(DataError, match="damaged or changed"):
        fetch(get("miniimagenet")(), "miniimagenet", tmp_path / "raw.tar", mirror=mirror)
    assert not (tmp_path / "raw.tar").exists()


@pytest.mark.parametrize("line", ["just-a-name.tar", f"{'0' * 63}  short.tar", f"{'0' * 64}", f"SHA256 ({'0' * 64})"])
def test_a_line_of_the_mirrors_list_that_is_no_checksum_is_named(tmp_path, line):
    write(tmp_path / "mirror/onefile/published.bin", CONTENT)
    (tmp_path / "mirror/SHA256SUMS").write_text(f"{'0' * 64} *./good.tar\n\n{line}\n")
    with pytest.raises(DataError, match=r"Line 3 of .*/mirror/SHA256SUMS is .*64 hexadecimal digits"):
        fetch(OneFile(), "onefile", tmp_path / "raw.tar", mirror=tmp_path / "mirror")


def test_a_mirror_that_is_not_there_is_an_error_and_not_a_download(tmp_path):
    with pytest.raises(DataError, match=r"data\.mirror"):
        fetch(get("cifarfs")(), "cifarfs", tmp_path / "raw.tar", mirror=tmp_path / "nowhere")


@pytest.mark.parametrize("with_mirror", [True, False])
def test_a_source_nobody_has_is_named_with_checksum_origin_and_place(tmp_path, with_mirror):
    (tmp_path / "mirror").mkdir()
    with pytest.raises(DownloadError) as error:
        fetch(OneFile(), "onefile", tmp_path / "raw.tar", mirror=tmp_path / "mirror" if with_mirror else None)
    place = tmp_path / "mirror" if with_mirror else "MIRROR"
    for part in (f"{place}/onefile", "published.bin", OneFile.source.md5, "the authors' page", "SHA256SUMS"):
        assert part in str(error.value)


def test_the_first_complete_layout_is_taken(tmp_path):
    mirror = make_mirror(
        tmp_path / "mirror", BUILDERS["miniimagenet", "RFS pickles"], BUILDERS["miniimagenet", "csv and images"]
    )
    (mirror / "miniimagenet/val.csv").unlink()
    fetch(get("miniimagenet")(), "miniimagenet", tmp_path / "raw.tar", mirror=mirror)
    assert all(source["name"].endswith(".pickle") for source in sources_in(tmp_path / "raw.tar"))


def test_the_default_comes_from_the_installed_package_whatever_the_mirror(tmp_path):
    fetch(get("doublemnist")(), "doublemnist", tmp_path / "a.tar")
    (tmp_path / "mirror").mkdir()
    fetch(get("doublemnist")(), "doublemnist", tmp_path / "b.tar", mirror=tmp_path / "mirror")
    (source,) = sources_in(tmp_path / "a.tar")
    assert source["official"] and source["origin"] == "package"
    assert sha256(tmp_path / "a.tar") == sha256(tmp_path / "b.tar")


def test_a_source_without_permission_to_read_is_an_error_that_names_it(tmp_path):
    path = tmp_path / "mirror/onefile/published.bin"
    write(path, CONTENT)
    path.chmod(0)
    open_to_all(tmp_path)
    with without_privileges(), pytest.raises(DataError, match=r"No permission to read .*published\.bin"):
        fetch(OneFile(), "onefile", tmp_path / "raw.tar", mirror=tmp_path / "mirror")


def test_a_place_without_permission_to_write_is_an_error_that_names_it(tmp_path):
    write(tmp_path / "mirror/onefile/published.bin", CONTENT)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    open_to_all(tmp_path)
    with without_privileges(), pytest.raises(ArtifactError, match="No permission to write"):
        fetch(OneFile(), "onefile", closed / "raw.tar", mirror=tmp_path / "mirror")


def test_a_full_disk_is_explained_and_leaves_nothing_behind(tmp_path):
    """The limit on file sizes stops the writing half way, as a full disk does, and without -B that of modules."""
    mirror = make_mirror(tmp_path / "mirror", mini_csv)
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "from pipeline.core.errors import DiskFullError\n"
        "from pipeline.data import get\n"
        "from pipeline.data.fetching import fetch\n"
        "try: fetch(get('miniimagenet')(), 'miniimagenet', sys.argv[1], mirror=sys.argv[2])\n"
        "except DiskFullError as error: print('explained:', error)"
    )
    out = tmp_path / "raw/mini.tar"
    command = [sys.executable, "-B", "-c", program, str(out), str(mirror)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "explained:" in answer.stdout and "free some space" in answer.stdout
    assert list(out.parent.iterdir()) == []


def test_a_folder_of_the_users_own_needs_nobody_to_vouch_for_it_and_is_not_called_official(tmp_path):
    imagenet(tmp_path / "mirror", n_classes=2)
    fetch(get("imagenet")(), "imagenet", tmp_path / "raw.tar", mirror=tmp_path / "mirror")
    sources = sources_in(tmp_path / "raw.tar")
    assert [(one["name"], one["origin"], one["official"]) for one in sources] == [
        ("train", "mirror", False), ("val", "mirror", False)
    ]  # fmt: skip


@pytest.mark.parametrize("mirror", [None, "mirror"])
def test_imagenet_is_never_downloaded_and_the_error_says_where_to_put_it(tmp_path, mirror):
    folder = tmp_path / "mirror" if mirror else None
    (tmp_path / "mirror/imagenet").mkdir(parents=True)
    with pytest.raises(DownloadError) as error:
        fetch(get("imagenet")(), "imagenet", tmp_path / "raw.tar", mirror=folder)
    said = str(error.value)
    assert f"{folder or 'MIRROR'}/imagenet" in said and "your folder train" in said and "your folder val" in said
    assert "image-net.org" in said and "SHA256SUMS" not in said
