"""Files inside archives inside archives are read in place."""

import io
import zipfile

import numpy as np
import pytest

from pipeline.core.errors import ArtifactError, DataError
from pipeline.data.archives import Tree
from tests.data.tiny_sources import write_tar, write_zip

FILES = {"images/a.bin": bytes(range(256)) * 40, "images/deep/b.bin": b"", "c.txt": b"text " * 5000}


def nested(tmp_path, name, writer):
    """An archive called `name` inside a tar."""
    writer(tmp_path / name, FILES)
    write_tar(tmp_path / "raw.tar", {"note": b"x", name: (tmp_path / name).read_bytes(), "after": b"y"})
    return Tree.opened(tmp_path / "raw.tar", tmp_path / "scratch")


WRITERS = {
    "inner.tar": write_tar,
    "inner.tar.gz": lambda path, files: write_tar(path, files, "w:gz"),
    "inner.tar.bz2": lambda path, files: write_tar(path, files, "w:bz2"),
    "inner.tar.xz": lambda path, files: write_tar(path, files, "w:xz"),
    "inner.zip": write_zip,
}


@pytest.mark.parametrize("name", WRITERS)
def test_an_archive_inside_an_archive_gives_back_every_file(name, tmp_path):
    inner = nested(tmp_path, name, WRITERS[name]).inside(name)
    assert {file: inner.read(file) for file in inner} == FILES
    assert {file: inner[file].open().read() for file in inner} == FILES
    assert dict(inner.under("images")).keys() == {"a.bin", "deep/b.bin"}


@pytest.mark.parametrize("name", WRITERS)
def test_a_truncated_inner_archive_is_an_error_that_names_it(name, tmp_path):
    WRITERS[name](tmp_path / name, FILES)
    cut = (tmp_path / name).read_bytes()
    write_tar(tmp_path / "raw.tar", {name: cut[: len(cut) * 2 // 3]})
    tree = Tree.opened(tmp_path / "raw.tar", tmp_path / "scratch")
    with pytest.raises(DataError, match=name):
        inner = tree.inside(name)
        [inner.read(file) for file in inner]


def test_a_truncated_raw_archive_is_an_error(tmp_path):
    write_tar(tmp_path / "raw.tar", FILES)
    content = (tmp_path / "raw.tar").read_bytes()
    (tmp_path / "raw.tar").write_bytes(content[:9000])
    with pytest.raises(DataError, match="truncated"):
        Tree.opened(tmp_path / "raw.tar", tmp_path / "scratch")


def test_a_damaged_file_in_a_zip_is_noticed(tmp_path):
    write_zip(tmp_path / "raw.zip", FILES)
    content = bytearray((tmp_path / "raw.zip").read_bytes())
    content[60] ^= 0xFF
    (tmp_path / "raw.zip").write_bytes(bytes(content))
    tree = Tree.opened(tmp_path / "raw.zip", tmp_path / "scratch")
    with pytest.raises(DataError, match="a.bin"):
        tree.read("images/a.bin")


def test_a_missing_file_is_an_error_that_names_it(tmp_path):
    tree = nested(tmp_path, "inner.zip", write_zip)
    with pytest.raises(DataError, match="no file 'nothing'"):
        tree.read("nothing")
    with pytest.raises(ArtifactError, match="missing"):
        Tree.opened(tmp_path / "nothing.tar", tmp_path)


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_array_in_an_archive_is_memory_mapped(packing, tmp_path):
    array = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    file = io.BytesIO()
    np.save(file, array)
    with zipfile.ZipFile(tmp_path / "arrays.npz", "w", packing) as archive:
        archive.writestr("images.npy", file.getvalue())
        archive.writestr("broken.npy", file.getvalue()[:100])
    tree = Tree.opened(tmp_path / "arrays.npz", tmp_path / "scratch")
    found = tree.array("images.npy")
    assert isinstance(found, np.memmap) and (found == array).all()
    with pytest.raises(DataError, match="broken.npy"):
        tree.array("broken.npy")
    with pytest.raises(DataError, match="no array 'absent.npy'"):
        tree.array("absent.npy")
