"""Adapters by one option of a config: what is written, trained, merged and resumed."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS, DefaultScope
from torch import nn

import mmeffvit
from mmeffvit.engine.errors import LaunchError
from mmeffvit.engine.merging import merge_checkpoint, without_tuning
from mmeffvit.swap import SwapError, command_line
from tests.engine import toy
from tests.engine.test_resume_training import assert_same_end, train
from tests.tools import runs

RETINANET = "mmdet::retinanet/retinanet_r50_fpn_1x_coco.py"
VIT = {
    "type": "mmeffvit.PlainViT",
    "in_channels": 1,
    "drop_path_rate": 0.2,
    "arch": {
        "embed_dims": 8,
        "depth": 2,
        "num_heads": 2,
        "mlp_ratio": 1,
        "patch_size": 16,
        "image_size": 32,
        "extra_tokens": 0,
        "window_sizes": None,
        "layer_scale": None,
    },
}


@MODELS.register_module(force=True)
class ToyTunedModel(BaseModel):
    """A backbone and a linear head on the vectors of `toy`, drawn as images."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = MODELS.build(backbone)
        self.head = nn.Linear(8, 1)

    def forward(self, inputs, mode="tensor"):
        image = F.interpolate(torch.stack(list(inputs)).view(-1, 1, 2, 4), (32, 32))
        out = self.head(self.backbone(image)[-1].mean((2, 3)))
        return {"loss": (out - 1).square().mean()} if mode == "loss" else [{"out": o} for o in out]


def toy_config(**kwargs):
    cfg = Config(toy.config(model={"type": "ToyTunedModel", "backbone": VIT}))
    entries = dict(mmeffvit.set_tuning(cfg, **kwargs))
    del entries["tuning"]  # mmengine lays out every line of it for its log
    return entries


def test_what_is_written():
    cfg = mmeffvit.swap_backbone(RETINANET, "rmt-tiny", checkpoint="rmt-tiny/in1k")
    tuned = mmeffvit.set_tuning(cfg, lora=8, alpha=16)
    assert tuned.model.backbone == {
        "type": "mmeffvit.TunedBackbone",
        "backbone": cfg.model.backbone,
        "lora": 8,
        "alpha": 16,
    }
    assert [hook.type for hook in tuned.custom_hooks] == ["mmeffvit.MergeAdaptersHook"]
    assert [change.path for change in tuned.tuning.changes] == ["model.backbone", "custom_hooks"]
    assert tuned.tuning.notes == []
    assert tuned.backbone_swap == cfg.backbone_swap
    assert tuned.filename == "retinanet_r50_fpn_1x_coco_rmt-tiny_lora8.py"
    with DefaultScope.overwrite_default_scope("mmdet"), torch.device("meta"):
        model = MODELS.build(tuned.model)
    trained = {n.partition(".")[0] for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {"backbone", "neck", "bbox_head"}


def test_other_ways_need_no_hook():
    assert "custom_hooks" not in mmeffvit.set_tuning(RETINANET, frozen=True)
    cfg = mmeffvit.swap_backbone(RETINANET, "timm/test_vit", pretrained=False)
    tuned = mmeffvit.set_tuning(cfg, adaptformer=4)
    assert "custom_hooks" not in tuned
    (note,) = tuned.tuning.notes
    assert "no weights of the backbone" in note


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({}, "Name one of lora=, adaptformer= and frozen=True; got none"),
        ({"lora": 4, "adaptformer": 4}, "got \\['lora', 'adaptformer'\\]"),
        ({"adaptformer": 4}, "ResNet cannot be tuned so: AdaptFormer needs blocks"),
        ({"lora": 4, "targets": "qkv"}, "ResNet cannot be tuned so: targets=\\['qkv'\\]"),
        ({"lora": 4, "rank": 3}, "unexpected keyword argument 'rank'"),
    ],
)
def test_errors(kwargs, words):
    with pytest.raises(SwapError, match=words):
        mmeffvit.set_tuning(RETINANET, **kwargs)


def test_twice():
    with pytest.raises(SwapError, match="is tuned already"):
        mmeffvit.set_tuning(mmeffvit.set_tuning(RETINANET, lora=4), lora=4)


