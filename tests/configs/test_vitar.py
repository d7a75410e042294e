"""The configs of ViTAR build, and train."""

import numpy as np
import pytest
import torch
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope

from mmeffvit.testing import small_arch

from .common import check_rest_builds, load
from .test_detection import _batch

CONFIGS = {"s": "small", "b": "base"}


@pytest.mark.parametrize("size", CONFIGS)
def test_detector(size):
    cfg = load(f"configs/vitar/mask-rcnn_vitar-{size}_ms-3x_coco.py")
    with DefaultScope.overwrite_default_scope("mmdet"), torch.device("meta"):
        model = MODELS.build(cfg.model)
        check_rest_builds(cfg)
    backbone = model.backbone
    assert (backbone.arch_name, backbone.mode, backbone.merge_ratio) == (CONFIGS[size], "dense", 1)
    assert backbone.out_channels == (cfg.model.neck.in_channels,)
    assert backbone.out_strides == (16,)
    assert [b.mixer.core.window_size for b in backbone.blocks] == [14, 14, None] * 4
    assert cfg.train_cfg.max_epochs == 36
    assert cfg.optim_wrapper.paramwise_cfg == {"layer_decay_rate": 0.7, "no_decay": True}


@pytest.mark.parametrize("ratio", [1, 2])
def test_one_step(ratio):
    """Both kinds of dense maps: the loss is finite, and no parameter is without a gradient."""
    cfg = load("configs/vitar/mask-rcnn_vitar-s_ms-3x_coco.py")
    arch = small_arch("vitar-small")
    cfg.model.backbone.update(arch=arch, merge_ratio=ratio)
    cfg.model.neck.update(in_channels=arch["embed_dims"], in_stride=16 * ratio)
    cfg.model.train_cfg.rcnn.sampler.num = 8
    cfg.model.train_cfg.rpn_proposal.max_per_img = 50
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = revert_sync_batchnorm(MODELS.build(cfg.model)).train()
        data = model.data_preprocessor(_batch(True), training=True)
        loss, log = model.parse_losses(model(**data, mode="loss"))
    assert all(np.isfinite(value.item()) for value in log.values()), log
    loss.backward()
    assert [name for name, param in model.named_parameters() if param.grad is None] == []
