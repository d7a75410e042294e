"""Which checkpoint is taken, for every state that a crash, a copy or a person can leave behind."""

import logging
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmeffvit.checkpoint import CheckpointError
from mmeffvit.engine.resume import find_damage, list_checkpoints, set_resume


def write(path, seed=3, **parts):
    state = {"state_dict": {"w": torch.randn(64, 64)}, "optimizer": {}, "message_hub": {}}
    torch.save({**state, "meta": {"seed": seed, "iter": 1}, **parts}, path)
    return path


def cut(path, keep=0.5):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


def make_cfg(work_dir, **kwargs):
    return Config({"work_dir": str(work_dir), **kwargs})


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (cut, "is truncated"),
        (lambda path: cut(path, 0.999), "is truncated"),
        (flip_a_bit, "is corrupt"),
        (empty, "is empty"),
        (Path.unlink, "does not exist"),
    ],
)
class TestDamage:
    def test_is_found_and_named(self, tmp_path, damage, reason):
        path = write(tmp_path / "epoch_1.pth")
        assert find_damage(path) is None
        damage(path)
        assert reason in find_damage(path)

    def test_is_skipped_with_a_warning(self, tmp_path, damage, reason):
        for epoch in (1, 2, 10):
            write(tmp_path / f"epoch_{epoch}.pth")
        (tmp_path / "last_checkpoint").write_text(str(tmp_path / "epoch_10.pth"))
        damage(tmp_path / "epoch_10.pth")
        cfg = make_cfg(tmp_path)
        notes = set_resume(cfg, "auto")
        assert cfg.resume
        assert cfg.load_from == str(tmp_path / "epoch_2.pth")
        if reason != "does not exist":
            level, message = notes[0]
            assert level == logging.WARNING
            assert "epoch_10.pth" in message
            assert reason in message

    def test_is_an_error_if_asked_for(self, tmp_path, damage, reason):
        path = write(tmp_path / "epoch_1.pth")
        damage(path)
        with pytest.raises(
            CheckpointError, match=rf"epoch_1.pth {reason}.*--resume without a path"
        ):
            set_resume(make_cfg(tmp_path), str(path))


def test_all_damaged_starts_anew(tmp_path):
    cut(write(tmp_path / "epoch_1.pth"))
    cfg = make_cfg(tmp_path, load_from="pretrained.pth")
    messages = [message for _, message in set_resume(cfg, "auto")]
    assert "epoch_1.pth is truncated" in messages[0]
    assert "starting anew" in messages[1]
    # the weights that the config starts from still count
    assert (cfg.resume, cfg.load_from) == (False, "pretrained.pth")


@pytest.mark.parametrize("pointer", [None, "", "gone/epoch_7.pth"])
def test_without_checkpoints_starts_anew(tmp_path, pointer):
    if pointer is not None:
        (tmp_path / "last_checkpoint").write_text(pointer)
    cfg = make_cfg(tmp_path)
    ((_, message),) = set_resume(cfg, "auto")
    assert str(tmp_path) in message
    assert cfg.resume is False


@pytest.mark.parametrize("pointer", ["", "gone/epoch_7.pth"])
def test_a_useless_pointer_does_no_harm(tmp_path, pointer):
    write(tmp_path / "epoch_1.pth")
    (tmp_path / "last_checkpoint").write_text(pointer)
    cfg = make_cfg(tmp_path)
    set_resume(cfg, "auto")
    assert cfg.load_from == str(tmp_path / "epoch_1.pth")


def test_pointer_to_another_folder_comes_last(tmp_path):
    work_dir = tmp_path / "work"
    work_dir.mkdir()
    elsewhere = write(tmp_path / "custom_name.pth")
    (work_dir / "last_checkpoint").write_text(str(elsewhere))
    assert list_checkpoints(make_cfg(work_dir)) == [elsewhere]
    own = write(work_dir / "epoch_1.pth")
    assert list_checkpoints(make_cfg(work_dir)) == [own, elsewhere]


def test_names_follow_the_checkpoint_hook(tmp_path):
    for name in ("epoch_3.pth", "iter_900.pth", "iter_1000.pth", "best_mAP_epoch_2.pth"):
        write(tmp_path / name)
    by_iter = make_cfg(tmp_path, default_hooks={"checkpoint": {"by_epoch": False}})
    assert [p.name for p in list_checkpoints(by_iter)] == ["iter_1000.pth", "iter_900.pth"]
    (tmp_path / "out" / tmp_path.name).mkdir(parents=True)
    moved = write(tmp_path / "out" / tmp_path.name / "e3.pth")
    hook = {"out_dir": str(tmp_path / "out"), "filename_tmpl": "e{}.pth"}
    assert list_checkpoints(make_cfg(tmp_path, default_hooks={"checkpoint": hook})) == [moved]


def test_not_resuming_warns_before_overwriting(tmp_path):
    assert set_resume(make_cfg(tmp_path)) == []
    write(tmp_path / "epoch_1.pth")
    cfg = make_cfg(tmp_path)
    ((level, message),) = set_resume(cfg)
    assert level == logging.WARNING
    assert "--resume" in message
    assert not cfg.get("resume")


def test_what_the_config_says_counts_without_a_flag(tmp_path):
    first, _ = (write(tmp_path / f"epoch_{epoch}.pth") for epoch in (1, 2))
    cfg = make_cfg(tmp_path, resume=True, load_from=str(first))
    set_resume(cfg)
    assert cfg.load_from == str(first)
    cfg = make_cfg(tmp_path, resume=True)
    set_resume(cfg)
    assert cfg.load_from == str(tmp_path / "epoch_2.pth")


def test_seed(tmp_path):
    path = str(write(tmp_path / "epoch_1.pth", seed=5))
    cfg = make_cfg(tmp_path, randomness={"deterministic": True})
    set_resume(cfg, path)
    assert cfg.randomness == {"deterministic": True, "seed": 5}
    cfg = make_cfg(tmp_path, randomness={"seed": 6})
    set_resume(cfg, path)
    assert cfg.randomness.seed == 6


def test_weights_alone_are_not_a_training_state(tmp_path):
    torch.save({"state_dict": {}, "meta": {}}, tmp_path / "published.pth")
    with pytest.raises(CheckpointError, match=r"holds no optimizer, message_hub.*load_from="):
        set_resume(make_cfg(tmp_path), str(tmp_path / "published.pth"))


class Stranger:
    """A type that torch does not load with weights_only."""


def test_code_in_a_checkpoint_is_refused_not_skipped(tmp_path):
    write(tmp_path / "epoch_1.pth")
    write(tmp_path / "epoch_2.pth", extra=Stranger())
    with pytest.raises(CheckpointError, match=r"epoch_2.pth.*more than data"):
        set_resume(make_cfg(tmp_path), "auto")
