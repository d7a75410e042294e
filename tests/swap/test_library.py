"""Networks of other libraries in configs of the toolboxes."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope

from maintenance.swap_zoo.batches import Batches
from maintenance.swap_zoo.trial import build_small
from mmeffvit.engine.launch import load_config
from mmeffvit.swap import SwapError, swap_backbone
from mmeffvit.testing import small_arch

RETINANET = "mmdet::retinanet/retinanet_r50_fpn_1x_coco.py"
UPERNET = "mmseg::upernet/upernet_r50_4xb2-40k_cityscapes-512x1024.py"
PSPNET = "mmseg::pspnet/pspnet_r50-d8_4xb2-40k_cityscapes-512x1024.py"
CONVNEXT = "mmdet::convnext/mask-rcnn_convnext-t-p4-w7_fpn_amp-ms-crop-3x_coco.py"
DINOV2 = "timm/vit_small_patch14_dinov2.lvd142m"
SMALL = {"embed_dim": 48, "depth": 4, "num_heads": 2}
HF = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2}

MMPRETRAIN = {"embed_dims": 48, "num_layers": 4, "num_heads": 2, "feedforward_channels": 96}


def why(cfg, path):
    return {change.path: change.why for change in cfg.backbone_swap.changes}[path]


def maps_of(cfg, scope, size=(64, 96)):
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(cfg.model).eval()
        with torch.no_grad():
            return model.extract_feat(torch.randn(1, 3, *size))


class TestPyramid:
    def test_takes_the_places_of_maps_of_its_strides(self):
        cfg = swap_backbone(RETINANET, "timm/test_convnext", pretrained=False)
        assert cfg.model.backbone == {
            "type": "mmeffvit.LibraryBackbone",
            "name": "timm/test_convnext",
            "pretrained": False,
            "out_indices": (1, 2, 3),
        }
        assert cfg.model.neck.in_channels == [32, 48, 64]
        assert "notes" not in cfg.backbone_swap
        shapes = [tuple(x.shape[1:]) for x in maps_of(cfg, "mmdet")]
        assert shapes == [(256, 8, 12), (256, 4, 6), (256, 2, 3), (256, 1, 2), (256, 1, 1)]

    def test_images_are_normalised_for_its_weights(self):
        cfg = swap_backbone(
            "mmdet::retinanet/retinanet_r50-caffe_fpn_1x_coco.py", "timm/test_convnext"
        )
        preprocessor = cfg.model.data_preprocessor
        assert (preprocessor.mean, preprocessor.std) == ([127.5] * 3, [127.5] * 3)
        assert preprocessor.bgr_to_rgb is True
        assert "timm's test_convnext" in why(cfg, "model.data_preprocessor.mean")
        assert cfg.model.backbone.pretrained is True
        assert "pretrained=False does without" in cfg.backbone_swap.notes[0]

    def test_a_file_comes_before_published_weights(self, tmp_path):
        cfg = swap_backbone(RETINANET, "torchvision/resnet18", checkpoint=tmp_path / "mine.pth")
        assert "pretrained" not in cfg.model.backbone
        assert cfg.model.backbone.init_cfg.checkpoint == str(tmp_path / "mine.pth")

    def test_decay_from_layer_to_layer_is_that_of_its_own_layers(self):
        before = load_config(CONVNEXT).optim_wrapper
        cfg = swap_backbone(CONVNEXT, "timm/test_convnext", pretrained=False)
        wrapper = cfg.optim_wrapper
        assert wrapper.constructor == "mmeffvit.LayerDecayOptimWrapperConstructor"
        rate = before.paramwise_cfg.decay_rate
        assert wrapper.paramwise_cfg.layer_decay_rate == rate
        with DefaultScope.overwrite_default_scope("mmdet"), torch.device("meta"):
            model = MODELS.build(cfg.model)
        wrapper.pop("loss_scale", None)
        wrapper.type = "OptimWrapper"
        groups = build_optim_wrapper(model, wrapper).param_groups
        rates = {group["layer"]: group["lr"] for group in groups if group.get("layer") is not None}
        _, count = model.backbone.get_layer_depth("")
        base = wrapper.optimizer.lr
        assert rates[0] == pytest.approx(base * rate ** (count - 1))
        assert max(rates.values()) == pytest.approx(base * rate)


class TestPlain:
    def test_detectors_make_all_levels_of_the_last_map(self):
        cfg = swap_backbone(RETINANET, DINOV2, **SMALL, pretrained=False, frozen=True)
        backbone, (pyramid, fpn) = cfg.model.backbone, cfg.model.neck
        assert (backbone.out_indices, backbone.out_stride) == ((3,), 16)
        assert pyramid == {
            "type": "mmeffvit.PlainToPyramid",
            "in_channels": 48,
            "in_stride": 16,
            "out_strides": (8, 16, 32),
        }
        assert (fpn.in_channels, fpn.start_level) == ([48] * 3, 0)
        assert "a patch is 16 pixels of the image" in cfg.backbone_swap.notes[0]
        assert [x.shape[-1] for x in maps_of(cfg, "mmdet")] == [12, 6, 3, 2, 1]

    def test_segmentors_take_a_map_for_each_level(self):
        cfg = swap_backbone(UPERNET, "hf/dinov2", **HF)
        assert cfg.model.backbone.out_indices == (0, 1, 2, 3)
        assert cfg.model.neck.in_channels == [32] * 4
        assert cfg.model.neck.out_strides == (4, 8, 16, 32)
        assert cfg.model.decode_head.in_channels == [32] * 4
        assert cfg.model.auxiliary_head.in_channels == 32
        assert [x.shape[-1] for x in maps_of(cfg, "mmseg")] == [24, 12, 6, 3]

    def test_dilated_maps_are_made_at_their_size(self):
        cfg = swap_backbone(PSPNET, "timm/test_vit", pretrained=False)
        assert cfg.model.backbone.out_indices == (2, 5)
        assert cfg.model.neck.out_strides == (8, 8)
        assert [tuple(x.shape[1:]) for x in maps_of(cfg, "mmseg")] == [(64, 8, 12)] * 2

    @pytest.mark.parametrize("family", ["vit", "resformer", "vitar"])
    def test_ours_become_pyramids_alike(self, family):
        arch = small_arch(f"{family}-{'small' if family == 'vitar' else 'tiny'}")
        depth, dim = arch["depth"], arch["embed_dims"]
        cfg = swap_backbone(RETINANET, family, arch=arch)
        backbone, (pyramid, fpn) = cfg.model.backbone, cfg.model.neck
        assert backbone.out_indices == (depth - 1,)
        assert (pyramid.in_channels, pyramid.out_strides) == (dim, (8, 16, 32))
        assert (fpn.in_channels, fpn.start_level) == ([dim] * 3, 0)
        assert [x.shape[-1] for x in maps_of(cfg, "mmdet")] == [12, 6, 3, 2, 1]
        with pytest.raises(SwapError, match="which reads 3 maps: name as many blocks"):
            swap_backbone(RETINANET, family, arch=arch, out_indices=(0, 1))

    def test_one_map_of_its_own_stride_needs_no_neck(self):
        source = "mmdet::faster_rcnn/faster-rcnn_r50-caffe-c4_ms-1x_coco.py"
        cfg = swap_backbone(source, "timm/test_vit", pretrained=False)
        assert cfg.model.neck.type == "ChannelMapper"
        assert cfg.model.neck.in_channels == [64]


class TestToolboxes:
    """Plain transformers of mmpretrain and mmseg."""

    def test_detectors_make_all_levels_of_the_last_map(self):
        cfg = swap_backbone(RETINANET, "mmpretrain.VisionTransformer", arch=MMPRETRAIN)
        backbone, (pyramid, fpn) = cfg.model.backbone, cfg.model.neck
        assert (backbone.name, backbone.out_indices) == ("mmpretrain/VisionTransformer", (3,))
        assert (pyramid.type, pyramid.in_channels) == ("mmeffvit.PlainToPyramid", 48)
        assert fpn.in_channels == [48] * 3
        assert [x.shape[-1] for x in maps_of(cfg, "mmdet")] == [12, 6, 3, 2, 1]

    def test_segmentors_take_a_map_for_each_level(self):
        options = {"embed_dims": 48, "num_layers": 4, "num_heads": 2}
        cfg = swap_backbone(UPERNET, "mmseg.VisionTransformer", **options)
        assert cfg.model.backbone.out_indices == (0, 1, 2, 3)
        assert cfg.model.decode_head.in_channels == [48] * 4
        assert [x.shape[-1] for x in maps_of(cfg, "mmseg")] == [24, 12, 6, 3]

    def test_patches_of_14_become_16(self):
        options = {"arch": MMPRETRAIN, "patch_size": 14, "img_size": 518}
        cfg = swap_backbone(RETINANET, "mmpretrain.VisionTransformer", **options)
        assert cfg.model.backbone.out_stride == cfg.model.neck[0].in_stride == 16

    def test_the_adapter_takes_them(self):
        cfg = swap_backbone(
            TestAdapter.MASK_RCNN,
            "mmpretrain.VisionTransformer",
            adapter="vit_comer",
            arch=MMPRETRAIN,
            conv_channels=8,
        )
        assert cfg.model.backbone.type == "mmeffvit.ViTCoMerAdapter"
        assert [x.shape[-1] for x in maps_of(cfg, "mmdet")] == [24, 12, 6, 3, 2]

    def test_weights_of_a_classifier(self, tmp_path):
        """Those of mmpretrain, head included; without a file they are drawn."""
        model = {"type": "mmpretrain.VisionTransformer", "arch": MMPRETRAIN}
        with DefaultScope.overwrite_default_scope("mmpretrain"):
            theirs = MODELS.build(model)
        torch.nn.init.normal_(theirs.pos_embed)
        file = tmp_path / "vit.pth"
        state = {f"backbone.{key}": value for key, value in theirs.state_dict().items()}
        head = {"head.layers.head.weight": torch.zeros(1000, 48)}
        torch.save({"state_dict": state | head, "meta": {}}, file)
        for checkpoint in (file, None):
            cfg = swap_backbone(
                RETINANET, "mmpretrain.VisionTransformer", checkpoint=checkpoint, arch=MMPRETRAIN
            )
            backbone = MODELS.build(cfg.model.backbone)
            backbone.init_weights()
            loaded = backbone.network.pos_embed
            assert torch.equal(loaded, theirs.pos_embed) == (checkpoint is not None)
            assert loaded.std() > 0.01

    def test_pyramids_stay_classes_of_their_toolbox(self):
        cfg = swap_backbone(RETINANET, "mmdet.SwinTransformer", embed_dims=48)
        assert cfg.model.backbone.type == "mmdet.SwinTransformer"
        assert cfg.model.neck.in_channels == [96, 192, 384]

    @pytest.mark.parametrize(
        ("name", "options", "message"),
        [
            ("mmpretrain.BEiTViT", {}, r"images of 224 x 224 pixels alone"),
            ("mmpretrain.VisionTransformer", {"arch": "hugest"}, "are not possible: .*hugest"),
        ],
    )
    def test_refused(self, name, options, message):
        with pytest.raises(SwapError, match=message):
            swap_backbone(RETINANET, name, **{"arch": MMPRETRAIN, **options})


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("timm/convnextt", {}, "timm/convnextt cannot be the backbone: .*did you mean 'convn"),
        ("timm/hiera_tiny_224", {}, r"takes images of 224 x 224 pixels alone.*give img_size"),
        ("timm/test_convnext", {"out_indices": (0, 1)}, r"is out_indices=\(1, 2, 3\) of timm"),
        ("timm/test_vit", {"out_indices": (0, 1)}, "which reads 3 maps: name as many blocks"),
        ("timm/levit_128s", {"img_size": 256}, "levit_128s"),
        ("tim/test_vit", {}, "did you mean 'timm'"),
    ],
)
def test_refused(name, options, message):
    with pytest.raises(SwapError, match=message):
        swap_backbone(RETINANET, name, **options)


def test_the_config_has_a_name_without_slashes():
    cfg = swap_backbone(RETINANET, "torchvision/resnet18", pretrained=False)
    assert cfg.filename == "retinanet_r50_fpn_1x_coco_torchvision-resnet18.py"


class TestAdapter:
    MASK_RCNN = "mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py"

    @pytest.mark.parametrize("frozen", [True, False])
    def test_mask_rcnn_trains(self, frozen):
        cfg = swap_backbone(
            self.MASK_RCNN,
            "timm/test_vit",
            adapter="vit_comer",
            pretrained=False,
            frozen=frozen,
            conv_channels=8,
        )
        assert cfg.model.backbone.type == "mmeffvit.ViTCoMerAdapter"
        assert cfg.model.backbone.out_indices == (0, 1, 2, 3)
        assert cfg.model.neck.in_channels == [64] * 4  # no neck before it
        with DefaultScope.overwrite_default_scope("mmdet"):
            model = build_small(cfg)
            batch = Batches(cfg, side=64)
            data = model.data_preprocessor(batch.training(), training=True)
            loss, _ = model.parse_losses(model(**data, mode="loss"))
        loss.backward()
        grads = {name: p.grad is not None for name, p in model.backbone.named_parameters()}
        assert {has for name, has in grads.items() if name.startswith("vit.")} == {not frozen}
        assert all(has for name, has in grads.items() if not name.startswith("vit."))

    def test_dilated_maps_and_weights(self):
        cfg = swap_backbone(PSPNET, DINOV2, adapter="vit_comer", **SMALL)
        backbone = cfg.model.backbone
        assert (backbone.out_indices, backbone.pretrained) == ((2, 3), True)
        assert cfg.model.neck.out_strides == (8, 8)
        first, second = cfg.backbone_swap.notes[:2]
        assert "published weights" in first
        assert "a patch is 16 pixels" in second

    @pytest.mark.parametrize(
        ("name", "adapter", "message"),
        [
            ("timm/test_vit", "vit-comer", "there is 'vit_comer', and without one"),
            ("timm/test_convnext", "vit_comer", "the adapter is for plain transformers"),
        ],
    )
    def test_refused(self, name, adapter, message):
        with pytest.raises(SwapError, match=message):
            swap_backbone(RETINANET, name, adapter=adapter)
