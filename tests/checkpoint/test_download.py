"""Downloads from a server on the loopback: cuts, wrong bytes, full disks, redirections."""

import errno
import hashlib
import io
import random
import shutil

import pytest

from mmeffvit.checkpoint import FetchError
from mmeffvit.checkpoint import download as module
from mmeffvit.checkpoint.download import download
from tests.checkpoint.server import serve

CONTENT = random.Random(0).randbytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(module, "WAITS", (0, 0, 0))
    monkeypatch.setattr(module, "_CHUNK", 1 << 16)
    with serve() as server:
        server.files["/w.pth"] = CONTENT
        yield server


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_comes_whole_with_progress(server, tmp_path):
    seen = []
    path = download(
        server.url("/w.pth"),
        tmp_path / "new" / "w.pth",
        size=len(CONTENT),
        sha256=SHA256[:16],
        progress=lambda done, total: seen.append((done, total)),
    )
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == ["w.pth"]
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert len(seen) > 3


def test_cuts_are_gone_on_from(server, tmp_path):
    server.cuts = [100_000, 50_000]
    path = download(server.url("/w.pth"), tmp_path / "w.pth", sha256=SHA256)
    assert path.read_bytes() == CONTENT
    assert server.ranges_asked == [None, "bytes=100000-", "bytes=150000-"]
    assert names(tmp_path) == ["w.pth"]


def test_too_many_cuts_are_an_error_and_the_next_call_goes_on(server, tmp_path):
    server.cuts = [1000] * 4
    with pytest.raises(FetchError, match=r"4 attempts .*cut after 4000 of 300000.*4000 bytes are"):
        download(server.url("/w.pth"), tmp_path / "w.pth", sha256=SHA256)
    assert "w.pth" not in names(tmp_path)
    server.asked.clear()
    assert download(server.url("/w.pth"), tmp_path / "w.pth").read_bytes() == CONTENT
    assert server.ranges_asked == ["bytes=4000-"]


@pytest.mark.parametrize("why", ["no ranges", "no marks", "changed"])
def test_what_cannot_be_gone_on_from_begins_again(server, tmp_path, why):
    server.cuts = [100_000]
    server.ranges = why != "no ranges"
    server.etags = why != "no marks"
    other = CONTENT[::-1]
    if why == "changed":
        server.cuts = [1000] * 4
        with pytest.raises(FetchError):
            download(server.url("/w.pth"), tmp_path / "w.pth")
        server.files["/w.pth"] = other
    path = download(server.url("/w.pth"), tmp_path / "w.pth")
    assert path.read_bytes() == (other if why == "changed" else CONTENT)


def test_a_part_longer_than_the_file_begins_again(server, tmp_path):
    etag = f'"{hashlib.md5(CONTENT).hexdigest()}"'
    (tmp_path / "w.pth.part").write_bytes(CONTENT + b"more")
    (tmp_path / "w.pth.part.etag").write_text(etag)
    assert download(server.url("/w.pth"), tmp_path / "w.pth").read_bytes() == CONTENT


def test_wrong_bytes_are_refused_and_removed(server, tmp_path):
    server.files["/w.pth"] = CONTENT[::-1]
    with pytest.raises(FetchError, match=r"has the SHA-256 \w{64}, not .*--file FILE"):
        download(server.url("/w.pth"), tmp_path / "w.pth", sha256=SHA256[:16])
    assert not (tmp_path / "w.pth").exists()
    assert not (tmp_path / "w.pth.part").exists()


def test_another_size_is_refused_before_it_comes(server, tmp_path):
    with pytest.raises(FetchError, match="has 300000 bytes, not 7: the file was changed"):
        download(server.url("/w.pth"), tmp_path / "w.pth", size=7)
    assert names(tmp_path) == []


@pytest.mark.parametrize("when", ["before", "while writing"])
def test_a_full_disk_is_said_and_no_space_kept(server, tmp_path, monkeypatch, when):
    if when == "before":
        usage = shutil.disk_usage(tmp_path)._replace(free=100_000)
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    else:

        class Full(io.FileIO):
            def write(self, chunk):
                super().write(chunk[:10])
                raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(module, "open", Full, raising=False)
    with pytest.raises(FetchError, match=r"disk is full: .*MiB free.* MMEFFVIT_HOME"):
        download(server.url("/w.pth"), tmp_path / "w.pth")
    assert names(tmp_path) == []


def test_redirections_are_followed_to_the_web_alone(server, tmp_path):
    server.redirects = {"/a": "/b", "/b": server.url("/w.pth"), "/file": "file:///etc/passwd"}
    server.redirects["/ftp"] = "ftp://127.0.0.1/x"
    assert download(server.url("/a"), tmp_path / "w.pth").read_bytes() == CONTENT
    with pytest.raises(FetchError, match=r"'ftp://127.0.0.1/x' is not fetched after a redirect"):
        download(server.url("/ftp"), tmp_path / "other")
    with pytest.raises(FetchError, match=r"Redirection to url 'file:///etc/passwd' is not allowed"):
        download(server.url("/file"), tmp_path / "other")
    for url in ("file:///etc/passwd", "ftp://127.0.0.1/x", "data:text/plain,x"):
        with pytest.raises(FetchError, match="must begin with http:// or https://"):
            download(url, tmp_path / "other")
    assert names(tmp_path) == ["w.pth"]
    with pytest.raises(FetchError, match="must begin with https://"):
        module._check_scheme("http://example.org/w.pth", before="https")


def test_servers_in_trouble_are_asked_again_and_missing_files_are_not(server, tmp_path):
    server.failures = 2
    assert download(server.url("/w.pth"), tmp_path / "w.pth").read_bytes() == CONTENT
    assert len(server.asked) == 3
    server.failures = 9
    with pytest.raises(FetchError, match=r"did not come in 4 attempts .*Service Unavailable"):
        download(server.url("/w.pth"), tmp_path / "again")
    server.asked.clear()
    server.failures = 0
    with pytest.raises(FetchError, match=r"answered with 404 Not Found.*--file FILE"):
        download(server.url("/none.pth"), tmp_path / "none.pth")
    assert len(server.asked) == 1


def test_no_server_is_said_at_once(tmp_path):
    with serve() as gone:
        url = gone.url("/w.pth")
    with pytest.raises(FetchError, match=r"cannot be reached .*refused.*--file FILE"):
        download(url, tmp_path / "w.pth")


def test_a_folder_that_cannot_be_written_to_is_said(server, tmp_path, monkeypatch):
    def refuse(*args):
        raise PermissionError(errno.EACCES, "Permission denied", args[0])

    monkeypatch.setattr(module, "open", refuse, raising=False)
    with pytest.raises(FetchError, match=r"Permission denied.*MMEFFVIT_HOME"):
        download(server.url("/w.pth"), tmp_path / "w.pth")
