import os

import pytest
import torch
from mmengine.fileio import get_file_backend
from mmengine.runner import CheckpointLoader
from safetensors.torch import save_file

from mmeffvit.engine.storage import AtomicLocalBackend


def test_is_found_by_its_name():
    backend = get_file_backend(backend_args={"backend": "atomic_local"})
    assert isinstance(backend, AtomicLocalBackend)


def test_writes_bytes_and_text(tmp_path):
    backend = AtomicLocalBackend()
    backend.put(b"one", tmp_path / "new folder" / "a")
    backend.put(b"two", tmp_path / "new folder" / "a")
    backend.put_text("grün", str(tmp_path / "new folder" / "b"))
    assert (tmp_path / "new folder" / "a").read_bytes() == b"two"
    assert (tmp_path / "new folder" / "b").read_text("utf-8") == "grün"
    assert sorted(os.listdir(tmp_path / "new folder")) == ["a", "b"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch, failing):
    backend = AtomicLocalBackend()
    backend.put(b"old", tmp_path / "a")

    def no_space(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, no_space)
    with pytest.raises(OSError, match="No space left"):
        backend.put(b"new", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_mmengine_reads_safetensors(tmp_path):
    weights = {"layer.weight": torch.arange(6.0).reshape(2, 3)}
    save_file(weights, tmp_path / "w.safetensors")
    loaded = CheckpointLoader.load_checkpoint(str(tmp_path / "w.safetensors"), "cpu")
    assert torch.equal(loaded["state_dict"]["layer.weight"], weights["layer.weight"])
