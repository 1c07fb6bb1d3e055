"""Files inside archives inside archives, read in place.

The raw archive of a data set is a plain tar of its sources, and a source is often a tar or zip of images. A `Blob` is a
stretch of bytes on the disk, so that many processes can read single images without unpacking anything.
"""

from __future__ import annotations

import gzip
import io
import os
import pathlib
import shutil
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.core.artifacts import PathLike, explained_write_errors
from pipeline.core.errors import ArtifactError, DataError

COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz"}
DEFLATE = 8


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
            try:
                content = zlib.decompress(content, -zlib.MAX_WBITS)
            except zlib.error as error:
                raise DataError(f"compressed data are damaged ({error})") from None
        if self.crc is not None and zlib.crc32(content) != self.crc:
            raise DataError("the checksum inside the archive does not match")
        return content

    def copy_to(self, path: PathLike) -> None:
        """Write the inflated bytes to a file, a piece at a time. Raises DataError like `read`."""
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        seen, crc = 0, 0
        window = _Window(self.path, self.offset, self.size)
        with explained_write_errors(path), open(path, "wb") as file, window as stored:
            while piece := stored.read(2**20):
                seen += len(piece)
                try:
                    piece = inflate.decompress(piece) if self.deflated else piece
                except zlib.error as error:
                    raise DataError(f"compressed data are damaged ({error})") from None
                crc = zlib.crc32(piece, crc)
                file.write(piece)
            file.write(inflate.flush() if self.deflated else b"")
        if seen != self.size or self.crc not in (None, crc):
            raise DataError("it is truncated, or the checksum inside the archive does not match")

    def open(self) -> io.BufferedIOBase:
        """A seekable file over the stored bytes."""
        if self.deflated:
            return io.BytesIO(self.read())
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
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
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

    Archives that are compressed as a whole are unpacked into the folder `scratch`, which the caller removes.
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
        try:
            with blob.open() as file:
                start = file.read(262)
            if start[:2] in COMPRESSED:
                blob = self._unpacked(blob, COMPRESSED[start[:2]])
                blobs = _index_tar(blob)
            elif start[:2] == b"PK":
                blobs = _index_zip(blob)
            else:
                blobs = _index_tar(blob)
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, gzip.BadGzipFile, struct.error) as error:
            remedy = "Mend it and run the same command again." if own else "Fetch it again."
            raise DataError(
                f"{what} cannot be read as an archive ({error}); it is damaged or truncated. {remedy}"
            ) from None
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
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except (DataError, ValueError, EOFError) as error:
            raise DataError(f"{self.what}/{name} is no array that can be read: {error}") from None

    def _scratch_file(self, suffix: str = "") -> str:
        with explained_write_errors(self._scratch):
            self._scratch.mkdir(parents=True, exist_ok=True)
            handle, path = tempfile.mkstemp(dir=self._scratch, suffix=suffix)
            os.close(handle)
        return path

    def _unpacked(self, blob: Blob, packing: str) -> Blob:
        import bz2
        import lzma

        opener = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}[packing]
        path = self._scratch_file(".tar")
        with explained_write_errors(path), blob.open() as stored, opener(stored) as content:
            try:
                with open(path, "wb") as file:
                    shutil.copyfileobj(content, file, 2**20)
            except lzma.LZMAError as error:
                raise EOFError(str(error)) from None
        return Blob(path, 0, os.path.getsize(path))


def _index_tar(blob: Blob) -> dict[str, Blob]:
    with blob.open() as file, tarfile.open(fileobj=file, mode="r:") as archive:
        found = {
            member.name.removeprefix("./"): Blob(blob.path, blob.offset + member.offset_data, member.size)
            for member in archive
            if member.isreg()
        }
        # an archive that is cut between two files looks whole but for the empty block at its end
        file.seek(archive.offset)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise EOFError("its end is missing")
    return found


def _index_zip(blob: Blob) -> dict[str, Blob]:
    found = {}
    with blob.open() as file, zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            if member.is_dir():
                continue
            if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise zipfile.BadZipFile(f"'{member.filename}' is encrypted or compressed in an unusual way")
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
    return found
