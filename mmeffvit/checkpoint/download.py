"""Files from the web: resumed after a cut, checked, and whole or absent."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

from mmeffvit.errors import CheckpointError
from mmeffvit.version import __version__

#: called with the bytes that are there, and those of the whole file or None
Progress = Callable[[int, int | None], None]

_CHUNK = 1 << 20
#: seconds without a byte before a connection counts as cut
_TIMEOUT = 30
#: seconds before each further attempt
WAITS = (1, 3, 10, 30)
#: answers of servers that may be others a little later
_PASSING = (408, 425, 429, 500, 502, 503, 504)
#: bytes that stay free on the disk
_SPARE = 64 << 20


class FetchError(CheckpointError):
    """A file could not be fetched; the message says what to do."""


def download(
    url: str,
    path: str | os.PathLike,
    *,
    size: int | None = None,
    sha256: str = "",
    progress: Progress | None = None,
) -> Path:
    """Fetch a file; `path` is the whole file afterwards, or as it was.

    What has come before a cut is kept beside it, as ``<path>.part``, and is gone on with: at once a
    few times, and when it is asked for again. One process at a time may fetch a file.

    Args:
        url: Address, http or https; redirections to others are not followed.
        path: Where to; the folder is made.
        size: Bytes that it must have.
        sha256: Hexadecimal digits of its SHA-256, or the first ones.
        progress: Called now and then while bytes come.

    Raises:
        FetchError: It did not come, is not what was asked for, or the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _Part(path.with_name(f"{path.name}.part"))
    for wait in (*WAITS, None):
        try:
            with _full_disk(part, size):
                _receive(url, part, size, progress)
            break
        except (OSError, HTTPException) as error:
            _give_up_on(error, url)
            if wait is None:
                raise FetchError(
                    f"{url} did not come in {len(WAITS) + 1} attempts ({_words(error)}); "
                    f"{part.length} bytes are kept in '{part.path}'. Ask for it again, and it "
                    "goes on from there"
                ) from error
            time.sleep(wait)
    try:
        verify(part.path, url, size, sha256)
        os.replace(part.path, path)
    finally:
        part.remove()
    return path


def verify(path: Path, source: str, size: int | None = None, sha256: str = "") -> None:
    """Remove a file that is not what it should be, and raise FetchError."""
    length = path.stat().st_size
    if size is not None and length != size:
        reason = f"has {length} bytes, not {size}"
    elif sha256 and not (found := sha256_of(path)).startswith(sha256):
        reason = f"has the SHA-256 {found}, not {sha256}{'...' * (len(sha256) < 64)}"
    else:
        return
    path.unlink()
    raise FetchError(
        f"what came from {source} {reason}: it was changed since it was listed here, or on its "
        "way, and was removed. Try again from another network; if it stays so, get the file from "
        "its authors, and name it with tools/weights.py get NAME --file FILE"
    )


def sha256_of(path: str | os.PathLike) -> str:
    """The SHA-256 of a file, in 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


class _Part:
    """The part of a file that has come, and by which mark its server knows the file."""

    def __init__(self, path: Path):
        self.path = path
        self._mark = path.with_name(f"{path.name}.etag")

    @property
    def length(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def mark(self) -> str:
        return self._mark.read_text() if self._mark.exists() else ""

    @mark.setter
    def mark(self, value: str) -> None:
        self._mark.write_text(value)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self._mark.unlink(missing_ok=True)


def _receive(url: str, part: _Part, size: int | None, progress: Progress | None) -> None:
    """Go on with a part until it is whole.

    Raises:
        OSError, HTTPException: It was cut, or did not begin.
    """
    if not part.mark:  # nobody could tell whether the file is still the same
        part.remove()
    if size is not None and part.length == size:
        return
    with _open(url, part) as response:
        goes_on = response.status == 206 and _start(response) == part.length
        if response.status == 206 and not goes_on:
            part.remove()
            raise ConnectionError("the server sent another part than it was asked for")
        done = part.length if goes_on else 0
        total = _total(response, done)
        if size is not None and total not in (None, size):
            part.remove()
            raise FetchError(
                f"{url} has {total} bytes, not {size}: the file was changed since it was listed "
                "here. Nothing was kept; get it from its authors, and name it with "
                "tools/weights.py get NAME --file FILE"
            )
        part.mark = _mark_of(response)
        _check_space(part.path.parent, (total or size or 0) - done)
        with open(part.path, "ab" if goes_on else "wb") as file:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(done, total)
    if total is not None and done < total:
        raise ConnectionError(f"the connection was cut after {done} of {total} bytes")


def _open(url: str, part: _Part) -> HTTPResponse:
    _check_scheme(url)
    headers = {"User-Agent": f"mmeffvit/{__version__}", "Accept-Encoding": "identity"}
    if part.length:
        headers |= {"Range": f"bytes={part.length}-", "If-Range": part.mark}
    try:
        return _opener().open(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the part is not one of what is there now
            part.remove()
            raise ConnectionError("the file on the server has changed") from error
        raise


def _opener() -> urllib.request.OpenerDirector:
    """What opens addresses of the web, and no others."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        _Redirections,
    ):
        opener.add_handler(handler())
    return opener


