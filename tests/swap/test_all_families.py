"""The smallest network of every family, under ten methods: one of each kind of neck and head."""

import functools

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

from mmeffvit.engine.launch import load_config
from mmeffvit.models.zoo import backbone_classes
from mmeffvit.swap import SwapError, plan_swap
from mmeffvit.testing import small_arch

METHODS = {
    "one stage": "mmdet::retinanet/retinanet_r50_fpn_1x_coco.py",
    "without anchors": "mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py",
    "two stages and masks": "mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py",
    "cascade": "mmdet::cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py",
    "another pyramid": "mmdet::pafpn/faster-rcnn_r50_pafpn_1x_coco.py",
    "queries": "mmdet::deformable_detr/deformable-detr_r50_16xb2-50e_coco.py",
    "one map, dilated": "mmseg::fcn/fcn_r50-d8_4xb2-40k_cityscapes-512x1024.py",
    "pooled pyramid": "mmseg::upernet/upernet_r50_4xb2-40k_cityscapes-512x1024.py",
    "neck of a segmentor": "mmseg::sem_fpn/fpn_r50_4xb2-80k_cityscapes-512x1024.py",
    "head of two maps": "mmseg::deeplabv3plus/deeplabv3plus_r50-d8_4xb2-40k_cityscapes-512x1024.py",
}
CLASSES = backbone_classes()


@functools.cache
def small(family):
    """Its smallest variant, with few blocks and channels."""
    return small_arch(f"{family}-{next(iter(CLASSES[family].arch_zoo))}")


@pytest.fixture(scope="module")
def configs():
    return {method: load_config(path) for method, path in METHODS.items()}


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(CLASSES)), ids=CLASSES)
def test_family_under_ten_methods(number, configs):
    """Every place is taken; one of the ten is built for each family, the next for the next."""
    family = list(CLASSES)[number]
    plans = {method: plan_swap(cfg, family, arch=small(family)) for method, cfg in configs.items()}
    method = list(METHODS)[number % len(METHODS)]
    swapped = plans[method].apply(configs[method])
    with DefaultScope.overwrite_default_scope(swapped.default_scope), torch.device("meta"):
        model = MODELS.build(swapped.model).eval()
        maps = model.extract_feat(torch.empty(1, 3, 64, 64))
    assert model.backbone.family == family
    if swapped.default_scope == "mmseg":
        with DefaultScope.overwrite_default_scope("mmseg"):
            assert model.decode_head(maps).shape[:2] == (1, model.num_classes)
    elif method != "queries":
        assert {m.shape[1] for m in maps} == {256}


def test_branches_are_joined():
    cfg = load_config(METHODS["two stages and masks"])
    swapped = plan_swap(cfg, "crossvit", arch=small("crossvit")).apply(cfg)
    neck = swapped.model.neck[0]
    assert (neck.type, neck.concat, neck.in_stride) == ("mmeffvit.PlainToPyramid", True, 16)
    with pytest.raises(SwapError, match="crossvit end with a map of stride 12"):
        plan_swap(cfg, "crossvit", arch=small("crossvit"), out_indices=(0,))
