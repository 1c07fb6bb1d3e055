"""Files inside archives inside archives, read in place.

The raw archive of a data set is a plain tar of its sources, and a source is often a tar or zip of images. A `Blob` is a
stretch of bytes on the disk, so that many processes can read single images without unpacking anything.

Archives come from the internet. No name in one ever becomes a path on the disk; names that lead out of the archive,
links, devices and whatever else is no file or folder are errors all the same, because someone else may unpack it. What
an archive may grow to is limited by its own size.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import pathlib
import re
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO

import numpy as np

from pipeline.core.artifacts import PathLike, explained_write_errors, open_array
from pipeline.core.errors import ArtifactError, DataError

FOREIGN = {b"Rar!": "a RAR archive", b"7z\xbc\xaf": "a 7-Zip archive", b"\x28\xb5\x2f\xfd": "packed by zstd"}
COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz"}
OPENERS = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}

MOST_FILES = 5_000_000
MOST_BYTES = 2**41
MOST_RATIO, FREE_BYTES = 200, 2**26
"""Limits of one archive: files, bytes once unpacked, and how many times its own size these may be. Images and arrays
shrink to a tenth at best; archives that unpack to no more than FREE_BYTES may be of any ratio."""

BLOCK = 2**20
DAMAGES = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, ValueError, LookupError,
    OverflowError, MemoryError, RecursionError, NotImplementedError, RuntimeError,
)  # fmt: skip
"""What the standard library raises for damaged archives; also OSError, where no disk or network is at fault."""

LEADS_OUT = re.compile(r"^[/\\]|^[A-Za-z]:[/\\]|(^|[/\\])\.\.($|[/\\])|\0")


class UnsafeArchiveError(DataError):
    """An archive that holds what no archive of images holds, or that unpacks to far more than it is."""


class ForeignArchiveError(DataError):
    """An archive that is whole, and packed in a way that is not read here."""


@dataclass(frozen=True)
class Blob:
    """`size` bytes of the file `path` from `offset` on; `n_bytes` once inflated when they are deflated."""

    path: str
    offset: int
    size: int
    deflated: bool = False
    n_bytes: int = 0
    crc: int | None = None

    def read(self) -> bytes:
        """All bytes. Raises DataError when they are cut short or fail their checksum."""
        with open(self.path, "rb") as file:
            content = os.pread(file.fileno(), self.size, self.offset)
        if len(content) != self.size:
            raise DataError(f"{self.path} ends too early; it is truncated.")
        if self.deflated:
            content = b"".join(self._inflated([content]))
        if self.crc is not None and zlib.crc32(content) != self.crc:
            raise DataError("the checksum inside the archive does not match")
        return content

    def _inflated(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """The bytes of deflated pieces, a few at a time and never more than announced. Raises DataError."""
        inflate, left = zlib.decompressobj(-zlib.MAX_WBITS), self.n_bytes
        for piece in pieces:
            while piece and not inflate.eof:
                try:
                    found = inflate.decompress(piece, min(BLOCK, left + 1))
                except zlib.error as error:
                    raise DataError(f"compressed data are damaged ({error})") from None
                piece, left = inflate.unconsumed_tail, left - len(found)
                if left < 0:
                    raise DataError(f"it unpacks to more than the {self.n_bytes} bytes that the archive announces")
                yield found
        if left or not inflate.eof:
            raise DataError("compressed data end too early")

    def copy_to(self, path: PathLike) -> None:
        """Write the inflated bytes to a file, a piece at a time. Raises DataError like `read`."""
        seen, crc = 0, 0
        with explained_write_errors(path), open(path, "wb") as file, self.stored() as stored:
            pieces = iter(lambda: stored.read(BLOCK), b"")
            for piece in self._inflated(pieces) if self.deflated else pieces:
                seen += len(piece)
                crc = zlib.crc32(piece, crc)
                file.write(piece)
        if seen != (self.n_bytes if self.deflated else self.size) or self.crc not in (None, crc):
            raise DataError("it is truncated, or the checksum inside the archive does not match")

    def stored(self) -> io.BufferedIOBase:
        """A seekable file over the bytes as they lie in the archive."""
        return io.BufferedReader(_Window(self.path, self.offset, self.size))


class _Window(io.RawIOBase):
    """A stretch of a file as a file of its own."""

    def __init__(self, path: str, offset: int, size: int):
        self._file = open(path, "rb")  # noqa: SIM115 - closed by close()
        self._offset, self._size, self._at = offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if at < 0:
            # as files of the disk do, which zipfile counts on
            raise OSError("a place before its beginning")
        self._at = at
        return self._at

    def readinto(self, buffer) -> int:
        content = os.pread(
            self._file.fileno(), max(0, min(len(buffer), self._size - self._at)), self._offset + self._at
        )
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)

    def close(self) -> None:
        self._file.close()
        super().close()


class Tree(Mapping):
    """File names -> Blob of an archive, or of a part of it, in the archive's order.

    Archives that are compressed, as a whole or inside a zip, are unpacked into the folder `scratch`, which the caller
    removes.
    """

    def __init__(self, blobs: dict[str, Blob], what: str, scratch: pathlib.Path):
        self._blobs, self.what, self._scratch = blobs, what, scratch

    def __getitem__(self, name: str) -> Blob:
        return self._blobs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._blobs)

    def __len__(self) -> int:
        return len(self._blobs)

    @classmethod
    def opened(cls, path: PathLike, scratch: PathLike) -> Tree:
        """The archive at `path`; what must be unpacked goes to `scratch`. Raises ArtifactError, DataError."""
        path = pathlib.Path(path)
        if not path.is_file():
            raise ArtifactError(f"{path} is missing. Run the stage that makes it.")
        try:
            path.open("rb").close()
        except PermissionError:
            raise ArtifactError(f"No permission to read {path}. Make it readable for this account.") from None
        whole = Blob(str(path), 0, path.stat().st_size)
        return cls({path.name: whole}, str(path.parent), pathlib.Path(scratch)).inside(path.name)

    @classmethod
    def holding(cls, path: PathLike, name: str, scratch: PathLike) -> Tree:
        """A file on the disk as the file `name`, or the files of a folder as those below `name`."""
        path = pathlib.Path(path)
        files = {name: path}
        if path.is_dir():
            files = {f"{name}/{one.relative_to(path).as_posix()}": one for one in sorted(path.rglob("*"))}
        blobs = {name: Blob(str(one), 0, one.stat().st_size) for name, one in files.items() if one.is_file()}
        return cls(blobs, str(path.parent), pathlib.Path(scratch))

    def under(self, folder: str) -> Tree:
        """The files below a folder, named relative to it."""
        prefix = folder.rstrip("/") + "/"
        inner = {name[len(prefix) :]: blob for name, blob in self.items() if name.startswith(prefix)}
        return Tree(inner, f"{self.what}/{folder}", self._scratch)

    def inside(self, name: str, own: str | None = None) -> Tree:
        """The files inside the archive called `name`. Raises DataError when it is damaged or no archive.

        Args:
            own: where the user keeps this archive, for messages; None for archives of a published data set.
        """
        what = own or f"{self.what}/{name}"
        blob = self[name]
        packed = blob.size
        try:
            if blob.deflated:
                blob = self._inflated(blob)
            with blob.stored() as file:
                start = file.read(262)
            if start[:4] in FOREIGN:
                raise ForeignArchiveError(f"is {FOREIGN[start[:4]]}")
            if start[:2] in COMPRESSED:
                blob = self._unpacked(blob, COMPRESSED[start[:2]], packed)
                blobs = _index_tar(blob)
            elif start[:2] == b"PK":
                blobs = _index_zip(blob)
            else:
                blobs = _index_tar(blob)
            require_harmless(blobs, packed)
        except UnsafeArchiveError as error:
            raise UnsafeArchiveError(f"{what} {error}. Do not use it; get it from a source that you trust.") from None
        except ForeignArchiveError as error:
            raise ForeignArchiveError(
                f"{what} {error}. Read are .tar, .tar.gz, .tar.bz2, .tar.xz and .zip archives without a password: "
                "unpack it, pack the files anew as one of these"
                f"{' or name the unpacked folder instead' if own else ''}, and run the same command again."
            ) from None
        except DataError as error:
            raise _damaged(what, error, own) from None
        except OSError as error:
            # a file of the disk that cannot be read has a number
            if error.errno is not None:
                raise
            raise _damaged(what, error, own) from None
        except DAMAGES as error:
            raise _damaged(what, error, own) from None
        return Tree(blobs, what, self._scratch)

    def read(self, name: str) -> bytes:
        """A file's bytes. Raises DataError naming it when it is not there or damaged."""
        if name not in self:
            raise DataError(f"{self.what} holds no file '{name}'; the archive is incomplete or of another layout.")
        try:
            return self[name].read()
        except DataError as error:
            raise DataError(f"{self.what}/{name}: {error}") from None

    def array(self, name: str) -> np.ndarray:
        """An .npy file's array, memory-mapped. Raises DataError naming it when it is not there or damaged."""
        if name not in self:
            raise DataError(f"{self.what} holds no array '{name}'; the archive is incomplete or of another layout.")
        path = self._scratch_file()
        try:
            self[name].copy_to(path)
            return open_array(path)
        except (DataError, ValueError) as error:
            raise DataError(f"{self.what}/{name} is no array that can be read: {error}") from None

    def _scratch_file(self, suffix: str = "") -> str:
        with explained_write_errors(self._scratch):
            self._scratch.mkdir(parents=True, exist_ok=True)
            handle, path = tempfile.mkstemp(dir=self._scratch, suffix=suffix)
            os.close(handle)
        return path

    def _inflated(self, blob: Blob) -> Blob:
        path = self._scratch_file()
        blob.copy_to(path)
        return Blob(path, 0, blob.n_bytes)

    def _unpacked(self, blob: Blob, packing: str, packed: int) -> Blob:
        path = self._scratch_file(".tar")
        with explained_write_errors(path), blob.stored() as stored, OPENERS[packing](stored) as content:
            pieces = _bounded(content, packed)
            with open(path, "wb") as file:
                file.writelines(pieces)
        return Blob(path, 0, os.path.getsize(path))


