"""Files inside archives inside archives are read in place."""

import gzip
import io
import os
import stat
import struct
import tarfile
import zipfile

import numpy as np
import pytest

from pipeline.core.errors import ArtifactError, DataError
from pipeline.data import archives
from pipeline.data.archives import Blob, Tree, UnsafeArchiveError, unpacked
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
    assert dict(inner.under("images")).keys() == {"a.bin", "deep/b.bin"}


@pytest.mark.parametrize("name", WRITERS)
def test_an_archive_that_a_zip_deflated_is_unpacked_on_the_disk_and_not_in_memory(name, tmp_path, monkeypatch):
    WRITERS[name](tmp_path / name, FILES)
    write_zip(tmp_path / "raw.zip", {"note": b"x", name: (tmp_path / name).read_bytes()})
    tree = Tree.opened(tmp_path / "raw.zip", tmp_path / "scratch")
    assert tree[name].deflated
    with monkeypatch.context() as patch:
        patch.setattr(Blob, "read", lambda blob: pytest.fail("it was read as a whole"))
        inner = tree.inside(name)
    assert {file: inner.read(file) for file in inner} == FILES


@pytest.mark.parametrize("name", WRITERS)
def test_a_damaged_archive_that_a_zip_deflated_is_an_error_that_names_it(name, tmp_path):
    WRITERS[name](tmp_path / name, FILES)
    write_zip(tmp_path / "raw.zip", {name: (tmp_path / name).read_bytes()})
    content = bytearray((tmp_path / "raw.zip").read_bytes())
    content[len(content) // 3] ^= 0xFF
    (tmp_path / "raw.zip").write_bytes(content)
    with pytest.raises(DataError, match=f"{name} cannot be read as an archive"):
        Tree.opened(tmp_path / "raw.zip", tmp_path / "scratch").inside(name)


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


def test_a_zip_that_is_cut_off_is_told_in_words(tmp_path):
    write_zip(tmp_path / "x.zip", FILES)
    content = (tmp_path / "x.zip").read_bytes()
    (tmp_path / "x.zip").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"the list of its files, .* is missing\); it is damaged or truncated"):
        Tree.opened(tmp_path / "x.zip", tmp_path / "scratch")


def test_an_empty_zip_is_read_as_one_without_files(tmp_path):
    write_zip(tmp_path / "x.zip", {})
    assert len(Tree.opened(tmp_path / "x.zip", tmp_path / "scratch")) == 0


@pytest.mark.parametrize("kind", ["encrypted", "LZMA", "RAR", "7-Zip", "zstd"])
def test_an_archive_that_is_whole_and_packed_otherwise_is_no_damaged_one(kind, tmp_path):
    path = tmp_path / "x.zip"
    heads = {"RAR": b"Rar!\x1a\x07\x01\x00", "7-Zip": b"7z\xbc\xaf\x27\x1c", "zstd": b"\x28\xb5\x2f\xfd"}
    if kind in heads:
        path.write_bytes(heads[kind] + bytes(600))
    else:
        packing = zipfile.ZIP_LZMA if kind == "LZMA" else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(path, "w", packing) as archive:
            archive.writestr("a.png", b"pixels")
        content = bytearray(path.read_bytes())
        content[content.index(b"PK\x01\x02") + 8] |= kind == "encrypted"
        path.write_bytes(bytes(content))
    said = {
        "encrypted": "holds 'a.png', which is encrypted",
        "LZMA": "holds 'a.png', which is compressed in an unusual",
    }
    with pytest.raises(
        DataError, match=rf"x\.zip {said.get(kind, 'is .*' + kind)}.*unpack it, pack the files anew"
    ) as error:
        Tree.opened(path, tmp_path / "scratch")
    assert "damaged" not in str(error.value)


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


UNSAFE = [
    "../outside.png",
    "a/../../outside.png",
    "/etc/outside.png",
    "a\\..\\..\\outside.png",
    "C:\\outside.png",
    "a/..",
]


def tar_of(path, *members: tarfile.TarInfo) -> str:
    with tarfile.open(path, "w") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname, found.size = kind, link, size
    return found


