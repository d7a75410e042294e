import argparse
import os

import pytest
import torch

from mmeffvit.checkpoint import CheckpointError, read_checkpoint, write_checkpoint

STATE = {"a.weight": torch.randn(3, 4), "a.count": torch.tensor(7)}


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_round_trip(tmp_path, suffix):
    path = tmp_path / "new folder" / f"weights{suffix}"
    shared = {**STATE, "b.weight": STATE["a.weight"], "c": torch.randn(4, 3).t()}
    write_checkpoint(shared, path, {"source": "somewhere"})
    read = read_checkpoint(path)
    read = read.get("state_dict", read)
    assert read.keys() == shared.keys()
    assert all(torch.equal(read[key], value) for key, value in shared.items())
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("kept", [0, 10, 0.5])
def test_truncated_file_is_named(tmp_path, suffix, kept):
    path = tmp_path / f"weights{suffix}"
    write_checkpoint(STATE, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    with pytest.raises(CheckpointError, match=rf"weights{suffix}.*truncated or not a"):
        read_checkpoint(path)


def test_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "weights.pth"
    write_checkpoint(STATE, path)
    before = path.read_bytes()

    def interrupted(obj, file):
        with open(file, "wb") as handle:
            handle.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint({"other": torch.zeros(1)}, path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["weights.pth"]


class Malicious:
    ran = False

    def __reduce__(self):
        return (setattr, (Malicious, "ran", True))


def test_code_in_a_checkpoint_does_not_run(tmp_path):
    torch.save({"model": STATE, "extra": Malicious()}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match=r"evil.pth' holds more than data.*setattr"):
        read_checkpoint(tmp_path / "evil.pth")
    assert not Malicious.ran


def test_command_line_of_a_training_state_is_data(tmp_path):
    torch.save({"model": STATE, "args": argparse.Namespace(lr=1.0)}, tmp_path / "train.pth")
    assert read_checkpoint(tmp_path / "train.pth")["args"].lr == 1.0


def test_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*none.pth"):
        read_checkpoint(tmp_path / "none.pth")


def test_not_a_dict(tmp_path):
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="holds a list, not a dict"):
        read_checkpoint(tmp_path / "list.pth")