def unpacked(content: bytes, packing: str, what: str) -> bytes:
    """What one compressed file holds; `packing` is a value of COMPRESSED.

    Raises DataError when it is damaged or truncated, UnsafeArchiveError when it is far more than the file.
    """
    try:
        with OPENERS[packing](io.BytesIO(content)) as file:
            return b"".join(_bounded(file, len(content)))
    except UnsafeArchiveError as error:
        raise UnsafeArchiveError(f"{what} {error}. Do not use it; get it from a source that you trust.") from None
    except (*DAMAGES, OSError) as error:
        raise DataError(f"{what} cannot be unpacked ({error}); it is damaged or truncated. Fetch it again.") from None


def _damaged(what: str, error: Exception, own: str | None) -> DataError:
    remedy = "Mend it and run the same command again." if own else "Fetch it again."
    return DataError(f"{what} cannot be read as an archive ({error}); it is damaged or truncated. {remedy}")


def _bounded(content: IO[bytes], packed: int) -> Iterator[bytes]:
    """Pieces of an unpacked file whose packed size is known. Raises UnsafeArchiveError when they are too many."""
    seen = 0
    while piece := content.read(BLOCK):
        seen += len(piece)
        require_size(seen, packed)
        yield piece


def require_size(n_bytes: int, packed: int) -> None:
    """Raises UnsafeArchiveError when `packed` bytes must not unpack to `n_bytes`."""
    most = min(MOST_BYTES, max(FREE_BYTES, MOST_RATIO * packed))
    if n_bytes > most:
        raise UnsafeArchiveError(
            f"unpacks to more than {most / 2**20:.0f} MiB, though it has only {packed / 2**20:.2f} MiB; images do not "
            "shrink like that"
        )


