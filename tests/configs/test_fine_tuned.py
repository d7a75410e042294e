"""Configs of networks of which no paper has detectors and segmentors that are known: they build."""

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

from .common import check_rest_builds, load

# folder -> backbone of the two configs, and the decay of rates per layer in both
NETWORKS = {
    "crossvit": ("crossvit", "small"),
    "msa_conv": ("", None),
    "resformer": ("resformer", "small"),
    "sret": ("sret", "small"),
    "svt": ("svt", "small"),
}
PATHS = {
    "crossvit": (
        "mask-rcnn_crossvit-s_ms-3x_coco.py",
        "upernet_crossvit-s_8xb2-160k_ade20k-512x512.py",
    ),
    "msa_conv": (
        "mask-rcnn_msa-conv-pyramid_fpn_1x_coco.py",
        "upernet_msa-conv-pyramid_8xb2-160k_ade20k-512x512.py",
    ),
    "resformer": (
        "mask-rcnn_resformer-s_ms-3x_coco.py",
        "upernet_resformer-s_8xb2-160k_ade20k-512x512.py",
    ),
    "sret": (
        "mask-rcnn_sret-s_fpn_1x_coco.py",
        "upernet_sret-s_8xb2-160k_ade20k-512x512.py",
    ),
    "svt": (
        "mask-rcnn_svt-s_fpn_1x_coco.py",
        "upernet_svt-s_8xb2-160k_ade20k-512x512.py",
    ),
}


@pytest.mark.parametrize("detects", [True, False], ids=["detector", "segmentor"])
@pytest.mark.parametrize("folder", NETWORKS)
def test_builds_and_maps_fit(folder, detects):
    cfg = load(f"configs/{folder}/{PATHS[folder][not detects]}")
    with DefaultScope.overwrite_default_scope("mmdet" if detects else "mmseg"):
        check_rest_builds(cfg)
        with torch.device("meta"):
            model = MODELS.build(cfg.model)
    backbone = model.backbone
    assert (backbone.family, backbone.arch_name) == NETWORKS[folder]
    decays = "LayerDecay" in cfg.optim_wrapper.get("constructor", "")
    assert decays == (backbone.family in ("crossvit", "resformer"))
    maps = backbone.to("meta")(torch.empty(1, 3, 64, 96, device="meta"))
    levels = model.neck(maps) if model.with_neck else maps
    if detects:
        assert [tuple(x.shape[1:]) for x in levels[:4]] == [
            (256, 16, 24),
            (256, 8, 12),
            (256, 4, 6),
            (256, 2, 3),
        ]
    else:
        assert tuple(x.shape[1] for x in levels) == tuple(cfg.model.decode_head.in_channels)
        assert levels[2].shape[1] == cfg.model.auxiliary_head.in_channels
        assert [x.shape[3] for x in levels] == [24, 12, 6, 3]
    assert len(backbone.out_indices) == len(maps)


@pytest.mark.parametrize(
    "name",
    [
        "mask-rcnn_r50_duoformer-fpn_1x_coco",
        "upernet_r50_duoformer_8xb2-160k_ade20k-512x512",
    ],
)
def test_attention_across_scales_stands_before_the_head(name):
    cfg = load(f"configs/duoformer/{name}.py")
    detects = "coco" in name
    with DefaultScope.overwrite_default_scope("mmdet" if detects else "mmseg"):
        check_rest_builds(cfg)
        with torch.device("meta"):
            model = MODELS.build(cfg.model).eval()
    levels = model.neck(model.backbone(torch.empty(1, 3, 65, 96, device="meta")))
    assert [tuple(x.shape[1:]) for x in levels[:4]] == [
        (256, 17, 24),
        (256, 9, 12),
        (256, 5, 6),
        (256, 3, 3),
    ]
    mixed = model.neck[0] if detects else model.neck
    assert [p.in_channels for p in mixed.projections] == [512, 1024, 2048]
    assert len(mixed.blocks) == 1
