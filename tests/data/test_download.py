"""The downloader against a server of our own, on this machine."""

import errno
import hashlib
import http.server
import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from frostline.data import download as module
from frostline.data.download import download
from frostline.errors import UserError
from frostline.files import one_at_a_time

BODY = bytes(range(256)) * 500
MD5 = hashlib.md5(BODY).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    ranges = True
    cut_after: int | None = None  # the first answer ends here
    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_port}/file.bin"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_args: object) -> None:
        pass

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        if self.server.status != 200:
            return self.send_error(self.server.status)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.server.ranges else 0
        if start >= len(BODY):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(BODY) - 1}/{len(BODY)}")
        self.send_header("Content-Length", str(len(BODY) - start))
        self.end_headers()
        cut, self.server.cut_after = self.server.cut_after, None
        self.wfile.write(BODY[start:cut])
        return None


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(module, "WAIT_S", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def part_of(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def test_a_whole_download(server: Server, tmp_path: Path) -> None:
    path = download(server.url, tmp_path / "deep" / "file.bin", md5=MD5, size=len(BODY))
    assert path.read_bytes() == BODY
    assert not part_of(path).exists()
    download(server.url, path, md5=MD5)
    assert server.asked == [None]  # the second call asked for nothing


def test_a_part_is_continued(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    part_of(path).write_bytes(BODY[:1000])
    assert download(server.url, path, md5=MD5).read_bytes() == BODY
    assert server.asked == ["bytes=1000-"]


def test_a_connection_cut_in_the_middle_is_resumed(server: Server, tmp_path: Path) -> None:
    server.cut_after = 70_000
    assert download(server.url, tmp_path / "file.bin", md5=MD5).read_bytes() == BODY
    assert server.asked == [None, "bytes=70000-"]


def test_two_that_want_the_same_file_fetch_it_once(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "file.bin"
    with one_at_a_time(path.with_name("file.bin.lock")):
        waiting = threading.Thread(target=download, args=(server.url, path), kwargs={"md5": MD5})
        waiting.start()
        while "waiting" not in (said := capsys.readouterr().err + ""):
            assert waiting.is_alive(), said
        path.write_bytes(BODY)  # the other process is done
    waiting.join()
    assert server.asked == []


@pytest.mark.parametrize("cut", [None, 90_000])
def test_a_server_without_ranges_starts_again(server: Server, tmp_path: Path, cut: int | None) -> None:
    server.ranges, server.cut_after = False, cut
    part_of(tmp_path / "file.bin").write_bytes(b"x" * 500)
    assert download(server.url, tmp_path / "file.bin", md5=MD5).read_bytes() == BODY


def test_a_complete_part_is_only_checked(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    part_of(path).write_bytes(BODY)
    assert download(server.url, path, md5=MD5).read_bytes() == BODY


def test_another_sum_names_both_and_removes_the_part(server: Server, tmp_path: Path) -> None:
    path, wrong = tmp_path / "file.bin", "0" * 32
    with pytest.raises(UserError) as caught:
        download(server.url, path, md5=wrong)
    assert wrong in str(caught.value)
    assert MD5 in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.bin.lock"]


def test_a_longer_file_is_refused(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="longer"):
        download(server.url, tmp_path / "file.bin", md5=MD5, size=1000)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.bin.lock"]


def test_a_missing_page_is_not_asked_for_again(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(UserError, match="HTTP 404"):
        download(server.url, tmp_path / "file.bin", md5=MD5)
    assert len(server.asked) == 1


def test_a_server_in_trouble_is_asked_a_few_times(server: Server, tmp_path: Path) -> None:
    server.status = 503
    with pytest.raises(UserError, match="HTTP 503"):
        download(server.url, tmp_path / "file.bin", md5=MD5)
    assert len(server.asked) == module.TRIES


def test_no_network_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "WAIT_S", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(UserError, match="cifar10:PATH"):
        download("http://127.0.0.1:9/file.bin", tmp_path / "file.bin", md5=MD5, hint="give cifar10:PATH")


def test_a_place_that_cannot_be_written_to_is_no_trouble_of_the_network(server: Server, tmp_path: Path) -> None:
    (tmp_path / "in the way").write_bytes(b"")
    with pytest.raises(OSError, match="in the way"):
        download(server.url, tmp_path / "in the way" / "file.bin", md5=MD5)
    part_of(tmp_path / "file.bin").mkdir()
    with pytest.raises(OSError, match="directory") as caught:
        download(server.url, tmp_path / "file.bin", md5=MD5)
    assert caught.value.filename == str(part_of(tmp_path / "file.bin"))
    assert len(server.asked) <= 1  # it was not tried again


class FullDisk(io.BytesIO):
    def write(self, _data: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_said_of_the_part(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "open", lambda *_: FullDisk(), raising=False)
    with pytest.raises(OSError, match="No space left") as caught:
        download(server.url, tmp_path / "file.bin", md5=MD5)
    assert caught.value.filename == str(part_of(tmp_path / "file.bin"))
    assert len(server.asked) == 1
