"""Fetching files once: from their official address, or from inside a Python wheel where that cannot be reached.

What arrives is checked against known SHA-256 hashes before it gets its final name, so a file under its final name is whole and right.
Addresses are read with httpx, which honours the usual proxy and certificate variables (HTTPS_PROXY, SSL_CERT_FILE ...); wheels
come through pip, with pip's own configuration (index, PIP_FIND_LINKS ...).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import httpx
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from simulator.errors import DownloadError

Kind = Literal["official", "wheel"]
Choice = Literal["auto", "official", "wheel"]

Progress = Callable[[str, int, int | None], None]
"""Called with where the bytes come from, bytes so far, and total bytes or None; from any thread."""

PATIENCE = 8.0
"""Seconds until an address must have begun to answer, name look-up, connection, proxies and retries included."""

STALL = 20.0
"""Seconds without a byte after which a transfer that has begun is given up."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One wanted file.

    Attributes:
        name: its name in the target folder.
        member: its path inside the archive or wheel; empty if the address is the file itself.
        parts: in place of a member, paths inside wheels whose contents one after another are the file.
        sha256: what its contents must hash to, or None where only `rows` is known.
        rows: number of lines it must have, or None.
    """

    name: str
    member: str = ""
    sha256: str | None = None
    rows: int | None = None
    parts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """One place that has everything that is wanted.

    Attributes:
        kind: "official" is an address (a file, or a zip if the files have members), "wheel" a pinned requirement for pip.
        address: the URL, or a requirement such as "recbole==1.2.1", or several with blanks between them.
        files: what to take from it, in the order in which the files get their final names.
        size: bytes to transfer, for progress, or None.
    """

    kind: Kind
    address: str
    files: tuple[RemoteFile, ...]
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Fetched:
    """What `fetch` did.

    Attributes:
        folder: where the files are. source: where they are from.
        transferred: False if they were there already.
        notes: why earlier sources were not used, one sentence each.
    """

    folder: Path
    source: Source
    transferred: bool
    notes: tuple[str, ...] = ()


class _Transient(Exception):
    """Worth another attempt: a busy server or a broken connection."""


def fetch(
    name: str,
    folder: Path,
    sources: Sequence[Source],
    *,
    choice: Choice = "auto",
    progress: Progress | None = None,
    patience: float = PATIENCE,
) -> Fetched:
    """Makes sure that the files of one of the sources are in `folder`, whole and verified.

    Nothing is transferred if they are there already. A file gets its final name by a rename, after it has been verified.

    Args:
        name: of what is fetched, for messages.
        folder: where to put the files; made if needed.
        sources: tried in this order.
        choice: "auto" tries all sources, a kind only those of that kind.
        progress: told about the bytes, or None.
        patience: seconds until an address must have begun to answer.

    Raises:
        DownloadError: no allowed source gave the right files; names the reason for each.
    """
    allowed = [source for source in sources if choice in ("auto", source.kind)]
    if not allowed:
        kinds = ", ".join(sorted({source.kind for source in sources}))
        raise DownloadError(f"'{name}' has no source of kind '{choice}'; allowed is auto or {kinds}.")
    here = present(folder, allowed)
    if here is not None:
        return Fetched(folder, here, transferred=False)
    notes: list[str] = []
    for source in allowed:
        try:
            _install(source, folder, progress, patience)
        except DownloadError as error:
            notes.append(str(error))
        except OSError as error:
            raise DownloadError(
                f"'{name}' cannot be stored in '{folder}': {error.strerror or error}; choose a folder with USERSIM_CACHE."
            ) from error
        else:
            return Fetched(folder, source, transferred=True, notes=tuple(notes))
    with contextlib.suppress(OSError):
        folder.rmdir()  # only if it is empty
    raise DownloadError(f"'{name}' could not be fetched: {'; '.join(notes)}. Check the network, or put the files into '{folder}' yourself.")


def present(folder: Path, sources: Sequence[Source]) -> Source | None:
    """The first source whose files are all in `folder` and right, or None."""
    for source in sources:
        if all((folder / file.name).is_file() and not mismatch(folder / file.name, file) for file in source.files):
            return source
    return None


def mismatch(path: Path, file: RemoteFile) -> str:
    """Why `path` is not the wanted file, in a few words; empty if it is."""
    if file.sha256 is not None:
        found = sha256(path)
        if found != file.sha256:
            return f"its SHA-256 is {found[:12]}... and not {file.sha256[:12]}..."
    if file.rows is not None:
        with path.open("rb") as stream:
            rows = sum(block.count(b"\n") for block in iter(lambda: stream.read(1 << 20), b""))
        if rows != file.rows:
            return f"it has {rows} lines and not {file.rows}"
    return ""


def sha256(path: Path) -> str:
    """The SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _install(source: Source, folder: Path, progress: Progress | None, patience: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # On the same file system as the target, so that the last step is a rename. The name starts with a dot: nobody reads it.
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder, ignore_cleanup_errors=True) as name:
        scratch = Path(name)
        if source.kind == "wheel":
            wanted = [replace(source, address=requirement) for requirement in source.address.split()]
            archives = [_wheel(one, scratch / f"wheel-{number}", progress) for number, one in enumerate(wanted)]
        else:
            got = scratch / "download"
            _download(source, got, progress, patience)
            archives = [got] if source.files[0].member else []
        ready = [_extract(archives, file, scratch, source) if archives else got for file in source.files]
        for path, file in zip(ready, source.files, strict=True):
            problem = mismatch(path, file)
            if problem:
                raise DownloadError(f"{source.address} has another {file.name} than the known one ({problem})")
        for path, file in zip(ready, source.files, strict=True):
            os.replace(path, folder / file.name)


