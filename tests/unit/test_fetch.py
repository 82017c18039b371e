import hashlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from discern.data.fetch import cached_path, fetch
from discern.errors import DownloadError

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT at any path; paths choose what goes wrong."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, str | None]] = []

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        span = self.headers.get("Range")
        first_time = not any(path == self.path for path, _ in self.server.requests)
        self.server.requests.append((self.path, span))
        match = re.fullmatch(r"bytes=(\d+)-", span or "")
        start = int(match[1]) if match and "norange" not in self.path else 0
        if "missing" in self.path:
            self.send_error(404)
            return
        if "busy" in self.path and first_time:
            self.send_error(503)
            return
        if start >= len(CONTENT):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
            self.end_headers()
            return
        body = bytes(len(CONTENT)) if "wrong" in self.path else CONTENT
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        end = 300_000 if "cut" in self.path and first_time else len(body)
        self.wfile.write(body[start:end])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def get(server: Server, downloads: Path, *paths: str, offline: bool = False, sha256: str = SHA256) -> Path:
    return fetch([server.url(path) for path in paths], sha256, downloads, offline=offline, backoff=0)


def test_it_is_fetched_once(server: Server, tmp_path: Path) -> None:
    path = get(server, tmp_path, "/a/birds.tar?version=2")
    assert path.name == f"{SHA256[:12]}-birds.tar"
    assert path.read_bytes() == CONTENT
    assert get(server, tmp_path, "/a/birds.tar?version=2") == path
    assert get(server, tmp_path, "/a/birds.tar", offline=True) == path
    assert len(server.requests) == 1
    assert not path.with_name(path.name + ".part").exists()


def test_a_cut_connection_is_resumed_where_it_broke(server: Server, tmp_path: Path) -> None:
    assert get(server, tmp_path, "/cut.tar").read_bytes() == CONTENT
    assert server.requests == [("/cut.tar", None), ("/cut.tar", "bytes=300000-")]


def test_a_part_of_an_earlier_run_is_resumed(server: Server, tmp_path: Path) -> None:
    part = cached_path(server.url("/x.tar"), SHA256, tmp_path).with_suffix(".tar.part")
    part.write_bytes(CONTENT[:1000])
    assert get(server, tmp_path, "/x.tar").read_bytes() == CONTENT
    assert server.requests == [("/x.tar", "bytes=1000-")]


def test_a_whole_part_is_only_checked(server: Server, tmp_path: Path) -> None:
    part = cached_path(server.url("/x.tar"), SHA256, tmp_path).with_suffix(".tar.part")
    part.write_bytes(CONTENT)
    assert get(server, tmp_path, "/x.tar").read_bytes() == CONTENT


@pytest.mark.parametrize("stale", [b"another version", b"longer" * 400_000])
def test_a_part_of_another_version_is_fetched_anew(server: Server, tmp_path: Path, stale: bytes) -> None:
    part = cached_path(server.url("/x.tar"), SHA256, tmp_path).with_suffix(".tar.part")
    part.write_bytes(stale)
    assert get(server, tmp_path, "/x.tar").read_bytes() == CONTENT


def test_a_server_without_ranges_sends_all_again(server: Server, tmp_path: Path) -> None:
    assert get(server, tmp_path, "/cut-norange.tar").read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    assert get(server, tmp_path, "/busy.tar").read_bytes() == CONTENT
    assert len(server.requests) == 2


@pytest.mark.parametrize("first", ["/missing.tar", "/wrong.tar"])
def test_the_next_mirror_is_used(server: Server, tmp_path: Path, first: str) -> None:
    assert get(server, tmp_path, first, "/mirror.tar").read_bytes() == CONTENT


def test_a_server_that_is_not_there_leads_to_the_mirror(server: Server, tmp_path: Path) -> None:
    urls = ["http://127.0.0.1:1/x.tar", server.url("/x.tar")]
    assert fetch(urls, SHA256, tmp_path, backoff=0).read_bytes() == CONTENT


def test_what_went_wrong_everywhere_is_one_line(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError) as caught:
        get(server, tmp_path, "/missing.tar", "/wrong.tar")
    found = hashlib.sha256(bytes(len(CONTENT))).hexdigest()
    assert "/missing.tar: HTTP 404" in str(caught.value)
    assert f"/wrong.tar: sha256 is {found}, expected {SHA256}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("*.tar*[!k]"))  # only the lock is left


def test_offline_says_where_to_put_the_file(server: Server, tmp_path: Path) -> None:
    expected = tmp_path / f"{SHA256[:12]}-birds.tar"
    with pytest.raises(DownloadError, match=re.escape(f"{expected}: no such file, and DISCERN_OFFLINE")):
        get(server, tmp_path, "/birds.tar", offline=True)
    expected.write_bytes(b"another")
    with pytest.raises(DownloadError, match="another checksum"):
        get(server, tmp_path, "/birds.tar", offline=True)
    assert server.requests == []


def test_a_wrong_file_in_the_downloads_is_replaced(server: Server, tmp_path: Path) -> None:
    cached_path(server.url("/x.tar"), SHA256, tmp_path).write_bytes(b"rotten")
    assert get(server, tmp_path, "/x.tar").read_bytes() == CONTENT
