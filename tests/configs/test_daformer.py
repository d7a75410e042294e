"""DAFormer's head on ADE20K: what is built, and at which rates it learns."""

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

from .common import build_optim_wrapper, check_rest_builds, load


def test_recipe():
    with DefaultScope.overwrite_default_scope("mmseg"):
        cfg = load("configs/daformer/daformer_rmt-s_8xb2-160k_ade20k-512x512.py")
        check_rest_builds(cfg)
        with torch.device("meta"):
            model = MODELS.build(cfg.model)
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    assert cfg.train_cfg.max_iters == cfg.param_scheduler[-1].end == 160_000
    assert cfg.model.auxiliary_head is None
    assert tuple(model.decode_head.in_channels) == model.backbone.out_channels
    assert model.decode_head.conv_seg.weight.shape == (150, 256, 1, 1)
    groups = wrapper.optimizer.param_groups
    found = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    for name, parameter in model.named_parameters():
        rate, decay = found[id(parameter)]
        head = name.startswith("decode_head.")
        assert rate == pytest.approx(6e-4 if head else 6e-5)
        # norms of the backbone are spared, and those of the head are as DAFormer's
        assert decay == (0 if "norm" in name and not head else 0.01), name
