"""Files from their official addresses: resumed after an interruption, checked, whole or absent."""

from __future__ import annotations

import http.client
import os
import pathlib
import time
import urllib.error
import urllib.request

from pipeline.core.artifacts import explained_write_errors
from pipeline.core.errors import DownloadError
from pipeline.core.progress import say, track
from pipeline.data.fetching import Found, checksums, matches, published

ATTEMPTS = 4
TIMEOUT_SECONDS = 60
PATIENCE_SECONDS = 2.0  # before the second attempt; doubled for each one after it
BLOCK = 2**20
# what a line that breaks or stalls raises
INTERRUPTIONS = (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError)
FOR_GOOD = (400, 401, 403, 404, 410)


class ShortReadError(ConnectionError):
    """The connection ended before the file did."""


def download(source, folder: pathlib.Path) -> Found:
    """Fetch a source into `folder`, or find it there from an earlier call; no two may do so at once.

    Raises:
        DownloadError: no connection, no such file, or not the published content; says what to do instead.
        DiskFullError, ArtifactError: the file cannot be written.
    """
    whole = folder / source.name
    part = whole.with_name(whole.name + ".part")
    if not whole.exists():
        with explained_write_errors(part):
            folder.mkdir(parents=True, exist_ok=True)
        _receive(source, part)
        os.replace(part, whole)
    seen = checksums(whole)
    if has_checksum(source) and not matches(source, seen):
        size = whole.stat().st_size
        whole.unlink()
        raise DownloadError(
            f"{source.url} gave {size} bytes with MD5 {seen['md5']} and SHA-256 {seen['sha256']}, but "
            f"{published(source)} is published{_of_size(source)}. The file was thrown away; try again."
        )
    return Found(source, whole, source.name, source.url, True, seen["sha256"])


def has_checksum(source) -> bool:
    return bool(source.md5 or source.sha256 or source.hash_end)


def _of_size(source) -> str:
    return f" for {source.n_bytes} bytes" if source.n_bytes else ""


def _receive(source, part: pathlib.Path) -> None:
    """Fill `part`, trying again after interruptions."""
    if not has_checksum(source):
        # nothing would tell whether two halves belong together
        part.unlink(missing_ok=True)
    for attempt in range(ATTEMPTS):
        try:
            return _continue(source, part)
        except INTERRUPTIONS as error:
            reason = getattr(error, "reason", None) or error
            code = error.code if isinstance(error, urllib.error.HTTPError) else None
            if code in FOR_GOOD or attempt == ATTEMPTS - 1:
                raise DownloadError(
                    f"{source.url} cannot be downloaded ({reason}). Wanted: {source.name} ({published(source)}"
                    f"{_of_size(source)}). Check the connection and run the same command again"
                    f"{' (it goes on where it stopped)' if part.exists() else ''}, or use a local mirror."
                ) from None
            if code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                part.unlink(missing_ok=True)
            say(f"{source.name}: {reason}; trying again")
            time.sleep(PATIENCE_SECONDS * 2**attempt)


def _continue(source, part: pathlib.Path) -> None:
    """One connection: from the end of `part` on, where the server can do that."""
    done = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "few-shot-nas"} | ({"Range": f"bytes={done}-"} if done else {})
    request = urllib.request.Request(source.url, headers=headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
        if answer.headers.get_content_type() == "text/html":
            raise urllib.error.HTTPError(source.url, 403, "a web page came instead of the file", answer.headers, None)
        resumed = answer.status == http.HTTPStatus.PARTIAL_CONTENT
        done = done if resumed else 0
        left = answer.headers.get("Content-Length")
        total = done + int(left) if left is not None else source.n_bytes
        with explained_write_errors(part), open(part, "ab" if resumed else "wb") as file:
            n_blocks = -(-total // BLOCK) if total else None
            for block in track(iter(lambda: answer.read(BLOCK), b""), source.name, total=n_blocks, done=done // BLOCK):
                file.write(block)
            received = file.tell()
    if total is not None and received < total:
        raise ShortReadError(f"the connection ended after {received} of {total} bytes")
