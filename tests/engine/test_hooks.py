import random

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmeffvit.engine import launch
from mmeffvit.engine.errors import InvalidLossError
from mmeffvit.engine.hooks import (
    CheckInvalidLossHook,
    ReproducibleResumeHook,
    SafeCheckpointHook,
    reproducible_resume,
)
from mmeffvit.engine.resume import find_damage
from mmeffvit.registry import HOOKS
from tests.engine import toy


def make_runner(work_dir, checkpoint=None, **kwargs):
    cfg = Config(toy.config(**kwargs))
    cfg.work_dir = str(work_dir)
    cfg.default_hooks.checkpoint.update(checkpoint or {})
    launch.add_safety_hooks(cfg)
    launch.set_seed(cfg)
    cfg.experiment_name = work_dir.parent.name
    return launch.build_runner(cfg)


@pytest.mark.parametrize("hook", [SafeCheckpointHook, ReproducibleResumeHook, CheckInvalidLossHook])
def test_resolves_from_any_scope(hook):
    from mmdet.registry import HOOKS as MMDET_HOOKS

    assert HOOKS.get(hook.__name__) is hook
    assert type(MMDET_HOOKS.build({"type": f"mmeffvit.{hook.__name__}"})) is hook


class TestSafeCheckpointHook:
    def test_keeps_as_many_as_asked(self, tmp_path):
        make_runner(tmp_path / "run", {"max_keep_ckpts": 1}).train()
        assert [path.name for path in (tmp_path / "run").glob("*.pth*")] == ["epoch_2.pth"]
        pointer = (tmp_path / "run" / "last_checkpoint").read_text()
        assert pointer == str(tmp_path / "run" / "epoch_2.pth")

    def test_keeps_the_old_one_until_the_new_one_is_whole(self, tmp_path):
        crash = {"type": "CrashInWriteHook", "epoch": 2}
        runner = make_runner(tmp_path / "run", {"max_keep_ckpts": 1}, custom_hooks=[crash])
        with pytest.raises(toy.CrashError):
            runner.train()
        assert find_damage(tmp_path / "run" / "epoch_1.pth") is None

    def test_replaces_the_best_one(self, tmp_path):
        make_runner(tmp_path / "run", {"save_best": "score", "rule": "greater"}).train()
        names = sorted(path.name for path in (tmp_path / "run").glob("*.pth*"))
        assert names == ["best_score_epoch_2.pth", "epoch_1.pth", "epoch_2.pth"]
        assert all(find_damage(path) is None for path in (tmp_path / "run").glob("*.pth"))

    def test_keeps_the_best_one_until_the_new_one_is_whole(self, tmp_path):
        # epoch 2 is written, then the best one of epoch 2
        crash = {"type": "CrashInWriteHook", "epoch": 2, "write": 2}
        runner = make_runner(
            tmp_path / "run", {"save_best": "score", "rule": "greater"}, custom_hooks=[crash]
        )
        with pytest.raises(toy.CrashError):
            runner.train()
        assert find_damage(tmp_path / "run" / "best_score_epoch_1.pth") is None

    def test_a_backend_of_the_config_stays(self, tmp_path):
        runner = make_runner(tmp_path / "run", {"backend_args": {"backend": "local"}})
        runner.train()
        (hook,) = (hook for hook in runner.hooks if isinstance(hook, SafeCheckpointHook))
        assert hook.backend_args == {"backend": "local"}


class TestReproducibleResumeHook:
    def draw(self):
        return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002

    def test_numbers_follow_seed_stream_iteration_and_rank(self, monkeypatch):
        def numbers(seed=0, stream=0, iteration=5, rank=0):
            monkeypatch.setattr(reproducible_resume, "get_rank", lambda: rank)
            reproducible_resume._seed(seed, stream, iteration)
            return self.draw()

        first = numbers()
        assert first == numbers()
        others = [numbers(seed=1), numbers(stream=1), numbers(iteration=6), numbers(rank=1)]
        for generator in range(3):
            assert len({drawn[generator] for drawn in [first, *others]}) == 5


class TestCheckInvalidLossHook:
    def test_names_iteration_and_loss(self, tmp_path):
        runner = make_runner(tmp_path / "run", model={"type": "ToyModel", "nan_at": 5})
        with pytest.raises(
            InvalidLossError, match=r"iteration 5, epoch 2: loss_fit=nan\. "
        ) as error:
            runner.train()
        assert "loss_size" not in str(error.value)
        assert "learning rate was 0." in str(error.value)
        # nothing was saved from after the damage
        weights = torch.load(tmp_path / "run" / "epoch_1.pth", weights_only=True)["state_dict"]
        assert all(torch.isfinite(value).all() for value in weights.values())

    def test_interval(self, tmp_path):
        with pytest.raises(ValueError, match="at least 1"):
            CheckInvalidLossHook(interval=0)
        hooks = [{"type": "mmeffvit.CheckInvalidLossHook", "interval": 4}]
        model = {"type": "ToyModel", "nan_at": 3}
        runner = make_runner(tmp_path / "run", model=model, custom_hooks=hooks)
        with pytest.raises(InvalidLossError, match="iteration 4"):
            runner.train()
