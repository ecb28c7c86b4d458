import hashlib
import io
import socket
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from simulator import archives, downloads, redirects
from simulator.downloads import RemoteFile, Source, fetch
from simulator.errors import DownloadError
from simulator.testing_liars import LIES, Liar

CONTENT = b"line one\nline two\n" * 5000
RIGHT = RemoteFile("a.txt", sha256=hashlib.sha256(CONTENT).hexdigest())


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


class Server(ThreadingHTTPServer):
    """A loopback server that counts requests and misbehaves as the path says."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[str] = []
        self.body = b""
        self.release = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that gave up is no news."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *args: object) -> None:
        """Silence."""

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        body = CONTENT
        if self.path == "/hang":
            self.server.release.wait(30)
            return
        if self.path == "/missing":
            self.send_error(404)
            return
        if self.path == "/busy" and self.server.requests.count("/busy") < 3:
            self.send_error(503)
            return
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/right")
            self.end_headers()
            return
        if self.path == "/wrong":
            body = CONTENT.replace(b"two", b"2")
        if self.path == "/archive.zip":
            body = zipped({"top/u.data": CONTENT, "top/rows.dat": b"1\n2\n3\n"})
        if self.path == "/given":
            body = self.server.body
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.path == "/truncated" else body)


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with Server() as instance:
        thread = threading.Thread(target=instance.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield instance
        instance.release.set()
        instance.shutdown()
        thread.join()


def on_the_shelf(shelf: Path, name: str, members: dict[str, bytes]) -> None:
    """Puts a wheel of version 1.0 into a folder."""
    info = f"{name}-1.0.dist-info"
    told = f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\nRequires-Dist: never-to-be-installed\n"
    more = {
        f"{info}/METADATA": told.encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    (shelf / f"{name}-1.0-py3-none-any.whl").write_bytes(zipped(members | more))


@pytest.fixture
def wheel(tmp_path, monkeypatch) -> Source:
    """A wheel in a local folder that pip finds without any index."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    on_the_shelf(shelf, "small_data", {"small_data/a.txt": CONTENT})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return Source("wheel", "small-data==1.0", (RemoteFile("a.txt", "small_data/a.txt", RIGHT.sha256),))


def at(server: Server, path: str, *files: RemoteFile) -> Source:
    return Source("official", server.url + path, files or (RIGHT,))


def names(folder: Path) -> list[str]:
    # A folder that is empty after a refused download is removed.
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_the_right_file_arrives_with_progress_and_only_once(server, tmp_path):
    seen: list[tuple[str, int, int | None]] = []
    sources = [at(server, "/right")]
    first = fetch("x", tmp_path, sources, progress=lambda *step: seen.append(step))
    assert (tmp_path / "a.txt").read_bytes() == CONTENT
    assert first.transferred
    assert seen[-1] == (server.url + "/right", len(CONTENT), len(CONTENT))
    assert not fetch("x", tmp_path, sources).transferred
    assert server.requests == ["/right"]
    assert names(tmp_path) == ["a.txt"]


def test_a_damaged_copy_is_replaced(server, tmp_path):
    (tmp_path / "a.txt").write_bytes(CONTENT[:-1])
    assert fetch("x", tmp_path, [at(server, "/right")]).transferred
    assert (tmp_path / "a.txt").read_bytes() == CONTENT


def test_files_are_taken_out_of_a_zip_and_verified_by_hash_or_rows(server, tmp_path):
    files = (RemoteFile("u.data", "top/u.data", RIGHT.sha256), RemoteFile("rows.dat", "top/rows.dat", rows=3))
    fetch("x", tmp_path, [at(server, "/archive.zip", *files)])
    assert names(tmp_path) == ["rows.dat", "u.data"]
    with pytest.raises(DownloadError, match="it has 3 lines and not 4"):
        fetch("x", tmp_path, [at(server, "/archive.zip", RemoteFile("rows.dat", "top/rows.dat", rows=4))])


