"""Models of every kind that is exported, small, with random weights that find something."""

import torch
from mmengine.config import Config
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


def retinanet(backbone=BACKBONE, channels=(16, 32, 64)):
    model = load("configs/secvit/retinanet_secvit-t_fpn_1x_coco.py").model
    model.backbone = backbone
    model.neck = {
        "type": "FPN",
        "in_channels": list(channels),
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


def cascade_mask_rcnn():
    return _two_stage("configs/secvit/cascade-mask-rcnn_secvit-t_fpn_ms-3x_coco.py", heads=3)


def dino():
    return _queries(load("configs/ravlt/dino-4scale_ravlt-t_8xb2-12e_coco.py").model)


def deformable_detr():
    compat.setup()
    name = "mmdet::deformable_detr/deformable-detr_r50_16xb2-50e_coco.py"
    return _queries(Config.fromstring(f"_base_ = {name!r}", ".py").model)


def _queries(model):
    model.backbone = {**BACKBONE, "out_indices": (2, 3)}
    model.neck.update(in_channels=[32, 64], num_outs=2)
    model.update(num_queries=20, num_feature_levels=2)
    attention = {"encoder": "self_attn_cfg", "decoder": "cross_attn_cfg"}
    for part, layers in (("encoder", 1), ("decoder", 2)):
        model[part].num_layers = layers
        model[part].layer_cfg.ffn_cfg.feedforward_channels = 32
        model[part].layer_cfg[attention[part]].update(num_levels=2, num_points=2)
    model.bbox_head.num_classes = 3
    model.test_cfg.max_per_img = 10
    built = build(model, "mmdet")
    built.level_embed.normal_()
    spread_attention(built)
    return calibrate(built, dict.fromkeys(built.bbox_head.cls_branches, (-1.0, 2.0)))


def mask2former():
    model = load("configs/ravlt/mask2former_ravlt-t_8xb2-lsj-50e_coco.py").model
    model.test_cfg.max_per_image = 12
    return _masks(model, "mmdet", "panoptic_head")


def mask2former_of_pixels():
    compat.setup()
    name = "mmseg::mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py"
    model = Config.fromstring(f"_base_ = {name!r}", ".py").model
    model.decode_head.num_classes = 5
    model.decode_head.loss_cls.class_weight = [1.0] * 6
    return _masks(model, "mmseg", "decode_head")


def _masks(model, scope, name):
    model.backbone, head = BACKBONE, model[name]
    head.update(in_channels=[16, 32, 64], strides=[8, 16, 32], feat_channels=32, out_channels=32)
    head.update(num_queries=15, num_transformer_feat_level=2)
    head.positional_encoding.num_feats = head.pixel_decoder.positional_encoding.num_feats = 16
    coders = head.pixel_decoder.encoder, head.transformer_decoder
    coders[0].layer_cfg.self_attn_cfg.update(num_levels=2, num_points=2)
    for coder, layers in zip(coders, (1, 2)):
        coder.num_layers = layers
        coder.layer_cfg.ffn_cfg.update(embed_dims=32, feedforward_channels=32)
        for attention in ("self_attn_cfg", "cross_attn_cfg"):
            if attention in coder.layer_cfg:
                coder.layer_cfg[attention].update(embed_dims=32, num_heads=2)
    built = build(model, scope)
    spread_attention(built)
    head = getattr(built, name)
    calibrate(built, {head.mask_embed[-1]: (0.0, 0.5)})
    centre(built, head.pixel_decoder.mask_feature, 1.0, axis=1)
    return centre(built, head.cls_embed, 2.0, axis=2)


def semantic_fpn():
    model = load("configs/secvit/fpn_secvit-t_8xb2-80k_ade20k-512x512.py").model
    model.backbone = {**BACKBONE, "out_indices": (0, 1, 2, 3)}
    model.neck.update(in_channels=[8, 16, 32, 64], out_channels=CHANNELS)
    model.decode_head.update(in_channels=[CHANNELS] * 4, channels=CHANNELS, num_classes=5)
    built = build(model, "mmseg")
    return calibrate(built, {built.decode_head.conv_seg: (0.0, 3.0)})


def upernet():
    model = load("configs/secvit/upernet_secvit-t_8xb2-160k_ade20k-512x512.py").model
    model.backbone = {**BACKBONE, "out_indices": (0, 1, 2, 3)}
    model.decode_head.update(
        in_channels=[8, 16, 32, 64], channels=CHANNELS, num_classes=5, pool_scales=(1, 3)
    )
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


def spread_attention(model):
    """Places and weights that depend on the query."""
    for module in model.modules():
        if type(module).__name__ == "MultiScaleDeformableAttention":
            module.sampling_offsets.weight.normal_(0, 0.02)
            module.attention_weights.weight.normal_(0, 0.05)


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
        out = torch.cat([out.flatten() for out in outputs_of(layer, model)])
        factor = deviation / out.std()
        layer.weight *= factor
        if layer.bias is not None:
            layer.bias.copy_((layer.bias - out.mean()) * factor + mean)
    return model


def centre(model, layer, deviation, axis):
    """The same for every channel of a layer: each has half of the masks, or some of the queries."""
    out = outputs_of(layer, model)[-1].movedim(axis, -1).flatten(0, -2)
    mean = out.mean(0)
    factor = deviation / (out - mean).std()
    layer.weight *= factor
    layer.bias.copy_((layer.bias - mean) * factor)
    return model


def outputs_of(layer, model):
    seen = []
    hook = layer.register_forward_hook(lambda _, args, out: seen.append(out))
    predict(model, made_up_images(1, (200, 220))[0])
    hook.remove()
    return seen
