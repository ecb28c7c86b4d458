"""Fetching files once: from their official address, or from inside a Python wheel where that cannot be reached.

What arrives is checked against known SHA-256 hashes before it gets its final name, so a file under its final name is whole and right.
Until then it is nobody's word: it may neither be larger nor slower than what is expected, nor unpack to more, nor come from another place
than the address leads to. Addresses are read by `simulator.web`, which honours the usual proxy and certificate variables (HTTPS_PROXY,
SSL_CERT_FILE ...); wheels come through pip, with pip's own configuration (index, PIP_FIND_LINKS ...).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import httpx
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from simulator.archives import UNREADABLE, BombError, check_declared, most_unpacked, unpack
from simulator.credentials import masked
from simulator.errors import ConfigError, DownloadError
from simulator.redirects import RedirectError, followed
from simulator.web import TooLargeError, WebClient, pieces, through

Kind = Literal["official", "wheel"]
Choice = Literal["auto", "official", "wheel"]

Progress = Callable[[str, int, int | None], None]
"""Called with where the bytes come from, bytes so far, and total bytes or None; from any thread."""

PATIENCE = 8.0
"""Seconds until an address must have begun to answer, name look-up, connection, proxies and retries included."""

STALL = 20.0
"""Seconds without a byte, or without `SLOWEST` times as many bytes, after which a transfer that has begun is given up."""

SLOWEST = 1_000
"""Bytes a second below which a transfer is taken for one that never ends."""

LARGEST = 64 * 10**6
"""Bytes of a transfer at most whose size is not known."""

PIP_STALL = 180.0
"""Seconds in which pip must have fetched something; it waits and tries again by itself for a while."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One wanted file.

    Attributes:
        name: its name in the target folder.
        member: its path inside the archive or wheel; empty if the address is the file itself.
        parts: in place of a member, paths inside wheels whose contents one after another are the file.
        sha256: what its contents must hash to, or None where only `rows` is known.
        rows: number of lines it must have, or None. line: what each of them must look like, a regular expression of bytes, or None.
    """

    name: str
    member: str = ""
    sha256: str | None = None
    rows: int | None = None
    line: bytes | None = None
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
    if file.line is not None:
        right = re.compile(file.line + rb"\r?\n?")
        with path.open("rb") as stream:
            wrong = next(
                (number for number, line in enumerate(iter(lambda: stream.readline(1_000), b""), 1) if not right.fullmatch(line)), 0
            )
        if wrong:
            return f"line {wrong} is not of its form"
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
            holders = [next((content for content in contents if member in content.NameToInfo), contents[0]) for member in members]
            most = most_unpacked(sum(archive.stat().st_size for archive in archives))
            for content in set(holders):
                own = tuple(member for member, holder in zip(members, holders, strict=True) if holder is content)
                check_declared(content, own, most)
            for content, member in zip(holders, members, strict=True):
                unpack(content, member, unpacked)
    except BombError as error:
        raise DownloadError(f"{source.address} {error}, so it is not what is wanted") from error
    except KeyError as error:
        raise DownloadError(f"{source.address} has no file {error.args[0] if file.parts else file.member} inside") from error
    except UNREADABLE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's, not the archive's
        raise DownloadError(f"{source.address} did not send a whole zip file ({error})") from error
    return target


def _download(source: Source, target: Path, progress: Progress | None, patience: float) -> None:
    """Streams an address into `target`, in a thread: no time-out of a socket bounds a name look-up, waiting for a thread does."""
    begun, done, given_up = threading.Event(), threading.Event(), threading.Event()
    failures: list[BaseException] = []
    client = WebClient()

    def work() -> None:
        try:
            for attempt in Retrying(
                retry=retry_if_exception_type(_Transient), stop=stop_after_attempt(3), wait=wait_exponential(0.3, max=2), reraise=True
            ):
                with attempt:
                    _stream(source, target, progress, patience, client, begun, given_up)
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
        client.close()  # which ends the thread, where it waits for an answer
    if failures:
        error = failures[0]
        if isinstance(error, DownloadError):
            raise error
        if isinstance(error, (_Transient, httpx.HTTPError, httpx.InvalidURL)):
            said = masked(str(error)) or type(error).__name__
            raise DownloadError(f"{source.address} could not be read{through(source.address)} ({said})") from error
        if isinstance(error, ConfigError):  # a proxy that cannot be used
            raise DownloadError(f"{source.address} could not be read: {str(error).rstrip('.')}") from error
        raise error


def _stream(
    source: Source,
    target: Path,
    progress: Progress | None,
    patience: float,
    client: WebClient,
    begun: threading.Event,
    given_up: threading.Event,
) -> None:
    most = LARGEST if source.size is None else source.size + source.size // 10 + 1_000_000
    try:
        verified = all(file.sha256 is not None for file in source.files)
        with followed(client, source.address, seconds=60 + most / SLOWEST, stall=max(STALL, patience), elsewhere=verified) as response:
            if response.status_code >= 500 or response.status_code == 429:
                raise _Transient(f"HTTP status {response.status_code}")
            if response.status_code != 200:
                raise DownloadError(f"{source.address} answered with HTTP status {response.status_code}")
            length = response.headers.get("content-length", "")
            total = int(length) if length.isdigit() else source.size
            if given_up.is_set():
                return
            since, so_far, written = time.monotonic(), 0, 0
            with target.open("wb") as stream:
                for block in pieces(response, most):
                    begun.set()
                    if given_up.is_set():
                        return
                    stream.write(block)
                    written += len(block)
                    if (waited := time.monotonic() - since) > STALL:
                        if written - so_far < SLOWEST * waited:
                            raise DownloadError(f"{source.address} sends less than {SLOWEST} bytes a second")
                        since, so_far = time.monotonic(), written
                    if progress is not None:
                        progress(source.address, response.num_bytes_downloaded, total)
    except RedirectError as error:
        raise DownloadError(f"{source.address} leads {error}") from error
    except TooLargeError as error:
        raise DownloadError(f"{source.address}: {error}, so it is not what is wanted") from error
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
            grown, moment = 0, time.monotonic()
            while process.poll() is None:
                here = _bytes_below(scratch)
                if here != grown:
                    grown, moment = here, time.monotonic()
                if time.monotonic() - moment > PIP_STALL or here > 4 * (source.size or LARGEST) + LARGEST:
                    raise DownloadError(f"pip fetches {source.address} without end")
                if progress is not None:
                    progress(source.address, here, source.size)
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
        raise DownloadError(f"pip could not fetch {source.address} ({masked(errors[-1]).rstrip('.') if errors else 'no message'})")
    return wheels[0]


def _bytes_below(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:  # pip has just moved or removed it
            continue
    return total