def test_weights_beside_the_backbone():
    """Those that a segmentor hands on go to the network itself."""
    cfg = Config(
        {
            **toy_config(frozen=True),
            "model": {
                "type": "X",
                "pretrained": "a.pth",
                "backbone": {"type": "mmseg.ResNet", "depth": 18},
            },
        }
    )
    tuned = mmeffvit.set_tuning(cfg, frozen=True)
    assert tuned.model.pretrained is None
    assert tuned.model.backbone.backbone.pretrained == "a.pth"


def test_on_the_command_line(monkeypatch, capsys):
    monkeypatch.setenv("LOCAL_RANK", "0")
    parser = command_line.launch_parser("", "")
    words = [RETINANET, "--lora", "4", "--tuning-options", "targets=[conv1,conv3]", "alpha=8"]
    cfg = command_line.load_config(command_line.parse(parser, words))
    assert cfg.model.backbone.lora == 4
    assert cfg.model.backbone.targets == ["conv1", "conv3"]
    assert command_line.tuning_report(cfg) == "tuning: lora\n"
    with pytest.raises(SystemExit):
        command_line.parse(parser, [RETINANET, "--tuning-options", "alpha=8"])
    assert "--tuning-options needs --lora RANK" in capsys.readouterr().err


def test_the_config_of_merged_weights():
    """Also of a config that lies in no file, and that of before."""
    cfg = mmeffvit.swap_backbone(RETINANET, "rmt-tiny")
    plain = without_tuning(mmeffvit.set_tuning(cfg, lora=4))
    assert plain.model == cfg.model
    assert plain.custom_hooks == []
    assert "tuning" not in plain


@pytest.mark.parametrize("kwargs", [{"lora": 2}, {"adaptformer": 2}])
def test_resumes_exactly(tmp_path, kwargs):
    """Adapters, their moments and averages, head: as if there had been no interruption."""
    cfg = toy_config(**kwargs)
    whole = train(tmp_path / "whole", **cfg)
    hook = {"type": "CrashHook", "at": 4}
    assert train(tmp_path / "broken", crash_hook=hook, **cfg) is None
    assert_same_end(whole, train(tmp_path / "broken", resuming=True, **cfg))
    adapters = [k for k in whole["state_dict"] if "lora_B" in k or "adapter.up.weight" in k]
    assert adapters
    assert all(whole["state_dict"][key].count_nonzero() for key in adapters)


def test_merged_weights(tmp_path, capsys):
    """They fit the config beside them, and predict what averages with adapters do."""
    whole = train(tmp_path / "run", **toy_config(lora=2))
    (file,) = (tmp_path / "run" / "merged").glob("*.pth")
    cfg = Config.fromfile(file.with_suffix(".py"))
    assert cfg.model.backbone.type == "mmeffvit.PlainViT"
    merged = torch.load(file, weights_only=True)
    plain, tuned = MODELS.build(cfg.model), MODELS.build(toy_config(lora=2)["model"])
    plain.load_state_dict(merged["state_dict"])
    # of a run with EMAHook, mmengine keeps the averages as the weights of a checkpoint
    tuned.load_state_dict(whole["state_dict"])
    inputs = torch.randn(3, 8)
    for one, other in zip(plain.eval()(inputs), tuned.eval()(inputs), strict=True):
        torch.testing.assert_close(one["out"], other["out"])

    config, checkpoint = tmp_path / "tuned.py", tmp_path / "run" / "epoch_2.pth"
    Config(toy_config(lora=2)).dump(str(config))
    with runs.main("merge_adapters.py") as main:
        main(str(config), str(checkpoint), "--out", str(tmp_path / "again.pth"))
    assert "with again.py" in capsys.readouterr().out
    again = torch.load(tmp_path / "again.pth", weights_only=True)
    assert again["state_dict"].keys() == merged["state_dict"].keys()
    for key, value in again["state_dict"].items():
        torch.testing.assert_close(value, merged["state_dict"][key])
    with pytest.raises(LaunchError, match="has no adapters"):
        merge_checkpoint(cfg, str(checkpoint), tmp_path / "none.pth")