@pytest.mark.parametrize("name", UNSAFE)
def test_a_name_that_leads_out_of_an_archive_is_refused_in_a_tar_and_in_a_zip(name, tmp_path):
    tar_of(tmp_path / "x.tar", member("a/good.png"), member(name))
    write_zip(tmp_path / "x.zip", {"a/good.png": b"", name: b"x"})
    for archive in ("x.tar", "x.zip"):
        with pytest.raises(UnsafeArchiveError, match="leads out of the archive.*trust"):
            Tree.opened(tmp_path / archive, tmp_path / "scratch")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.tar", "x.zip"]


@pytest.mark.parametrize("name", ["../../evil", "/etc", "a/../../evil", "a\\..\\..\\evil"])
def test_an_empty_folder_whose_name_leads_out_is_refused_too(name, tmp_path):
    tar_of(tmp_path / "x.tar", member("a/good.png"), member(name, tarfile.DIRTYPE))
    write_zip(tmp_path / "x.zip", {"a/good.png": b"", f"{name}/": b""})
    for archive in ("x.tar", "x.zip"):
        with pytest.raises(UnsafeArchiveError, match="holds a folder called .*leads out of the archive"):
            Tree.opened(tmp_path / archive, tmp_path / "scratch")


def test_an_archive_of_the_folder_one_stands_in_is_read(tmp_path):
    folders = (member("./", tarfile.DIRTYPE), member("./a/", tarfile.DIRTYPE))
    assert list(Tree.opened(tar_of(tmp_path / "x.tar", *folders, member("./a/x.png")), tmp_path)) == ["a/x.png"]


@pytest.mark.parametrize("name", ["..hidden.png", "a..b/c...png", "a/.b/..c.png", "C:x.png"])
def test_names_with_dots_that_lead_nowhere_are_names(name, tmp_path):
    assert list(Tree.opened(tar_of(tmp_path / "x.tar", member(f"./{name}")), tmp_path)) == [name]


@pytest.mark.parametrize(
    "kind, word",
    [
        (tarfile.SYMTYPE, "a link to '/etc/passwd'"),
        (tarfile.LNKTYPE, "a link to '/etc/passwd'"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a pipe"),
        (tarfile.GNUTYPE_SPARSE, "a sparse file"),
        (b"Z", "something unknown"),
    ],
)
def test_links_devices_and_the_like_are_refused_by_name(kind, word, tmp_path):
    tar_of(tmp_path / "x.tar", member("cats/a.png"), member("cats/odd.png", kind, "/etc/passwd"))
    with pytest.raises(UnsafeArchiveError, match=f"'cats/odd.png', which is .*{word}"):
        Tree.opened(tmp_path / "x.tar", tmp_path / "scratch")


def test_a_link_in_a_zip_is_refused(tmp_path):
    link = zipfile.ZipInfo("cats/odd.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(UnsafeArchiveError, match="'cats/odd.png', which is a link"):
        Tree.opened(tmp_path / "x.zip", tmp_path / "scratch")


def test_a_picture_that_tar_stored_once_for_two_names_is_read_under_both(tmp_path):
    (tmp_path / "first").write_bytes(b"pixels")
    os.link(tmp_path / "first", tmp_path / "second")
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(tmp_path / "first", "first")
        archive.add(tmp_path / "second", "second")
        assert archive.getmember("second").islnk()
    tree = Tree.opened(tmp_path / "x.tar", tmp_path / "scratch")
    assert {name: tree.read(name) for name in tree} == {"first": b"pixels", "second": b"pixels"}


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_an_archive_that_unpacks_to_far_more_than_it_is_is_given_up_on_the_way(mode, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "FREE_BYTES", 2**20)
    write_tar(tmp_path / "x.tar", {"a.png": bytes(2**23)}, mode)
    with pytest.raises(UnsafeArchiveError, match=r"x\.tar unpacks to more than . MiB, though it has only"):
        Tree.opened(tmp_path / "x.tar", tmp_path / "scratch")
    assert sum(path.stat().st_size for path in (tmp_path / "scratch").iterdir()) <= 2**21


def test_small_archives_may_be_of_any_ratio(tmp_path):
    write_tar(tmp_path / "x.tar", {"a.png": bytes(2**21)}, "w:xz")
    assert (tmp_path / "x.tar").stat().st_size * archives.MOST_RATIO < 2**21
    assert Tree.opened(tmp_path / "x.tar", tmp_path / "scratch").read("a.png") == bytes(2**21)


def test_a_zip_that_announces_far_more_than_it_is_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "FREE_BYTES", 2**20)
    write_zip(tmp_path / "x.zip", {"a.png": bytes(2**23)})
    with pytest.raises(UnsafeArchiveError, match="unpacks to more than"):
        Tree.opened(tmp_path / "x.zip", tmp_path / "scratch")


def zip_with(path, name: str, field: int, value: bytes) -> None:
    """A deflated zip of 4 MiB whose central directory has another value from byte `field` on."""
    write_zip(path, {name: bytes(2**22)})
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02") + field
    content[at : at + len(value)] = value
    path.write_bytes(bytes(content))


def test_a_file_that_unpacks_to_more_than_its_zip_announces_stops_there(tmp_path):
    zip_with(tmp_path / "x.zip", "a.npy", 24, struct.pack("<I", 1000))
    tree = Tree.opened(tmp_path / "x.zip", tmp_path / "scratch")
    for read in (tree.read, tree.array):
        with pytest.raises(DataError, match="unpacks to more than the 1000 bytes"):
            read("a.npy")


def test_files_of_a_zip_that_share_their_bytes_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(2**20))
        archive.filelist.append(zipfile.ZipInfo("b.png"))
        for slot in ("header_offset", "compress_size", "file_size", "CRC", "compress_type"):
            setattr(archive.filelist[1], slot, getattr(archive.filelist[0], slot))
    with pytest.raises(UnsafeArchiveError, match="lie over each other"):
        Tree.opened(tmp_path / "x.zip", tmp_path / "scratch")