def require_harmless(blobs: Mapping[str, Blob], packed: int) -> None:
    """Raises UnsafeArchiveError for too many files or bytes, and for names that lead out of the archive."""
    for name in blobs:
        _require_inside(name, "file")
    require_size(sum(blob.n_bytes if blob.deflated else blob.size for blob in blobs.values()), packed)


def _require_inside(name: str, what: str) -> None:
    if LEADS_OUT.search(name):
        raise UnsafeArchiveError(f"holds a {what} called {name!r}, a name that leads out of the archive")


def _require_count(found: Mapping[str, Blob]) -> None:
    if len(found) > MOST_FILES:
        raise UnsafeArchiveError(f"holds more than {MOST_FILES:,} files")


def _index_tar(blob: Blob) -> dict[str, Blob]:
    found: dict[str, Blob] = {}
    with blob.stored() as file, tarfile.open(fileobj=file, mode="r:") as archive:
        last = -1
        for member in archive:
            # the standard library follows a negative size backwards, without end
            if member.offset <= last or member.size < 0 or member.offset_data + member.size > blob.size:
                raise tarfile.TarError("its files lie over each other")
            last = member.offset
            name = member.name.removeprefix("./")
            if member.isdir():
                _require_inside(name, "folder")
                continue
            if member.islnk() and member.linkname.removeprefix("./") in found:
                found[name] = found[member.linkname.removeprefix("./")]
            elif not member.isreg() or member.issparse():
                raise UnsafeArchiveError(f"holds {member.name!r}, which is {_special(member)} and no file")
            else:
                found[name] = Blob(blob.path, blob.offset + member.offset_data, member.size)
            _require_count(found)
        # an archive that is cut between two files looks whole but for the empty block at its end
        file.seek(archive.offset)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise EOFError("its end is missing")
    return found


