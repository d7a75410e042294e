"""Mask R-CNN with NAT and DiNAT: the authors' recipe."""

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

from .common import ROOT, build_optim_wrapper, check_rest_builds, load

# variant, channels of the first stage, stochastic depth of the detectors
SIZES = {"m": ("mini", 64, 0.2), "t": ("tiny", 64, 0.2), "s": ("small", 96, 0.35)}
CASES = [(family, size) for family in ("nat", "dinat") for size in SIZES]


def path_of(family, size):
    return f"configs/dinat/mask-rcnn_{family}-{size}_fpn_ms-3x_coco.py"


def test_no_config_is_missing_or_unknown():
    there = {p.relative_to(ROOT).as_posix() for p in (ROOT / "configs/dinat").glob("*.py")}
    assert there == {path_of(*case) for case in CASES}


@pytest.mark.parametrize(("family", "size"), CASES)
def test_recipe(family, size):
    cfg = load(path_of(family, size))
    variant, channels, drop_path = SIZES[size]
    with DefaultScope.overwrite_default_scope("mmdet"):
        check_rest_builds(cfg)
        with torch.device("meta"):
            model = MODELS.build(cfg.model)
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    backbone = model.backbone
    assert (backbone.family, backbone.arch_name) == (family, variant)
    assert backbone.out_channels == tuple(channels * 2**i for i in range(4))
    assert backbone.out_channels == tuple(cfg.model.neck.in_channels)
    assert backbone.drop_path_rate == drop_path
    assert backbone.out_norm
    dilations = [block.mixer.core.dilation for block in backbone.stages[0].blocks]
    assert dilations == ([1, 28, 1] if family == "dinat" else [1, 1, 1])
    scaled = any("layer_scale" in name for name in backbone.state_dict())
    assert scaled == ((family, size) == ("nat", "s"))

    assert cfg.train_cfg.max_epochs == 36
    assert cfg.param_scheduler[1].milestones == [27, 33]
    pipeline = repr(cfg.train_dataloader.dataset.pipeline)
    assert "RandomChoiceResize" in pipeline
    assert "RandomCrop" in pipeline
    assert cfg.train_dataloader.batch_size == 2
    assert cfg.auto_scale_lr.base_batch_size == 16

    assert isinstance(wrapper.optimizer, torch.optim.AdamW)
    assert wrapper.clip_grad_kwargs is None
    names = {id(param): name for name, param in model.named_parameters()}
    for group in wrapper.optimizer.param_groups:
        assert group["lr"] == 1e-4
        for param in group["params"]:
            exempt = "norm" in names[id(param)] or "rpb" in names[id(param)]
            assert group["weight_decay"] == (0.0 if exempt else 0.05), names[id(param)]
