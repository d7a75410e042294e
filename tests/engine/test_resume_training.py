"""An interrupted and resumed run ends with the weights of an uninterrupted one."""

import pytest
import torch
from mmengine.config import Config

from mmeffvit.engine import launch, resume
from tests.engine import toy


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    """An iteration-based loop sleeps two seconds whenever its data starts anew."""
    monkeypatch.setattr("mmengine.runner.loops.time.sleep", lambda seconds: None)


def train(work_dir, resuming=False, crash_hook=None, without=(), **kwargs):
    """Run as tools/train.py does; the weights at the end, or None after a crash."""
    cfg = Config(toy.config(**kwargs))
    cfg.work_dir = str(work_dir)
    launch.add_safety_hooks(cfg)
    cfg.custom_hooks = [h for h in cfg.custom_hooks if h.type.partition(".")[2] not in without]
    if crash_hook is not None:
        cfg.custom_hooks.append(crash_hook)
    notes = resume.set_resume(cfg, "auto" if resuming else None)
    notes += launch.set_seed(cfg)
    cfg.experiment_name = f"{work_dir.name}_{resuming}_{len(list(work_dir.parent.iterdir()))}"
    runner = launch.build_runner(cfg, notes)
    try:
        runner.train()
    except toy.CrashError:
        return None
    last = sorted(work_dir.glob("*_[0-9].pth"))[-1]
    return torch.load(last, weights_only=True, map_location="cpu")


def assert_same_end(one, other):
    for part in ("state_dict", "ema_state_dict"):
        assert one[part].keys() == other[part].keys()
        for key, value in one[part].items():
            assert torch.equal(value, other[part][key]), f"{part}: {key}"
    for one_state, other_state in zip(
        one["optimizer"]["state"].values(), other["optimizer"]["state"].values(), strict=True
    ):
        for key, value in one_state.items():
            assert torch.equal(value, other_state[key]), key
    assert one["meta"]["iter"] == other["meta"]["iter"]


@pytest.mark.parametrize(
    ("kwargs", "crash_at"),
    [
        ({"loop": "epoch"}, 4),
        ({"loop": "epoch", "augment": True}, 4),
        ({"loop": "epoch", "workers": 1}, 4),
        ({"loop": "infinite"}, 3),
        ({"loop": "infinite", "augment": True}, 3),
        # right after validating, and where the samples begin anew
        ({"loop": "infinite", "augment": True}, 4),
        ({"loop": "iter", "augment": True}, 3),
        ({"loop": "iter", "augment": True}, 4),
    ],
)
def test_ends_as_if_not_interrupted(tmp_path, kwargs, crash_at):
    whole = train(tmp_path / "whole", **kwargs)
    hook = {"type": "CrashHook", "at": crash_at}
    assert train(tmp_path / "broken", crash_hook=hook, **kwargs) is None
    assert_same_end(whole, train(tmp_path / "broken", resuming=True, **kwargs))


def test_without_the_hook_it_does_not(tmp_path):
    """The test above can fail: dropout then depends on what was drawn before."""
    whole = train(tmp_path / "whole", without=["ReproducibleResumeHook"])
    hook = {"type": "CrashHook", "at": 4}
    train(tmp_path / "broken", crash_hook=hook, without=["ReproducibleResumeHook"])
    resumed = train(tmp_path / "broken", resuming=True, without=["ReproducibleResumeHook"])
    key = "layers.0.weight"
    assert not torch.allclose(whole["state_dict"][key], resumed["state_dict"][key], atol=1e-4)


def test_crash_while_writing_a_checkpoint(tmp_path):
    whole = train(tmp_path / "whole")
    broken = tmp_path / "broken"
    assert train(broken, crash_hook={"type": "CrashInWriteHook", "epoch": 2}) is None
    assert not (broken / "epoch_2.pth").exists()
    assert resume.find_damage(broken / "epoch_1.pth") is None
    assert_same_end(whole, train(broken, resuming=True))
    assert not list(broken.glob("*.tmp"))


def test_truncated_checkpoint_of_another_writer(tmp_path):
    """What mmengine's own hook leaves: half a file under the full name, and a pointer to it."""
    whole = train(tmp_path / "run")
    last = tmp_path / "run" / "epoch_2.pth"
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
    (tmp_path / "run" / "last_checkpoint").write_text(str(last))
    assert_same_end(whole, train(tmp_path / "run", resuming=True))


def test_seed_comes_from_the_checkpoint(tmp_path):
    whole = train(tmp_path / "run", randomness={"seed": 7})
    (tmp_path / "run" / "epoch_2.pth").unlink()
    assert_same_end(whole, train(tmp_path / "run", resuming=True))
    assert whole["meta"]["seed"] == 7