def test_a_redirect_is_followed_and_a_busy_server_asked_again(server, tmp_path):
    fetch("x", tmp_path / "one", [at(server, "/moved")])
    fetch("x", tmp_path / "two", [at(server, "/busy")])
    assert server.requests.count("/busy") == 3


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/wrong", r"has another a\.txt than the known one \(its SHA-256 is [0-9a-f]{12}\.\.\. and not"),
        ("/truncated", "the transfer was cut off"),
        ("/missing", "answered with HTTP status 404"),
        ("/hang", r"did not answer within 0\.5 s"),
    ],
)
def test_what_a_server_does_wrong_is_said_and_leaves_nothing_behind(server, tmp_path, path, reason):
    with pytest.raises(DownloadError, match=reason) as caught:
        fetch("x", tmp_path / "cache", [at(server, path)], patience=0.5)
    assert caught.value.exit_status == 2
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == []


def test_a_page_instead_of_a_zip_is_refused(server, tmp_path):
    with pytest.raises(DownloadError, match="did not send a whole zip file"):
        fetch("x", tmp_path, [at(server, "/right", RemoteFile("a.txt", "top/a.txt", RIGHT.sha256))])


def test_a_zip_without_the_file_is_refused(server, tmp_path):
    with pytest.raises(DownloadError, match="has no file top/other"):
        fetch("x", tmp_path, [at(server, "/archive.zip", RemoteFile("other", "top/other", RIGHT.sha256))])


@pytest.mark.parametrize("path", ["/wrong", "/truncated", "/missing", "/hang", "refused"])
def test_the_wheel_takes_over_when_the_official_address_fails(server, wheel, tmp_path, path):
    if path == "refused":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            official = Source("official", f"http://127.0.0.1:{free.getsockname()[1]}/", (RIGHT,))
    else:
        official = at(server, path)
    got = fetch("x", tmp_path / "cache", [official, wheel], patience=0.5)
    assert got.source is wheel
    assert official.address in got.notes[0]
    assert (tmp_path / "cache/a.txt").read_bytes() == CONTENT
    assert names(tmp_path / "cache") == ["a.txt"]


def test_a_file_in_several_wheels_is_joined_and_verified(wheel, tmp_path):
    shelf, cut = tmp_path / "shelf", 20_000
    on_the_shelf(shelf, "large_part1", {"large_part1/a.00": CONTENT[:cut]})
    on_the_shelf(shelf, "large_part2", {"large_part2/a.01": CONTENT[cut:]})
    parts = ("large_part1/a.00", "large_part2/a.01")
    right = RemoteFile("a.txt", sha256=RIGHT.sha256, parts=parts)
    got = fetch("x", tmp_path / "cache", [Source("wheel", "large-part1==1.0 large-part2==1.0", (right,))])
    assert (got.folder / "a.txt").read_bytes() == CONTENT
    turned = RemoteFile("b.txt", sha256=RIGHT.sha256, parts=parts[::-1])
    with pytest.raises(DownloadError, match="SHA-256"):
        fetch("x", tmp_path / "cache", [Source("wheel", "large-part1==1.0 large-part2==1.0", (turned,))])
    absent = RemoteFile("c.txt", sha256=RIGHT.sha256, parts=("large_part1/a.00", "large_part2/a.02"))
    with pytest.raises(DownloadError, match=r"no file .*a\.02"):
        fetch("x", tmp_path / "cache", [Source("wheel", "large-part1==1.0 large-part2==1.0", (absent,))])
    assert not (tmp_path / "cache" / "b.txt").exists()


def test_a_name_look_up_that_hangs_costs_no_more_than_the_patience(wheel, tmp_path, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: release.wait(20))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    start = time.monotonic()
    with pytest.raises(DownloadError, match=r"did not answer within 0\.4 s"):
        fetch("x", tmp_path / "cache", [Source("official", "http://unreachable.invalid/a.txt", (RIGHT,))], patience=0.4)
    assert time.monotonic() - start < 3
    release.set()


