import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from environments.datasets import sources
from environments.datasets.movielens import MovieLens100K
from simulator.dataset import Dataset
from simulator.errors import ConfigError, DataError, DownloadError
from simulator.plugins import load

FILES = {
    "ml-1m": {
        "users.dat": b"1::F::1::10::48067\n",
        "movies.dat": b"1::Toy Story (1995)::Comedy\n2::Heat (1995)::Crime\n",
        "ratings.dat": b"1::1::5::978300760\n1::2::3::978300761\n",
    },
    "ml-latest-small": {
        "links.csv": b"movieId,imdbId,tmdbId\n",
        "tags.csv": b"userId,movieId,tag,timestamp\n",
        "movies.csv": b"movieId,title,genres\n1,Toy Story (1995),Comedy\n",
        "ratings.csv": b"userId,movieId,rating,timestamp\n1,1,4.5,100\n",
    },
    "ml-100k": {
        "u.genre": b"unknown|0\nAction|1\n",
        "u.item": b"1|Heat (1995)|01-Jan-1995||http://x|0|1\n",
        "u.user": b"7|24|M|writer|85711\n",
        "u.data": b"7\t1\t4\t881250949\n",
    },
}


@pytest.fixture
def official(monkeypatch, tmp_path) -> Iterator[list[str]]:
    """A loopback stand-in for the official address that serves small zips; yields the paths that were asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            """Silence."""

        def do_GET(self) -> None:
            asked.append(self.path)
            name = self.path.rpartition("/")[2].removesuffix(".zip")
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w") as archive:
                for file, content in FILES[name].items():
                    archive.writestr(f"{name}/{file}", content)
            self.send_response(200)
            self.send_header("Content-Length", str(len(buffer.getvalue())))
            self.end_headers()
            self.wfile.write(buffer.getvalue())

    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("USERSIM_CACHE", str(tmp_path / "cache"))
    real = sources.known()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        local = {}
        for name, dataset in real.items():
            source = dataset.sources[0]
            address = source.address.replace("https://files.grouplens.org", f"http://127.0.0.1:{server.server_address[1]}")
            files = []
            for file in source.files:
                content = FILES[name][file.name]
                if file.rows is None:
                    files.append(replace(file, sha256=hashlib.sha256(content).hexdigest()))
                else:
                    files.append(replace(file, rows=content.count(b"\n")))
            local[name] = replace(dataset, sources=(replace(source, address=address, files=tuple(files)),))
        monkeypatch.setattr(sources, "known", lambda: local)
        yield asked
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", FILES)
def test_every_known_data_set_is_fetched_from_its_official_address_and_loads(official, name):
    got = sources.get(name, "official")
    assert official == [f"/datasets/movielens/{name}.zip"]
    assert got.transferred
    assert sources.lookup(name).is_present
    assert not sources.get(name).transferred
    data = sources.open_dataset(name)
    assert data.interactions.height == len(FILES[name][got.source.files[-1].name].splitlines()) - (name == "ml-latest-small")


def test_another_file_under_the_known_name_is_refused(official, monkeypatch):
    monkeypatch.setitem(FILES["ml-100k"], "u.data", b"7\t1\t1\t881250949\n")
    with pytest.raises(DownloadError, match=r"another u\.data than the known one"):
        sources.get("ml-100k")
    assert not sources.lookup("ml-100k").is_present


@pytest.mark.parametrize("name", sorted(sources.known()))
def test_every_known_data_set_names_a_loader_that_exists(name):
    assert load(sources.known()[name].loader, methods=("load",))


def test_the_hashes_are_those_of_the_public_files(shared_data):
    for dataset in sources.known().values():
        for file in dataset.sources[0].files:
            if file.sha256:
                content = (shared_data / dataset.name / file.name).read_bytes()
                assert hashlib.sha256(content).hexdigest() == file.sha256, file.name


def test_an_unknown_name_suggests_the_nearest(monkeypatch, tmp_path):
    monkeypatch.setenv("USERSIM_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match="unknown data set 'ml-10k'; did you mean 'ml-100k'"):
        sources.get("ml-10k")
    with pytest.raises(DataError, match="usersim data get ml-1m"):
        sources.open_dataset("ml-1m")
    with pytest.raises(DataError, match="neither a known data set"):
        sources.open_dataset("nothing-here")


@pytest.mark.parametrize(
    ("files", "interactions"),
    [
        (FILES["ml-100k"], 1),
        (FILES["ml-1m"], 2),
        (FILES["ml-latest-small"], 1),
        ({"x.inter": b"user_id:token\titem_id:token\n1\t2\n1\t3\n"}, 2),
    ],
)
def test_the_format_of_a_folder_is_recognised(tmp_path, files, interactions):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert sources.open_dataset(tmp_path).interactions.height == interactions


def test_a_single_file_is_recognised_and_an_unknown_folder_is_not(tmp_path):
    (tmp_path / "log.csv").write_text("userId,movieId\n1,2\n")
    assert sources.open_dataset(tmp_path / "log.csv").name == "log"
    assert sources.open_dataset(tmp_path).name == "log"
    (tmp_path / "log.csv").rename(tmp_path / "log.doc")
    with pytest.raises(DataError, match=r"format of .* is not recognised"):
        sources.open_dataset(tmp_path)


def test_a_description_counts_and_says_what_is_unavailable(tmp_path):
    (tmp_path / "x.inter").write_text("user_id:token\titem_id:token\n1\t2\n1\t3\n2\t3\n2\t3\n")
    found = sources.describe(tmp_path)
    assert (found["users"], found["items"], found["interactions"], found["density"]) == (2, 2, 3, 0.75)
    assert found["interactions_per_user"] == {"mean": 1.5, "median": 1.5}
    assert found["skipped"] == {"earlier row of a repeated user and item": 1}
    assert found["ratings"] == {}
    assert found["first_time"] is None
    assert [sentence.split(":")[0] for sentence in found["unavailable"]] == [
        "no rating on every row",
        "no time on every row",
        "no genres",
        "no demographics",
    ]


def test_a_complete_data_set_has_nothing_unavailable(tmp_path):
    for name, content in FILES["ml-100k"].items():
        (tmp_path / name).write_bytes(content)
    data: Dataset = MovieLens100K(MovieLens100K.Config(path=tmp_path)).load()
    found = sources.describe(data)
    assert found["unavailable"] == []
    assert found["ratings"] == {"4": 1}
    assert found["first_time"] == found["last_time"] == "1997-12-04T15:55:49Z"
