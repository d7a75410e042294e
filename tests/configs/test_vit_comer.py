"""The configs of ViT-CoMer build, hold the authors' recipes, and train."""

import numpy as np
import pytest
import torch
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope

from mmeffvit.testing import small_arch

from .common import build_optim_wrapper, check_rest_builds, load
from .test_detection import _batch as detection_batch
from .test_segmentation import _batch as segmentation_batch

DETECTION = "configs/vit_comer/mask-rcnn_vit-comer-s_fpn_1x_coco.py"
SEGMENTATION = "configs/vit_comer/upernet_vit-comer-s_8xb2-160k_ade20k-512x512.py"


def optimizer_options(cfg, scope):
    """Learning rate and weight decay of every parameter by name."""
    with DefaultScope.overwrite_default_scope(scope), torch.device("meta"):
        model = MODELS.build(cfg.model)
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
        check_rest_builds(cfg)
    names = {id(param): name for name, param in model.named_parameters()}
    return model, {
        names[id(param)]: (group["lr"], group["weight_decay"])
        for group in wrapper.optimizer.param_groups
        for param in group["params"]
    }


def check_decay(model, options, rate, lr, decay):
    """By the words of the authors' recipe: layer, and what is not decayed."""
    assert options.keys() == {name for name, _ in model.named_parameters()}
    for name, param in model.named_parameters():
        part = name.removeprefix("backbone.")
        layer = 13
        if part.startswith(("patch_embed.", "position.")) and name != part:
            layer = 0
        elif part.startswith("blocks.") and name != part:
            layer = int(part.split(".")[1]) + 1
        undecayed = param.ndim <= 1 or part == "position.table"
        expected = (lr * rate ** (13 - layer), 0.0 if undecayed else decay)
        assert options[name] == pytest.approx(expected), name


def test_detection():
    cfg = load(DETECTION)
    model, options = optimizer_options(cfg, "mmdet")
    check_decay(model, options, 0.7, 1e-4, 0.05)
    backbone = model.backbone
    assert (backbone.family, backbone.arch_name) == ("vit-comer", "det-small")
    assert backbone.out_norm
    assert backbone.drop_path_rate == 0.2
    assert backbone.out_channels == tuple(cfg.model.neck.in_channels)
    assert (cfg.train_dataloader.batch_size, cfg.auto_scale_lr.base_batch_size) == (2, 16)
    assert "clip_grad" not in cfg.optim_wrapper
    warm_up, decay = cfg.param_scheduler
    assert (warm_up.start_factor, warm_up.end, decay.milestones) == (0.001, 500, [8, 11])
    assert cfg.train_cfg.max_epochs == 12
    steps = [step.type for step in cfg.train_dataloader.dataset.pipeline]
    assert steps[-3:] == ["RandomChoice", "RandomCrop", "PackDetInputs"]
    assert cfg.train_dataloader.dataset.pipeline[-2].crop_size == (1024, 1024)
    assert cfg.sync_bn == "torch"


def test_segmentation():
    cfg = load(SEGMENTATION)
    model, options = optimizer_options(cfg, "mmseg")
    check_decay(model, options, 0.95, 6e-5, 0.01)
    assert (model.backbone.arch_name, model.backbone.drop_path_rate) == ("seg-small", 0.2)
    # published for the whole of it, with the auxiliary head
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(61.4, abs=0.05)
    test = cfg.model.test_cfg
    assert (test.mode, test.crop_size, test.stride) == ("slide", (512, 512), (341, 341))
    warm_up, decay = cfg.param_scheduler
    assert (warm_up.start_factor, warm_up.end) == (1e-6, 1500)
    assert (decay.power, decay.end, cfg.train_cfg.max_iters) == (1.0, 160_000, 160_000)
    assert cfg.train_dataloader.batch_size == 2


@pytest.mark.parametrize("path", [DETECTION, SEGMENTATION])
def test_one_step(path):
    """The loss is finite, and no parameter is left without a gradient."""
    cfg = load(path)
    detects = path == DETECTION
    arch = small_arch(f"vit-comer-{'det' if detects else 'seg'}-small")
    cfg.model.backbone.arch = arch
    channels = [arch["embed_dims"]] * 4
    if detects:
        cfg.model.neck.in_channels = channels
        cfg.model.train_cfg.rcnn.sampler.num = 8
        cfg.model.train_cfg.rpn_proposal.max_per_img = 50
    else:
        cfg.model.data_preprocessor.size = (64, 64)
        cfg.model.decode_head.in_channels = channels
        cfg.model.auxiliary_head.in_channels = channels[0]
        cfg.model.decode_head.channels = cfg.model.auxiliary_head.channels = 16
    with DefaultScope.overwrite_default_scope("mmdet" if detects else "mmseg"):
        # as the runner does outside of distributed training
        model = revert_sync_batchnorm(MODELS.build(cfg.model)).train()
        batch = detection_batch(True) if detects else segmentation_batch(64, 64)
        data = model.data_preprocessor(batch, training=True)
        loss, log = model.parse_losses(model(**data, mode="loss"))
    assert all(np.isfinite(value.item()) for value in log.values()), log
    loss.backward()
    assert [name for name, param in model.named_parameters() if param.grad is None] == []
