"""Downloads, from a real server on this machine."""

import hashlib
import http.server
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import pipeline.data.downloading as downloading
from pipeline.core.errors import DownloadError
from pipeline.data.base import Dataset, Layout, Source
from pipeline.data.downloading import download
from pipeline.data.fetching import fetch

CONTENT = bytes(range(256)) * 2000


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT; the path says how badly."""

    protocol_version = "HTTP/1.1"
    asked: list

    def log_message(self, *arguments):
        """Keep the test's output clean."""

    def do_GET(self):
        start = int(self.headers.get("Range", "bytes=0-").split("=")[1].rstrip("-"))
        self.asked.append((self.path, start))
        if self.path == "/gone":
            return self.send_error(404, "Not Found")
        if self.path == "/page":
            return self.answer(200, b"<html>please log in</html>", "text/html")
        ranges = self.path != "/noranges"
        if ranges and start >= len(CONTENT):
            return self.send_error(416)
        body = CONTENT[start:] if ranges else CONTENT
        times = sum(path == self.path for path, _ in self.asked)
        cut = (self.path in ("/breaks", "/noranges") and times < 3) or self.path == "/alwaysbreaks"
        self.answer(206 if ranges and start else 200, body, "application/octet-stream", len(body) // 2 if cut else None)

    def answer(self, status, body, kind, keep=None):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:keep])
        if keep is not None:
            self.close_connection = True


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(downloading, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(downloading, "BLOCK", 2**14)
    handler = type("Handler", (Server,), {"asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", handler.asked
        running.shutdown()


def source_at(address, path, content=CONTENT, **facts):
    facts = {"md5": hashlib.md5(content).hexdigest(), "n_bytes": len(content)} | facts
    return Source("file.bin", "CC0", url=f"{address}/{path}", page="the authors' page", **facts)


def test_a_file_is_fetched_whole_and_only_once(server, tmp_path):
    address, asked = server
    for _ in range(2):
        found = download(source_at(address, "fine"), tmp_path)
        assert found.path.read_bytes() == CONTENT and found.official
    assert asked == [("/fine", 0)]


def test_a_broken_connection_is_taken_up_where_it_broke(server, tmp_path):
    address, asked = server
    assert download(source_at(address, "breaks"), tmp_path).path.read_bytes() == CONTENT
    starts = [start for _, start in asked]
    assert starts[0] == 0 and starts == sorted(set(starts)) and len(starts) == 3


def test_a_later_call_takes_up_an_interrupted_one(server, tmp_path):
    address, asked = server
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:1000])
    assert download(source_at(address, "fine"), tmp_path).path.read_bytes() == CONTENT
    assert asked == [("/fine", 1000)]


def test_a_server_that_cannot_resume_is_asked_for_the_whole_again(server, tmp_path):
    address, _ = server
    assert download(source_at(address, "noranges"), tmp_path).path.read_bytes() == CONTENT


def test_without_a_published_checksum_nothing_is_pieced_together(server, tmp_path):
    address, asked = server
    (tmp_path / "file.bin.part").write_bytes(b"of another release")
    found = download(source_at(address, "fine", md5=None), tmp_path)
    assert found.path.read_bytes() == CONTENT and asked == [("/fine", 0)]


def test_a_part_that_is_longer_than_the_file_is_thrown_away(server, tmp_path):
    address, _ = server
    (tmp_path / "file.bin.part").write_bytes(CONTENT + b"more")
    assert download(source_at(address, "fine"), tmp_path).path.read_bytes() == CONTENT


def test_a_wrong_checksum_is_an_error_and_the_file_is_thrown_away(server, tmp_path):
    address, _ = server
    wanted = source_at(address, "fine", content=b"something else")
    with pytest.raises(DownloadError, match=wanted.md5):
        download(wanted, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "reason"), [("gone", "Not Found"), ("page", "a web page came"), ("alwaysbreaks", "ended")]
)
def test_what_cannot_be_had_is_an_error_that_says_what_is_wanted(server, tmp_path, path, reason):
    address, _ = server
    wanted = source_at(address, path)
    with pytest.raises(DownloadError, match=reason) as error:
        download(wanted, tmp_path)
    assert wanted.md5 in str(error.value) and "local mirror" in str(error.value)
    assert not (tmp_path / "file.bin").exists()


def test_a_server_that_is_not_there_is_an_error(server, tmp_path):
    with pytest.raises(DownloadError, match="cannot be downloaded"):
        download(source_at("http://127.0.0.1:9", "fine"), tmp_path)


class OneFile(Dataset):
    """A data set of one file, which comes slowly."""

    name = "onefile"
    title, licence, native_size = "One file", "CC0", 8

    def __init__(self, source):
        self.layouts = (Layout("file", (source,)),)

    def records(self, raw, layout):
        yield from ()


@pytest.mark.parametrize("facts", [{}, {"md5": None}])
def test_of_two_fetches_of_the_same_file_one_waits_and_both_get_it_whole(facts, server, tmp_path, monkeypatch):
    address, _ = server
    real = downloading._continue

    def slowly(source, part):
        part.write_bytes(CONTENT[:1000])
        time.sleep(0.3)
        part.unlink()
        return real(source, part)

    monkeypatch.setattr(downloading, "_continue", slowly)
    out = tmp_path / "raw.tar"
    with ThreadPoolExecutor() as both:
        dataset = OneFile(source_at(address, "fine", **facts))
        ends = [both.submit(fetch, dataset, "onefile", out) for _ in range(2)]
    for end in ends:
        end.result()
    with tarfile.open(out) as archive:
        assert archive.extractfile("file.bin").read() == CONTENT
    assert sorted(path.name for path in tmp_path.rglob("*")) == [".downloads", "raw.tar"]
