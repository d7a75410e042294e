"""Writing whole files, and reading files without running them."""

import argparse
import os
import pickle

import numpy as np
import pytest
import torch

from mmeffvit.files import RefusedError, UnreadableError, read_pickle, read_torch, whole_file


def test_takes_the_place_of_the_file_and_makes_folders(tmp_path):
    path = tmp_path / "new" / "table.csv"
    for text in ("old", "new"):
        with whole_file(path) as scratch:
            assert scratch.suffix == ".csv"
            scratch.write_text(text)
        assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")

    def fail():
        with whole_file(path) as scratch:
            scratch.write_text("half")
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_durable_files_are_on_the_disk_before_they_appear(tmp_path, monkeypatch):
    path, synced = tmp_path / "weights.pth", []
    sync = os.fsync

    def note(descriptor):
        synced.append((os.readlink(f"/proc/self/fd/{descriptor}"), path.exists()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    with whole_file(path, durable=True) as scratch:
        scratch.write_bytes(b"weights")
    assert synced == [(f"{path}.tmp", False), (str(tmp_path), True)]
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask()
    # what a killed writer has left is overwritten
    scratch.write_bytes(b"half of them")
    with whole_file(path, durable=True) as scratch:
        scratch.write_bytes(b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


DATA = {
    "array": np.arange(6, dtype=np.float32).reshape(2, 3),
    "empty": np.zeros((0, 3)),
    "scalar": np.float64(0.5),
    "names": np.array(["a", "b"]),
    "list": [1, 2.5, "text", None, (True, b"bytes")],
}


class Code:
    """Runs something when it is unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def save_pickle(value, path):
    path.write_bytes(pickle.dumps(value))


@pytest.mark.parametrize(("save", "read"), [(torch.save, read_torch), (save_pickle, read_pickle)])
def test_data_is_read_and_code_does_not_run(tmp_path, save, read):
    path = tmp_path / "a.pth"
    save(DATA, path)
    allowed = set(torch.serialization.get_safe_globals())
    found = read(path)
    assert set(torch.serialization.get_safe_globals()) == allowed
    assert found["list"] == DATA["list"]
    for key in ("array", "empty", "scalar", "names"):
        np.testing.assert_array_equal(found[key], DATA[key])
        assert found[key].dtype == DATA[key].dtype
    save({**DATA, "more": Code(tmp_path / "made")}, path)
    with pytest.raises((RefusedError, pickle.UnpicklingError), match=r"posix\.mkdir"):
        read(path)
    assert not (tmp_path / "made").exists()
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none")


def test_types_are_let_in_by_name_only(tmp_path):
    path = tmp_path / "a.pth"
    torch.save(argparse.Namespace(lr=1.0), path)
    with pytest.raises(RefusedError, match=r"holds more than data: GLOBAL argparse\.Namespace"):
        read_torch(path)
    assert read_torch(path, argparse.Namespace).lr == 1.0


@pytest.mark.parametrize("content", [b"", b"some text", pickle.dumps(DATA)])
def test_other_files_are_told_apart_from_code(tmp_path, content):
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    with pytest.raises(UnreadableError, match=rf"\({len(content)} bytes\) is truncated") as caught:
        read_torch(path)
    assert not isinstance(caught.value, RefusedError)