def _special(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return f"a link to {member.linkname!r}"
    return "a sparse file" if member.issparse() else "a device, a pipe or something unknown"


def _opened_zip(file: IO[bytes]) -> zipfile.ZipFile:
    """Raises BadZipFile, in words that say what is amiss, where the list of files at the end is not there."""
    if not zipfile.is_zipfile(file):
        raise zipfile.BadZipFile("the list of its files, which a zip has at its end, is missing")
    return zipfile.ZipFile(file)


def _index_zip(blob: Blob) -> dict[str, Blob]:
    found = {}
    with blob.stored() as file, _opened_zip(file) as archive:
        for member in archive.infolist():
            mode = member.external_attr >> 16
            if member.is_dir():
                _require_inside(member.filename, "folder")
                continue
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                raise UnsafeArchiveError(f"holds {member.filename!r}, which is a link or a device and no file")
            if member.flag_bits & 1:
                raise ForeignArchiveError(f"holds {member.filename!r}, which is encrypted")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ForeignArchiveError(f"holds {member.filename!r}, which is compressed in an unusual way")
            file.seek(member.header_offset + 26)
            name_length, extra_length = struct.unpack("<HH", file.read(4))
            found[member.filename] = Blob(
                path=blob.path,
                offset=blob.offset + member.header_offset + 30 + name_length + extra_length,
                size=member.compress_size,
                deflated=member.compress_type == zipfile.ZIP_DEFLATED,
                n_bytes=member.file_size,
                crc=member.CRC,
            )
            _require_count(found)
    places = sorted((one.offset, one.offset + one.size) for one in found.values())
    ends = [*(start for start, _ in places[1:]), blob.offset + blob.size]
    if any(stop > limit for (_, stop), limit in zip(places, ends, strict=False)):
        raise UnsafeArchiveError("holds files that lie over each other")
    return found