def test_asking_for_the_wheel_goes_there_at_once(server, wheel, tmp_path):
    steps: list[tuple[str, int, int | None]] = []
    got = fetch("x", tmp_path / "cache", [at(server, "/right"), wheel], choice="wheel", progress=lambda *step: steps.append(step))
    assert got.source is wheel
    assert server.requests == []
    assert steps
    assert steps[0][0] == "small-data==1.0"


def test_a_wheel_that_pip_does_not_find_is_named_with_pips_reason(wheel, tmp_path):
    missing = Source("wheel", "small-data==9.9", wheel.files)
    with pytest.raises(DownloadError, match=r"pip could not fetch small-data==9\.9 \(No matching distribution"):
        fetch("x", tmp_path / "cache", [missing])


def test_a_kind_of_source_that_does_not_exist_is_refused(server, tmp_path):
    with pytest.raises(DownloadError, match="no source of kind 'wheel'; allowed is auto or official"):
        fetch("x", tmp_path, [at(server, "/right")], choice="wheel")


def test_a_folder_that_cannot_be_written_is_named(server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DownloadError, match=r"cannot be stored in .*USERSIM_CACHE"):
        fetch("x", tmp_path / "file", [at(server, "/right")])


def test_the_patience_leaves_room_within_ten_seconds():
    assert downloads.PATIENCE <= 9


