"""Models that do more with a backbone than ask it for maps: swapped, trained a step, asked."""

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

from mmeffvit.swap import SwapError, swap_backbone
from tests.models.backbones.tiny import ARCHS

RFP = "mmdet::detectors/cascade-rcnn_r50-rfp_1x_coco.py"
DETECTORS = "mmdet::detectors/detectors_htc-r50_1x_coco.py"
SIMMIM = "mmpretrain::simmim/simmim_swin-base-w6_8xb256-amp-coslr-100e_in1k-192px.py"
SPARK = "mmpretrain::spark/spark_sparse-resnet50_8xb512-amp-coslr-800e_in1k.py"
SPARK_CONVNEXT = "mmpretrain::spark/spark_sparse-convnextv2-tiny_16xb256-amp-coslr-800e_in1k.py"


def build(cfg):
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
        model.init_weights()
        return model


class TestRecursivePyramid:
    def test_both_looks_are_the_new_backbones(self, tmp_path):
        weights = tmp_path / "rmt-tiny.safetensors"
        cfg = swap_backbone(DETECTORS, "rmt-tiny", checkpoint=weights, drop_path_rate=0.2)
        inner = {
            "type": "mmeffvit.RMT",
            "arch": "tiny",
            "drop_path_rate": 0.2,
            "out_indices": (0, 1, 2, 3),
            "init_cfg": {"type": "Pretrained", "checkpoint": str(weights)},
        }
        wrapper = {"type": "mmeffvit.RecursivePyramid", "backbone": inner}
        assert cfg.model.backbone == {**wrapper, "output_img": True}
        assert cfg.model.neck.rfp_backbone == {**wrapper, "feedback_channels": 256}
        assert cfg.model.neck.in_channels == [64, 128, 256, 512]
        assert cfg.model.neck.type == "RFP"

    def test_neck_trains_with_it(self):
        """The levels of the second look come from feedback, which begins as nothing."""
        cfg = swap_backbone(RFP, "rmt", arch=ARCHS["rmt"])
        neck = cfg.model.neck
        neck.update(out_channels=8, aspp_out_channels=2)
        neck.rfp_backbone.feedback_channels = 8
        with DefaultScope.overwrite_default_scope("mmdet"):
            backbone, neck = MODELS.build(cfg.model.backbone), MODELS.build(neck)
        backbone.init_weights()
        neck.init_weights()
        image = torch.randn(1, 3, 64, 64)
        (second,) = neck.rfp_modules
        assert all(p.abs().max() == 0 for p in second.feedback.parameters())
        levels = neck(backbone(image))
        assert [x.shape[-1] for x in levels] == [16, 8, 4, 2, 1]
        sum(x.square().sum() for x in levels).backward()
        parameters = [*backbone.named_parameters(), *neck.named_parameters()]
        assert [name for name, p in parameters if p.grad is None] == []
        assert all(conv.weight.grad.abs().max() > 0 for conv in second.feedback.values())
        # nothing is fed back before a first step; after it the new part learns
        assert neck.rfp_aspp.aspp[0].weight.grad.abs().max() == 0
        with torch.no_grad():
            for conv in second.feedback.values():
                conv.weight -= 0.1 * conv.weight.grad
        neck.zero_grad()
        sum(x.square().sum() for x in neck(backbone(image))).backward()
        assert neck.rfp_aspp.aspp[0].weight.grad.abs().max() > 0

    def test_again(self):
        once = swap_backbone(DETECTORS, "rmt-tiny")
        assert (
            swap_backbone(once, "ravlt-tiny").model == swap_backbone(DETECTORS, "ravlt-tiny").model
        )


class TestSimMIM:
    def test_trains_and_gives_features(self):
        cfg = swap_backbone(SIMMIM, "ravlt", arch=ARCHS["ravlt"])
        assert cfg.model.backbone.type == "mmeffvit.MaskedBackbone"
        assert cfg.model.backbone.backbone.out_indices == (3,)
        assert (cfg.model.neck.in_channels, cfg.model.neck.encoder_stride) == (64, 32)
        check_simmim(build(cfg))

    def test_a_plain_vit_is_decoded_at_its_own_stride(self):
        arch = {**ARCHS["vitar"], "window_sizes": None}
        cfg = swap_backbone(SIMMIM, "vit", arch=arch)
        assert (cfg.model.neck.type, cfg.model.neck.encoder_stride) == ("SimMIMLinearDecoder", 16)
        assert cfg.model.neck.in_channels == 16
        check_simmim(build(cfg))

    def test_again(self):
        once = swap_backbone(SIMMIM, "vit-tiny")
        assert swap_backbone(once, "rmt-tiny").model == swap_backbone(SIMMIM, "rmt-tiny").model


def check_simmim(model):
    from mmpretrain.structures import DataSample

    mask = torch.zeros(16, 16, dtype=torch.long)
    mask[:8] = 1
    images = torch.randn(2, 3, 64, 64)
    losses = model(images, [DataSample().set_mask(mask) for _ in range(2)], mode="loss")
    losses["loss"].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert model.backbone.mask_token.grad.abs().max() > 0
    (feature,) = model(images, mode="tensor")
    assert feature.shape[0] == 2


class TestSparK:
    @pytest.mark.parametrize("source", [SPARK, SPARK_CONVNEXT])
    def test_trains(self, source):
        arch = {**ARCHS["ravlt"], "embed_dims": (16, 24, 32, 64), "num_heads": (1, 2, 2, 4)}
        cfg = swap_backbone(source, "ravlt", arch=arch)
        assert cfg.model.backbone.type == "mmeffvit.SparseBackbone"
        # channels that double from map to map
        assert cfg.model.backbone.out_channels == [8, 16, 32, 64]
        assert cfg.model.enc_dec_norm_dim == 64
        cfg.model.update(input_size=64, mask_ratio=0.5)
        cfg.model.neck.update(feature_dim=32, norm_cfg={"type": "BN"})
        model = build(cfg)
        loss = model(torch.randn(2, 3, 64, 64), [], mode="loss")["loss"]
        loss.backward()
        assert torch.isfinite(loss)
        assert [name for name, p in model.named_parameters() if p.grad is None] == []
        assert model.backbone.cells.of(torch.zeros(2, 1, 2, 2)).float().mean() == 0.5

    def test_channels_that_double_stay(self):
        cfg = swap_backbone(SPARK, "rmt-tiny")
        assert "out_channels" not in cfg.model.backbone
        assert cfg.model.enc_dec_norm_dim == 512


@pytest.mark.parametrize(
    ("source", "backbone", "reason"),
    [
        (RFP, "vit-tiny", "PlainViT cannot be swapped in: RecursivePyramid .* needs a pyramid of"),
        (SPARK, "torchvision/resnet18", "LibraryBackbone cannot be swapped in: SparseBackbone"),
        (SIMMIM, "crossvit-tiny", "needs a pyramid or a plain ViT of its own"),
        (SIMMIM, "mmdet.ResNet", "ResNet cannot be swapped in: MaskedBackbone changes maps"),
    ],
)
def test_what_cannot_be_changed_inside_is_refused(source, backbone, reason):
    options = {"depth": 18} if backbone == "mmdet.ResNet" else {}
    with pytest.raises(SwapError, match=reason):
        swap_backbone(source, backbone, **options)