class _Redirections(urllib.request.HTTPRedirectHandler):
    """Follows those to the web; from https to https alone."""

    def redirect_request(self, request, *args):
        *_, url = args
        _check_scheme(url, urlsplit(request.full_url).scheme)
        return super().redirect_request(request, *args)


def _check_scheme(url: str, before: str = "") -> None:
    allowed = ("https",) if before == "https" else ("http", "https")
    if urlsplit(url).scheme not in allowed:
        raise FetchError(
            f"'{url}' is not fetched{' after a redirection' * bool(before)}: its address must "
            f"begin with {' or '.join(f'{scheme}://' for scheme in allowed)}"
        )


def _start(response: HTTPResponse) -> int | None:
    """First byte of a part, from a header such as ``bytes 5-9/10``."""
    first = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(first) if first.isdigit() else None


def _total(response: HTTPResponse, done: int) -> int | None:
    length = response.headers.get("Content-Length", "")
    return done + int(length) if length.isdigit() else None


def _mark_of(response: HTTPResponse) -> str:
    """By what the server would know the same file again; '' if it does not say."""
    etag = response.headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed + _SPARE > free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def _full_disk(part: _Part, size: int | None) -> Iterator[None]:
    """Say what to do when there is no space, and leave none occupied."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, getattr(errno, "EDQUOT", None)):
            raise
        part.remove()
        raise FetchError(full_disk(part.path.parent, size)) from error


def full_disk(folder: Path, needed: int | None = None) -> str:
    """What to do about a disk on which there is no space."""
    free = shutil.disk_usage(folder).free >> 20
    file = f", and the file needs {needed >> 20} MiB" if needed else ""
    return (
        f"the disk is full: '{folder}' has {free} MiB free{file}. Nothing half was kept; make "
        "space, or name a folder on another disk in the environment variable MMEFFVIT_HOME"
    )


def _give_up_on(error: Exception, url: str) -> None:
    """Raise FetchError where trying again would change nothing."""
    reason = getattr(error, "reason", error)
    if isinstance(error, urllib.error.HTTPError) and error.code not in _PASSING:
        raise FetchError(
            f"{url} is answered with {error.code} {error.reason}. If it has moved, get the file "
            "from its authors, and name it with tools/weights.py get NAME --file FILE"
        ) from error
    if isinstance(reason, (socket.gaierror, ConnectionRefusedError)):
        raise FetchError(
            f"{url} cannot be reached ({reason}). Without a network, get the file on another "
            "machine, and name it with tools/weights.py get NAME --file FILE"
        ) from error
    if isinstance(reason, PermissionError) or getattr(reason, "errno", None) == errno.EROFS:
        raise FetchError(
            f"{reason}; name a folder that can be written to in the environment variable "
            "MMEFFVIT_HOME"
        ) from error


def _words(error: Exception) -> str:
    return str(getattr(error, "reason", error)) or type(error).__name__
