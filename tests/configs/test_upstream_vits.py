"""Vision transformers of mmpretrain train under Mask R-CNN and UPerNet (docs/upstream_vits.md)."""

import numpy as np
import pytest
import torch
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope

from . import test_detection, test_segmentation
from .common import load

#: type, structure in a size for tests, channels of its maps; one number: of a plain network
BACKBONES = {
    "t2t": (
        "mmeffvit.DenseT2T",
        {
            "img_size": 64,
            "embed_dims": 24,
            "num_layers": 4,
            "t2t_cfg": {"token_dims": 8},
            "layer_cfgs": {"num_heads": 3, "feedforward_channels": 24},
        },
        24,
    ),
    "tnt": (
        "mmeffvit.DenseTNT",
        {
            "arch": {
                "embed_dims_outer": 24,
                "embed_dims_inner": 8,
                "num_layers": 4,
                "num_heads_inner": 2,
                "num_heads_outer": 3,
            },
            "img_size": 64,
        },
        24,
    ),
    **{
        name: (
            f"mmpretrain.{cls}",
            {
                "arch": {
                    "embed_dims": 12,
                    "depths": [1, 1, 1, 1],
                    "num_heads": [1, 2, 4, 8],
                    **more,
                },
                "img_size": 64,
                "window_size": window,
                "pad_small_map": True,
            },
            [12, 24, 48, 96],
        )
        for name, cls, window, more in (
            ("swin", "SwinTransformer", 4, {}),
            ("swin-v2", "SwinTransformerV2", [4, 4, 4, 4], {"extra_norm_every_n_blocks": 0}),
        )
    },
}


def one_step(cfg, scope, batch):
    """The loss is finite, and no parameter that is trained is without a gradient."""
    with DefaultScope.overwrite_default_scope(scope):
        model = revert_sync_batchnorm(MODELS.build(cfg.model)).train()
        data = model.data_preprocessor(batch, training=True)
        loss, log = model.parse_losses(model(**data, mode="loss"))
    assert all(np.isfinite(value.item()) for value in log.values()), log
    loss.backward()
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    assert [name for name, p in trained if p.grad is None] == []
    assert any(p.grad.abs().max() > 0 for name, p in trained if name.startswith("backbone"))


@pytest.mark.parametrize("name", BACKBONES)
def test_mask_rcnn(name):
    torch.manual_seed(0)
    kind, options, channels = BACKBONES[name]
    cfg = load("configs/_base_/detectors/mask-rcnn_fpn_1x_coco.py")
    cfg.model.backbone = {"type": kind, **options}
    if isinstance(channels, int):
        cfg.model.neck = {
            "type": "mmeffvit.PlainToPyramid",
            "in_channels": channels,
            "out_channels": 256,
            "num_outs": 5,
        }
    else:
        cfg.model.backbone.out_indices = (0, 1, 2, 3)
        cfg.model.neck.in_channels = channels
    cfg.model.train_cfg.rcnn.sampler.num = 8
    cfg.model.train_cfg.rpn_proposal.max_per_img = 50
    one_step(cfg, "mmdet", test_detection._batch(True))


@pytest.mark.parametrize("name", BACKBONES)
def test_upernet(name):
    torch.manual_seed(0)
    kind, options, channels = BACKBONES[name]
    cfg = load("configs/_base_/segmentors/upernet_8xb2-160k_ade20k-512x512.py")
    cfg.model.backbone = {"type": kind, "out_indices": (0, 1, 2, 3), **options}
    if isinstance(channels, int):
        channels = [channels] * 4
        cfg.model.neck = {"type": "mmeffvit.PlainToPyramid", "in_channels": channels}
    cfg.model.decode_head.update(in_channels=channels, channels=16)
    cfg.model.auxiliary_head.update(in_channels=channels[2], channels=16)
    cfg.model.data_preprocessor.size = (64, 64)
    one_step(cfg, "mmseg", test_segmentation._batch(64, 64))
