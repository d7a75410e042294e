"""Models of every kind that is exported, small, with random weights that find something."""

import torch
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmeffvit import compat
from mmeffvit.deploy import made_up_images
from mmeffvit.deploy.agreement import predict
from tests.configs.common import load

BACKBONE = {"type": "StridesForExport"}


@MODELS.register_module(force=True)
class StridesForExport(nn.Module):
    """Maps at strides 4 to 32, in as few nodes as can be: other tests export real backbones."""

    def __init__(self, out_indices=(1, 2, 3)):
        super().__init__()
        self.out_indices = out_indices
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        sides = ((8, 8), (8, 16), (16, 32), (32, 64))
        self.stages = nn.ModuleList(nn.Conv2d(*side, 3, 2, 1) for side in sides)

    def forward(self, x):
        x, maps = self.stem(x), []
        for stage in self.stages:
            x = stage(x.relu())
            maps.append(x)
        return tuple(maps[index] for index in self.out_indices)


CHANNELS = 16


def retinanet():
    model = load("configs/secvit/retinanet_secvit-t_fpn_1x_coco.py").model
    model.backbone = BACKBONE
    model.neck = {
        "type": "FPN",
        "in_channels": [16, 32, 64],
        "out_channels": CHANNELS,
        "num_outs": 3,
    }
    model.bbox_head.update(
        in_channels=CHANNELS, feat_channels=CHANNELS, stacked_convs=1, num_classes=3
    )
    model.bbox_head.anchor_generator.strides = [8, 16, 32]
    built = build(model, "mmdet")
    head = built.bbox_head
    return calibrate(built, {head.retina_cls: (-4.0, 2.0), head.retina_reg: (0.0, 0.3)})


def _two_stage(path, heads):
    model = load(path).model
    model.backbone = BACKBONE
    model.neck = {
        "type": "FPN",
        "in_channels": [16, 32, 64],
        "out_channels": CHANNELS,
        "num_outs": 3,
    }
    model.rpn_head.update(in_channels=CHANNELS, feat_channels=CHANNELS)
    model.rpn_head.anchor_generator.update(scales=[4], strides=[8, 16, 32])
    roi = model.roi_head
    for part in ("bbox_roi_extractor", "mask_roi_extractor"):
        if part in roi:
            roi[part].update(out_channels=CHANNELS, featmap_strides=[8, 16, 32], finest_scale=28)
    box_heads = roi.bbox_head if heads > 1 else [roi.bbox_head]
    for head in box_heads:
        head.update(in_channels=CHANNELS, fc_out_channels=32, num_classes=3)
        if head.type == "ConvFCBBoxHead":
            head.update(conv_out_channels=CHANNELS, num_shared_convs=1)
    if "mask_head" in roi:
        roi.mask_head.update(
            in_channels=CHANNELS, conv_out_channels=CHANNELS, num_convs=1, num_classes=3
        )
    model.test_cfg.rpn.update(nms_pre=100, max_per_img=40)
    model.test_cfg.rcnn.update(max_per_img=30)
    built = build(model, "mmdet")
    layers = {built.rpn_head.rpn_cls: (-1.0, 2.0), built.rpn_head.rpn_reg: (0.0, 0.3)}
    for head in built.roi_head.bbox_head if heads > 1 else [built.roi_head.bbox_head]:
        layers |= {head.fc_cls: (0.0, 2.0), head.fc_reg: (0.0, 0.5)}
    if built.roi_head.with_mask:
        for head in built.roi_head.mask_head if heads > 1 else [built.roi_head.mask_head]:
            layers[head.conv_logits] = (0.0, 2.0)
    return calibrate(built, layers)


def mask_rcnn():
    return _two_stage("configs/secvit/mask-rcnn_secvit-t_fpn_1x_coco.py", heads=1)


def upernet():
    model = load("configs/secvit/upernet_secvit-t_8xb2-160k_ade20k-512x512.py").model
    model.backbone = {**BACKBONE, "out_indices": (0, 1, 2, 3)}
    model.decode_head.update(in_channels=[8, 16, 32, 64], channels=CHANNELS, num_classes=5)
    model.auxiliary_head = None
    built = build(model, "mmseg")
    return calibrate(built, {built.decode_head.conv_seg: (0.0, 3.0)})


def classifier():
    model = {
        "type": "ImageClassifier",
        "backbone": {**BACKBONE, "out_indices": (3,)},
        "neck": {"type": "GlobalAveragePooling"},
        "head": {"type": "LinearClsHead", "num_classes": 7, "in_channels": 64},
        "data_preprocessor": {"mean": [120.0, 110.0, 100.0], "std": [60.0] * 3, "to_rgb": True},
    }
    built = build(model, "mmpretrain")
    return calibrate(built, {built.head.fc: (0.0, 2.0)})


def build(model, scope):
    compat.setup()
    init_default_scope(scope)
    torch.manual_seed(0)
    built = MODELS.build(model).eval().requires_grad_(False)
    return built


def calibrate(model, layers):
    """Let last layers give what trained ones give: outputs of this mean and deviation.

    Saturated scores would tie, and which of two equal boxes suppresses the other is nobody's word.
    """
    for layer, (mean, deviation) in layers.items():
        out = torch.cat(outputs_of(layer, model))
        factor = deviation / out.std()
        layer.weight *= factor
        if layer.bias is not None:
            layer.bias.copy_((layer.bias - out.mean()) * factor + mean)
    return model


def outputs_of(layer, model):
    seen = []
    hook = layer.register_forward_hook(lambda _, args, out: seen.append(out.flatten()))
    predict(model, made_up_images(1, (200, 220))[0])
    hook.remove()
    return seen