@pytest.fixture
def impatient(monkeypatch):
    """Without proxies, and with little time for those who dawdle."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(downloads, "STALL", 0.3)
    monkeypatch.setattr(downloads, "LARGEST", 5_000_000)


@pytest.mark.parametrize("lie", LIES)
def test_no_lie_keeps_a_download_waiting_or_fills_the_disk(impatient, tmp_path, lie):
    with Liar(lie, body=b"x" * 100) as server:
        with pytest.raises(DownloadError) as error:
            fetch("x", tmp_path / "cache", [Source("official", server.url, (RIGHT,))], patience=2.0)
        assert server.sent < 50_000_000
    assert "\n" not in str(error.value)
    assert "hunter2" not in str(error.value)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        ("drip", "sends less than 1000 bytes a second"),
        ("endless", "larger than 5 MB, so it is not what is wanted"),
        ("vast", "larger than 5 MB"),
        ("bomb", "larger than 5 MB"),
        ("to a file", r"leads to something that is no web address \(file:\)"),
        ("elsewhere", "leads to an address with a name and password"),
    ],
)
def test_what_is_wrong_with_a_lie_is_said(impatient, tmp_path, lie, words):
    with Liar(lie) as server, pytest.raises(DownloadError, match=words):
        fetch("x", tmp_path, [Source("official", server.url, (RIGHT,))], patience=5.0)


@pytest.mark.parametrize(
    ("start", "location", "words"),
    [
        ("https://files.example/a", "http://files.example/a", "from https to http"),
        ("http://files.example/a", "http://127.0.0.1:9/a", "into this machine or its network"),
        ("http://files.example/a", "http://10.0.0.1/a", "into this machine or its network"),
        ("http://files.example/a", "http://[::1]/a", "into this machine or its network"),
        ("http://files.example/a", "http://169.254.169.254/a", "into this machine or its network"),
        ("http://files.example/a", "ftp://files.example/a", "no web address"),
        ("http://files.example/a", "javascript:alert(1)", "no web address"),
        ("http://files.example/a", "http://other.example/a", "to another host"),
        ("http://files.example/a", "http://me:pw@files.example/a", "with a name and password"),
    ],
)
def test_an_address_may_not_lead_anywhere(start, location, words):
    with pytest.raises(redirects.RedirectError, match=words):
        redirects._next(httpx.URL(start), location, elsewhere=False)


def test_an_address_may_lead_on_and_to_another_host_whose_file_is_verified():
    begin = httpx.URL("https://files.example/a")
    assert str(redirects._next(begin, "/b", elsewhere=False)) == "https://files.example/b"
    assert str(redirects._next(begin, "https://mirror.example/a", elsewhere=True)) == "https://mirror.example/a"


def bomb(size: int) -> bytes:
    return zipped({"top/a.txt": bytes(size)})


def test_a_zip_bomb_is_refused_before_it_is_unpacked(server, tmp_path, monkeypatch):
    packed = bomb(200_000_000)
    assert len(packed) < 250_000
    monkeypatch.setattr(archives.zipfile.ZipFile, "open", lambda *_: pytest.fail("it was unpacked"))
    server.body = packed
    with pytest.raises(DownloadError, match="would unpack to 200 MB, where at most 64 MB are expected"):
        fetch("x", tmp_path / "cache", [at(server, "/given", RemoteFile("a.txt", "top/a.txt", RIGHT.sha256))])
    assert names(tmp_path) == []


def test_a_zip_that_lies_about_its_sizes_is_not_unpacked_further(server, tmp_path):
    packed = bytearray(bomb(1_000_000))
    real, small = (1_000_000).to_bytes(4, "little"), (1_000).to_bytes(4, "little")
    assert packed.count(real) == 2
    server.body = bytes(packed.replace(real, small))
    with pytest.raises(DownloadError, match="did not send a whole zip file"):
        fetch("x", tmp_path / "cache", [at(server, "/given", RemoteFile("a.txt", "top/a.txt", RIGHT.sha256))])
    assert names(tmp_path) == []


@pytest.mark.parametrize("damage", ["cut", "flipped", "locked", "packing"])
def test_a_damaged_or_strange_zip_is_one_sentence(server, tmp_path, damage):
    packed = bytearray(zipped({"top/a.txt": CONTENT}))
    if damage == "cut":
        packed = packed[: len(packed) // 2]
    elif damage == "flipped":
        packed[60] ^= 0xFF
    else:
        place, value = (6, 1) if damage == "locked" else (8, 99)
        packed[place] = value
        packed[packed.index(b"PK\x01\x02") + place + 2] = value
    server.body = bytes(packed)
    with pytest.raises(DownloadError) as error:
        fetch("x", tmp_path / "cache", [at(server, "/given", RemoteFile("a.txt", "top/a.txt", RIGHT.sha256))])
    assert "\n" not in str(error.value)


def test_a_file_without_a_hash_must_have_the_form_of_its_lines(server, tmp_path):
    server.body = b"1::2::3::978300760\n" * 4
    good = RemoteFile("r.dat", rows=4, line=rb"\d+::\d+::[1-5]::\d{9,10}")
    assert fetch("x", tmp_path / "good", [at(server, "/given", good)]).transferred
    for body in (b"1::2::3::978300760\n" * 3 + b"1::2::9::978300760\n", b"\n" * 4, b"x" * 5_000 + b"\n" * 4):
        server.body = body
        with pytest.raises(DownloadError, match="is not of its form"):
            fetch("x", tmp_path / "bad", [at(server, "/given", good)])


def test_a_socks_proxy_without_its_package_is_one_sentence(impatient, tmp_path, monkeypatch):
    monkeypatch.setattr("simulator.web.importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    with pytest.raises(DownloadError, match="ALL_PROXY names a SOCKS proxy"):
        fetch("x", tmp_path, [Source("official", "http://files.example/a.txt", (RIGHT,))])


def test_a_proxy_that_fails_is_named_and_its_password_is_not(impatient, tmp_path, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://me:hunter2@127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(DownloadError, match="through the proxy that HTTP_PROXY names") as error:
        fetch("x", tmp_path, [Source("official", "http://files.example/a.txt", (RIGHT,))])
    assert "hunter2" not in str(error.value)
