from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import nn

from mmeffvit.engine import launch
from mmeffvit.engine.errors import LaunchError
from mmeffvit.engine.hooks import CompileBackboneHook
from tests.engine import toy


@MODELS.register_module(force=True)
class ToyDetector(BaseModel):
    """A backbone and a head, without chance."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(8, 8), nn.GELU())
        self.head = nn.Linear(8, 1)

    def forward(self, inputs, mode="tensor"):
        out = self.head(self.backbone(torch.stack(list(inputs))))
        return {"loss": (out - 1).square().mean()} if mode == "loss" else list(out)


def train(work_dir, compiled, model="ToyDetector", **changes):
    hook = {"type": "mmeffvit.CompileBackboneHook", "backend": "eager", **changes}
    cfg = Config(toy.config(model={"type": model}, custom_hooks=[hook] if compiled else []))
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = f"{work_dir.parent.name}-{work_dir.name}"
    launch.add_safety_hooks(cfg)
    launch.set_seed(cfg)
    runner = launch.build_runner(cfg)
    runner.train()
    return runner


def weights(work_dir):
    return torch.load(work_dir / "epoch_2.pth", weights_only=False)["state_dict"]


def test_weights_keep_their_names_and_values(tmp_path):
    runner = train(tmp_path / "compiled", True)
    (hook,) = (h for h in runner.hooks if type(h).__name__ == "CompileBackboneHook")
    assert hook.graphs >= 1
    train(tmp_path / "plain", False)
    compiled, plain = weights(tmp_path / "compiled"), weights(tmp_path / "plain")
    assert compiled.keys() == plain.keys()
    assert "backbone.0.weight" in compiled
    for name, expected in plain.items():
        torch.testing.assert_close(compiled[name], expected)


def test_many_compilations_are_told_once():
    messages = []
    runner = SimpleNamespace(logger=SimpleNamespace(log=lambda level, text: messages.append(text)))
    hook = CompileBackboneHook(limit=2)
    for graphs in (1, 3, 4, 5):
        hook.graphs = graphs
        hook.after_train_iter(runner, 0)
    (message,) = messages
    assert "compiled 3 more times after the first iteration" in message


def test_a_model_without_a_backbone(tmp_path):
    with pytest.raises(LaunchError, match=r"model\.backbone, and ToyModel has none"):
        train(tmp_path / "run", True, model="ToyModel")


def test_the_option_adds_the_hook_once():
    cfg = Config({"custom_hooks": [{"type": "EMAHook"}]})
    launch.enable_compile(cfg)
    launch.enable_compile(cfg)
    types = [hook.type for hook in cfg.custom_hooks]
    assert types == ["EMAHook", "mmeffvit.CompileBackboneHook"]