def _extract(archives: Sequence[Path], file: RemoteFile, scratch: Path, source: Source) -> Path:
    target = scratch / f"file-{file.name}"
    members = file.parts or (file.member,)
    try:
        with contextlib.ExitStack() as stack, target.open("wb") as unpacked:
            contents = [stack.enter_context(zipfile.ZipFile(archive)) for archive in archives]
            for member in members:
                holder = next((content for content in contents if member in content.NameToInfo), contents[0])
                with holder.open(member) as packed:
                    shutil.copyfileobj(packed, unpacked, 1 << 20)
    except KeyError as error:
        raise DownloadError(f"{source.address} has no file {error.args[0] if file.parts else file.member} inside") from error
    except (zipfile.BadZipFile, EOFError) as error:
        raise DownloadError(f"{source.address} did not send a whole zip file ({error})") from error
    return target


def _download(source: Source, target: Path, progress: Progress | None, patience: float) -> None:
    """Streams an address into `target`, in a thread: no time-out of a socket bounds a name look-up, waiting for a thread does."""
    begun, done, given_up = threading.Event(), threading.Event(), threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for attempt in Retrying(
                retry=retry_if_exception_type(_Transient), stop=stop_after_attempt(3), wait=wait_exponential(0.3, max=2), reraise=True
            ):
                with attempt:
                    _stream(source, target, progress, patience, begun, given_up)
        except BaseException as error:  # handed to the waiting thread
            failures.append(error)
        finally:
            begun.set()
            done.set()

    threading.Thread(target=work, name="download", daemon=True).start()
    try:
        if not begun.wait(patience):
            raise DownloadError(f"{source.address} did not answer within {patience:g} s")
        done.wait()
    finally:
        given_up.set()
    if failures:
        error = failures[0]
        if isinstance(error, DownloadError):
            raise error
        if isinstance(error, (_Transient, httpx.HTTPError, httpx.InvalidURL)):
            raise DownloadError(f"{source.address} could not be read ({error or type(error).__name__})") from error
        raise error


def _stream(
    source: Source, target: Path, progress: Progress | None, patience: float, begun: threading.Event, given_up: threading.Event
) -> None:
    timeout = httpx.Timeout(STALL, connect=patience)
    try:
        with httpx.Client(follow_redirects=True, timeout=timeout) as client, client.stream("GET", source.address) as response:
            if response.status_code >= 500 or response.status_code == 429:
                raise _Transient(f"HTTP status {response.status_code}")
            if response.status_code != 200:
                raise DownloadError(f"{source.address} answered with HTTP status {response.status_code}")
            length = response.headers.get("content-length", "")
            total = int(length) if length.isdigit() else source.size
            if given_up.is_set():
                return
            with target.open("wb") as stream:
                for block in response.iter_bytes():
                    begun.set()
                    if given_up.is_set():
                        return
                    stream.write(block)
                    if progress is not None:
                        progress(source.address, response.num_bytes_downloaded, total)
    except (httpx.RemoteProtocolError, httpx.ReadError) as error:
        raise _Transient(f"the transfer was cut off: {error}") from error


def _wheel(source: Source, scratch: Path, progress: Progress | None) -> Path:
    """Lets pip fetch a wheel without its dependencies; its bytes are watched in pip's temporary folder."""
    folder, temporary = scratch / "wheel", scratch / "pip"
    folder.mkdir(parents=True)
    temporary.mkdir()
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--progress-bar=off", "--quiet"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), source.address]
    environment = {**os.environ, "TMPDIR": str(temporary)}
    log = scratch / "pip.log"
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment) as process:
        try:
            while process.poll() is None:
                if progress is not None:
                    progress(source.address, _bytes_below(scratch), source.size)
                try:
                    process.wait(0.2)
                except subprocess.TimeoutExpired:
                    continue
        except BaseException:
            process.terminate()
            raise
    wheels = sorted(folder.glob("*.whl"))
    if process.returncode or not wheels:
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
        errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")] or lines
        raise DownloadError(f"pip could not fetch {source.address} ({errors[-1].rstrip('.') if errors else 'no message'})")
    return wheels[0]


def _bytes_below(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:  # pip has just moved or removed it
            continue
    return total