def test_a_negative_size_in_a_tar_does_not_lead_in_circles(tmp_path):
    odd = member("a.png")
    header = bytearray(odd.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = (-1024).to_bytes(12, "big", signed=True)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "x.tar").write_bytes(bytes(header) + bytes(10240))
    with pytest.raises(DataError, match=r"x\.tar"):
        Tree.opened(tmp_path / "x.tar", tmp_path / "scratch")


def test_too_many_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MOST_FILES", 3)
    write_tar(tmp_path / "x.tar", {f"{i}.png": b"" for i in range(4)})
    write_zip(tmp_path / "x.zip", {f"{i}.png": b"" for i in range(4)})
    for name in ("x.tar", "x.zip"):
        with pytest.raises(UnsafeArchiveError, match="more than 3 files"):
            Tree.opened(tmp_path / name, tmp_path / "scratch")


@pytest.mark.parametrize("name", ["inner.tar.gz", "inner.tar.bz2", "inner.tar.xz"])
def test_a_packed_archive_with_a_changed_byte_is_an_error_that_names_it(name, tmp_path):
    WRITERS[name](tmp_path / name, FILES)
    content = bytearray((tmp_path / name).read_bytes())
    content[len(content) // 2] ^= 0x40
    (tmp_path / name).write_bytes(bytes(content))
    with pytest.raises(DataError, match=name):
        Tree.opened(tmp_path / name, tmp_path / "scratch")


def test_a_single_packed_file_is_bounded_and_its_damage_named(monkeypatch):
    packed = gzip.compress(bytes(2**22))
    assert unpacked(packed, "gzip", "digits.gz") == bytes(2**22)
    with pytest.raises(DataError, match=r"digits\.gz cannot be unpacked"):
        unpacked(packed[:-9], "gzip", "digits.gz")
    monkeypatch.setattr(archives, "FREE_BYTES", 2**20)
    with pytest.raises(UnsafeArchiveError, match=r"digits\.gz unpacks to more than"):
        unpacked(packed, "gzip", "digits.gz")


def test_an_archive_of_arrays_or_a_pickle_is_no_array(tmp_path):
    packed = io.BytesIO()
    np.savez(packed, x=np.arange(3))
    objects = io.BytesIO()
    np.save(objects, np.array([{}, None], dtype=object))
    write_zip(tmp_path / "x.zip", {"npz.npy": packed.getvalue(), "objects.npy": objects.getvalue()})
    tree = Tree.opened(tmp_path / "x.zip", tmp_path / "scratch")
    for name in tree:
        with pytest.raises(DataError, match=f"{name} is no array"):
            tree.array(name)
