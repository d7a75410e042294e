"""What a swap writes into configs of every kind."""

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from torch import nn

import mmeffvit
from mmeffvit.engine.launch import load_config
from mmeffvit.models import RMT
from mmeffvit.swap import SwapError, format_changes, plan_swap, swap_backbone
from mmeffvit.swap.measure import default_of, measure_backbone

RETINANET = "mmdet::retinanet/retinanet_r50_fpn_1x_coco.py"
PSPNET = "mmseg::pspnet/pspnet_r50-d8_4xb2-40k_cityscapes-512x1024.py"
SWIN_M2F = "mmdet::mask2former/mask2former_swin-t-p4-w7-224_8xb2-lsj-50e_coco-panoptic.py"


def changed(cfg):
    return {change["path"]: change for change in cfg.backbone_swap.changes}


class TestDetector:
    def test_reads_what_the_neck_uses(self):
        before = load_config(RETINANET)
        text = before.pretty_text
        cfg = mmeffvit.swap_backbone(before, "ravlt-small", drop_path_rate=0.2, with_cp=True)
        assert before.pretty_text == text
        assert cfg.model.backbone == {
            "type": "mmeffvit.RAVLT",
            "arch": "small",
            "drop_path_rate": 0.2,
            "with_cp": True,
            # FPN starts at the second map: the first is not returned, and its norm does not exist
            "out_indices": (1, 2, 3),
        }
        assert cfg.model.neck.in_channels == [128, 320, 512]
        assert (cfg.model.neck.start_level, cfg.model.neck.num_outs) == (0, 5)
        assert set(changed(cfg)) == {
            "model.backbone",
            "model.neck.in_channels",
            "model.neck.start_level",
        }
        assert cfg.optim_wrapper == before.optim_wrapper
        assert cfg.backbone_swap.source == "retinanet_r50_fpn_1x_coco.py"

    def test_changes_tell_old_and_new(self):
        cfg = swap_backbone(RETINANET, "rmt-tiny")
        change = changed(cfg)["model.neck.in_channels"]
        assert (change["old"], change["new"]) == ([256, 512, 1024, 2048], [128, 256, 512])
        diff = format_changes(cfg.backbone_swap.changes)
        assert "- in_channels = [256, 512, 1024, 2048]\n+ in_channels = [128, 256, 512]" in diff
        assert "-     frozen_stages = 1" in diff

    def test_stands_alone(self, tmp_path):
        cfg = swap_backbone(RETINANET, "rmt-tiny")
        cfg.dump(tmp_path / "alone.py")
        assert "_base_ = " not in (tmp_path / "alone.py").read_text()
        assert Config.fromfile(tmp_path / "alone.py").to_dict() == cfg.to_dict()
        assert cfg.filename == "retinanet_r50_fpn_1x_coco_rmt-tiny.py"

    def test_again(self):
        """From one of ours to another."""
        once = swap_backbone(RETINANET, "rmt-tiny")
        twice = swap_backbone(once, "ravlt-small")
        assert twice.model == swap_backbone(RETINANET, "ravlt-small").model
        assert twice.backbone_swap.backbone == "ravlt-small"

    def test_images_of_a_toolbox_class(self):
        """They are those of its weights, not of ours."""
        source = "mmdet::retinanet/retinanet_r50_fpn_1x_coco.py"
        cfg = swap_backbone(source, "mmdet.ResNet", depth=18, style="caffe")
        preprocessor = cfg.model.data_preprocessor
        assert preprocessor.mean == [103.53, 116.28, 123.675]
        assert preprocessor.std == [1.0, 1.0, 1.0]
        assert preprocessor.bgr_to_rgb is False
        back = swap_backbone(cfg, "mmdet.ResNet", depth=18)
        assert back.model.data_preprocessor == load_config(source).model.data_preprocessor
        (why,) = {
            c.why
            for c in back.backbone_swap.changes
            if c.path.startswith("model.data_preprocessor")
        }
        assert "weights of the toolboxes" in why

    def test_caffe_images(self):
        cfg = swap_backbone("mmdet::retinanet/retinanet_r50-caffe_fpn_1x_coco.py", "secvit-tiny")
        preprocessor = cfg.model.data_preprocessor
        assert preprocessor.bgr_to_rgb is True
        assert preprocessor.mean == [123.675, 116.28, 103.53]
        assert preprocessor.std == [58.395, 57.12, 57.375]

    @pytest.mark.parametrize("bands", [1, 4])
    def test_other_images_keep_their_statistics(self, bands, tmp_path):
        """Only those who took grey or multispectral images know their mean; and it is said."""
        cfg = load_config(RETINANET)
        own = {"mean": [100.0] * bands, "std": [50.0] * bands, "bgr_to_rgb": False}
        cfg.model.data_preprocessor.update(own)
        cfg.model.backbone.update(in_channels=bands, init_cfg=None)
        new = swap_backbone(cfg, "rmt-tiny", checkpoint=tmp_path / "rmt-tiny.safetensors")
        assert new.model.backbone.in_channels == bands
        assert new.model.backbone.init_cfg.adapt_channels is True
        assert new.model.data_preprocessor.to_dict() == cfg.model.data_preprocessor.to_dict()
        (note,) = new.backbone_swap.notes
        assert note.startswith(
            f"model.data_preprocessor stays as it is: it normalises {bands} chan"
        )
        assert "notes" not in swap_backbone(RETINANET, "rmt-tiny").backbone_swap

    def test_a_backbone_of_a_toolbox(self):
        """For comparisons: measured like the old one, and only maps that are read are returned."""
        swin = swap_backbone(
            RETINANET, "mmdet.SwinTransformer", recipe="adamw", depths=[1, 1, 1, 1]
        )
        assert swin.model.backbone == {
            "type": "mmdet.SwinTransformer",
            "depths": [1, 1, 1, 1],
            "out_indices": (1, 2, 3),
        }
        assert swin.model.neck.in_channels == [192, 384, 768]
        assert swin.model.neck.start_level == 0
        own = swap_backbone(RETINANET, "rmt-tiny", recipe="adamw")
        assert swin.optim_wrapper == own.optim_wrapper
        with DefaultScope.overwrite_default_scope("mmdet"):
            assert MODELS.build(swin.model)
        resnet = swap_backbone(RETINANET, "mmpretrain.ResNet", depth=18)
        assert resnet.model.neck.in_channels == [128, 256, 512]
        poolformer = swap_backbone(RETINANET, "mmpretrain.PoolFormer", arch="s12")
        assert poolformer.model.backbone.out_indices == (2, 4, 6)
        assert poolformer.model.neck.in_channels == [128, 320, 512]
        convnext = swap_backbone(RETINANET, "mmpretrain.ConvNeXt", arch="tiny")
        assert convnext.model.neck.in_channels == [192, 384, 768]
        assert convnext.model.backbone.gap_before_final_norm is False
        mvit = swap_backbone(RETINANET, "mmpretrain.MViT", arch="tiny")
        assert mvit.model.backbone.out_scales == (1, 2, 3)
        assert mvit.model.neck.in_channels == [192, 384, 768]
        with pytest.raises(SwapError, match="could not be built and measured"):
            swap_backbone(RETINANET, "mmdet.NoSuchNetwork")

    def test_a_backbone_that_returns_all_of_its_maps(self):
        upernet = "mmseg::upernet/upernet_r50_4xb4-80k_ade20k-512x512.py"
        mscan = swap_backbone(upernet, "mmseg.MSCAN")
        assert mscan.model.backbone == {"type": "mmseg.MSCAN"}
        assert mscan.model.decode_head.in_channels == [64, 128, 256, 512]
        with pytest.raises(SwapError, match="reads those of stride 8, 16, 32 alone"):
            swap_backbone(RETINANET, "mmseg.MSCAN")

    def test_neck_that_needs_the_size_of_a_map_it_does_not_use(self):
        cfg = swap_backbone(
            "mmdet::nas_fcos/nas-fcos_r50-caffe_fpn_fcoshead-gn-head_4xb4-1x_coco.py", "rmt-tiny"
        )
        assert cfg.model.neck.in_channels == [64, 128, 256, 512]
        assert cfg.model.neck.start_level == 1
        assert cfg.find_unused_parameters is True

    def test_stage_of_a_resnet_in_the_roi_head(self):
        cfg = swap_backbone("mmdet::faster_rcnn/faster-rcnn_r50-caffe-c4_ms-1x_coco.py", "rmt-tiny")
        assert cfg.model.backbone.out_indices == (2,)
        assert (cfg.model.neck.in_channels, cfg.model.neck.out_channels) == ([256], 1024)
        assert cfg.model.rpn_head.in_channels == 1024
        assert "init_cfg" not in cfg.model.roi_head.shared_head

    def test_dilated_last_stage(self):
        cfg = swap_backbone("mmdet::faster_rcnn/faster-rcnn_r50-caffe-dc5_1x_coco.py", "rmt-tiny")
        assert cfg.model.backbone.out_indices == (3,)
        assert cfg.model.neck == {
            "type": "mmeffvit.ResizeToStrides",
            "in_strides": (32,),
            "out_strides": (16,),
        }
        roi_head = cfg.model.roi_head
        assert cfg.model.rpn_head.in_channels == 512
        assert roi_head.bbox_roi_extractor.out_channels == roi_head.bbox_head.in_channels == 512

    def test_branches_of_tridentnet(self):
        cfg = swap_backbone("mmdet::tridentnet/tridentnet_r50-caffe_1x_coco.py", "rmt-tiny")
        assert (cfg.model.type, cfg.model.roi_head.type) == ("FasterRCNN", "StandardRoIHead")
        assert "num_branch" not in cfg.model.roi_head


class TestSegmentor:
    def test_dilated(self):
        """Heads get maps as large as before; maps that none reads are not returned."""
        cfg = swap_backbone(PSPNET, "secvit-tiny")
        assert cfg.model.backbone.out_indices == (2, 3)
        assert cfg.model.neck == {
            "type": "mmeffvit.ResizeToStrides",
            "in_strides": (16, 32),
            "out_strides": (8, 8),
        }
        decode, auxiliary = cfg.model.decode_head, cfg.model.auxiliary_head
        assert (decode.in_channels, decode.in_index) == (512, 1)
        assert (auxiliary.in_channels, auxiliary.in_index) == (256, 0)
        assert "pretrained" not in cfg.model

    def test_first_map_of_deeplab(self):
        cfg = swap_backbone(
            "mmseg::deeplabv3plus/deeplabv3plus_r50-d8_4xb2-40k_cityscapes-512x1024.py", "rmt-tiny"
        )
        assert cfg.model.backbone.out_indices == (0, 2, 3)
        decode = cfg.model.decode_head
        assert (decode.c1_in_channels, decode.in_channels, decode.in_index) == (64, 512, 2)
        assert cfg.model.neck.out_strides == (4, 8, 8)

    def test_neck_that_hands_maps_on(self):
        cfg = swap_backbone(
            "mmseg::fastfcn/fastfcn_r50-d32_jpu_psp_4xb2-80k_cityscapes-512x1024.py", "rmt-tiny"
        )
        assert cfg.model.neck.type == "JPU"
        assert cfg.model.neck.in_channels == (128, 256, 512)
        assert cfg.model.auxiliary_head.in_channels == 256  # a map of the backbone
        assert cfg.model.decode_head.in_channels == 2048  # four of JPU's own

    def test_neck_that_hands_a_map_to_the_next(self):
        cfg = swap_backbone("configs/duoformer/mask-rcnn_r50_duoformer-fpn_1x_coco.py", "rmt-tiny")
        first, second = cfg.model.neck
        assert first.in_channels == [64, 128, 256, 512]
        assert second.in_channels == [64, 256, 256, 256]
        assert "find_unused_parameters" not in cfg

    def test_heads_inside_of_heads(self):
        source = "mmseg::knet/knet-s3_swin-t_upernet_8xb2-adamw-80k_ade20k-512x512.py"
        cfg = swap_backbone(source, "ravlt-tiny")
        head = cfg.model.decode_head
        assert head.kernel_generate_head.in_channels == [64, 128, 256, 512]
        # 512 happens to be a width of the backbone too
        assert [h.in_channels for h in head.kernel_update_head] == [512] * 3

    def test_maps_that_a_head_names_and_does_not_take(self):
        cfg = swap_backbone("mmseg::encnet/encnet_r50-d8_4xb4-80k_ade20k-512x512.py", "rmt-tiny")
        assert cfg.model.backbone.out_indices == (2, 3)
        assert (cfg.model.decode_head.in_channels, cfg.model.decode_head.in_index) == ([512], (1,))

    def test_cascades(self):
        cfg = swap_backbone(
            "mmseg::ocrnet/ocrnet_r101-d8_4xb2-40k_cityscapes-512x1024.py", "rmt-tiny"
        )
        assert [(h.in_channels, h.in_index) for h in cfg.model.decode_head] == [(256, 0), (512, 1)]


class TestNested:
    def test_semi_supervised(self):
        cfg = swap_backbone(
            "mmdet::soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco.py",
            "rmt-tiny",
        )
        assert cfg.model.detector.backbone.type == "mmeffvit.RMT"
        assert cfg.model.data_preprocessor.data_preprocessor.bgr_to_rgb is True
        assert "detector" not in cfg  # a variable of the file, with the old backbone

    def test_distillation(self):
        """The student's backbone; the teacher is kept, and found without upstream's folders."""
        cfg = swap_backbone("mmdet::ld/ld_r18-gflv1-r101_fpn_1x_coco.py", "rmt-tiny")
        assert cfg.model.backbone.type == "mmeffvit.RMT"
        assert cfg.model.teacher_config.model.backbone.depth == 101
        assert cfg.model.teacher_ckpt.endswith(".pth")
        cfg = swap_backbone("mmdet::lad/lad_r50-paa-r101_fpn_2xb8_coco_1x.py", "rmt-tiny")
        assert (cfg.model.backbone.type, cfg.model.teacher_backbone.type) == (
            "mmeffvit.RMT",
            "ResNet",
        )

    def test_tracker(self):
        source = "mmdet::deepsort/deepsort_faster-rcnn_r50_fpn_8xb2-4e_mot17halftrain"
        source += "_test-mot17halfval.py"
        cfg = swap_backbone(source, "rmt-tiny")
        assert cfg.model.detector.backbone.type == "mmeffvit.RMT"
        assert "init_cfg" not in cfg.model.detector  # a whole detector with the old backbone
        assert cfg.model.reid.backbone.type == "mmpretrain.ResNet"
        cfg = swap_backbone(source, "rmt-tiny", where="reid.backbone")
        assert cfg.model.reid.backbone.type == "mmeffvit.RMT"
        assert cfg.model.reid.head.in_channels == 512
        with pytest.raises(SwapError, match=r"found at detector\.backbone, reid\.backbone"):
            swap_backbone(source, "rmt-tiny", where="teacher.backbone")


class TestOptimizer:
    def test_norms_of_swin_become_those_of_ours(self):
        cfg = swap_backbone(SWIN_M2F, "rmt-tiny")
        keys = cfg.optim_wrapper.paramwise_cfg.custom_keys
        assert keys["backbone"] == {"lr_mult": 0.1, "decay_mult": 1.0}
        assert not any("patch_embed" in key or "table" in key for key in keys)
        with torch.device("meta"):
            backbone = MODELS.build(cfg.model.backbone)
        model = torch.nn.Module()
        model.backbone = backbone
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
        names = {id(param): name for name, param in model.named_parameters()}
        assert {group["lr"] for group in wrapper.optimizer.param_groups} == {1e-5}
        exempt = {
            names[id(param)]
            for group in wrapper.optimizer.param_groups
            if group["weight_decay"] == 0
            for param in group["params"]
        }
        norms = (torch.nn.LayerNorm, torch.nn.BatchNorm2d)
        assert exempt == {
            f"backbone.{name}.{kind}"
            for name, module in backbone.named_modules()
            if isinstance(module, norms)
            for kind in ("weight", "bias")
        }

    def test_layer_decay_of_convnext(self):
        cfg = swap_backbone(
            "mmdet::convnext/mask-rcnn_convnext-t-p4-w7_fpn_amp-ms-crop-3x_coco.py", "rmt-tiny"
        )
        assert "constructor" not in cfg.optim_wrapper
        assert cfg.optim_wrapper.paramwise_cfg == {"custom_keys": {"norm": {"decay_mult": 0.0}}}
        assert "custom_imports" not in cfg

    def test_adamw_for_a_detector(self):
        cfg = swap_backbone(RETINANET, "rmt-tiny", recipe="adamw")
        assert cfg.optim_wrapper.optimizer.type == "AdamW"
        assert cfg.optim_wrapper.optimizer.lr == 1e-4
        assert cfg.optim_wrapper.paramwise_cfg.custom_keys.norm.decay_mult == 0
        assert cfg.param_scheduler == load_config(RETINANET).param_scheduler

    def test_adamw_for_a_segmentor(self):
        cfg = swap_backbone(PSPNET, "rmt-tiny", recipe="adamw")
        assert (cfg.optim_wrapper.optimizer.type, cfg.optim_wrapper.optimizer.lr) == ("AdamW", 6e-5)
        warm_up, poly = cfg.param_scheduler
        assert (warm_up.type, warm_up.end, poly.begin) == ("LinearLR", 1500, 1500)
        # the old end, 1e-4, was above the new learning rate
        assert (poly.type, poly.eta_min, poly.power) == ("PolyLR", 0, 1)

    def test_adamw_keeps_the_rate_of_transformer_heads(self):
        before = load_config("mmdet::detr/detr_r50_8xb2-150e_coco.py").optim_wrapper
        cfg = swap_backbone("mmdet::detr/detr_r50_8xb2-150e_coco.py", "rmt-tiny", recipe="adamw")
        assert cfg.optim_wrapper.optimizer == before.optimizer
        assert set(cfg.optim_wrapper.paramwise_cfg.custom_keys) == {"backbone", "norm"}


def test_checkpoint_reaches_the_backbone(tmp_path):
    network = mmeffvit.create_backbone("rmt-tiny")
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": network.state_dict()}, path)
    cfg = swap_backbone(
        "mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py", "rmt-tiny", checkpoint=path
    )
    built = MODELS.build(cfg.model.backbone)
    built.init_weights()
    for name, value in network.state_dict().items():
        assert torch.equal(built.state_dict()[name], value), name


@pytest.mark.parametrize("backbone", ["ravlt-tiny", "mmdet.ResNet", "torchvision/resnet18"])
def test_a_map_beyond_the_coarsest_is_made_of_it(backbone):
    options = {"depth": 18} if backbone == "mmdet.ResNet" else {}
    source = "mmdet::rtmdet/rtmdet_l_swin_b_p6_4xb16-100e_coco.py"
    cfg = swap_backbone(source, backbone, **options)
    assert len(cfg.model.backbone.out_indices) == 3
    resize, pafpn = cfg.model.neck
    assert (resize.in_strides, resize.out_strides) == ((8, 16, 32), (8, 16, 32, 64))
    assert pafpn.in_channels == [128, 256, 512, 512]
    with torch.device("meta"):
        maps = MODELS.build(resize)([torch.empty(1, 2, s, s) for s in (16, 8, 4)])
    assert [x.shape[-1] for x in maps] == [16, 8, 4, 2]


def test_what_is_pooled_may_have_any_stride():
    cfg = swap_backbone("mmpretrain::resnet/resnet18_8xb16_cifar10.py", "ravlt-tiny")
    assert cfg.model.backbone.out_indices == (3,)
    assert cfg.model.neck.type == "GlobalAveragePooling"
    assert cfg.model.head.in_channels == 512
    assert "CIFAR" in cfg.backbone_swap.notes[0]


def test_a_backbone_alone_keeps_its_number_of_maps():
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        cfg = swap_backbone("mmpretrain::glip/glip-t_headless.py", "ravlt-tiny")
    assert cfg.model.backbone.out_indices == (1, 2, 3)
    assert cfg.backbone_swap.changes[0].path == "model.backbone"
    assert cfg.model.neck is None


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("mmdet::ssd/ssd300_coco.py", "SSDVGG cannot be swapped: SSD goes on with the layers"),
        ("mmdet::ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py", "SSDNeck"),
        ("mmdet::yolox/yolox_s_8xb8-300e_coco.py", "CSPDarknet cannot be swapped"),
        ("mmdet::yolo/yolov3_d53_8xb8-320-273e_coco.py", "Darknet cannot be swapped"),
        ("mmdet::cornernet/cornernet_hourglass104_8xb6-210e-mstest_coco.py", "strides 4, 4"),
        ("mmseg::vit/vit_vit-b16_mln_upernet_8xb2-80k_ade20k-512x512.py", "plain vision transf"),
        ("mmseg::mae/mae-base_upernet_8xb2-amp-160k_ade20k-512x512.py", "16, 16, 16, 16"),
        ("mmseg::unet/unet-s5-d16_fcn_4xb4-160k_cityscapes-512x1024.py", "is not a pyramid"),
        ("mmdet::common/lsj-100e_coco-detection.py", "has no model=dict"),
    ],
)
def test_refused_with_the_reason(source, reason):
    with pytest.raises(SwapError, match=reason):
        swap_backbone(source, "rmt-tiny")


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((RETINANET, "rmt-tinny"), {}, "did you mean 'rmt-tiny'"),
        ((RETINANET, "resnet-50"), {}, "no backbone is called 'resnet-50'"),
        (("mmdet::retinanet/retinanet_r50_fpn_1x.py", "rmt-tiny"), {}, "close matches: mmdet::"),
        ((RETINANET, "rmt-tiny"), {"recipe": "lion"}, "there are keep, adamw"),
        ((RETINANET, "rmt-tiny"), {"out_indices": (0, 1)}, r"is out_indices=\(1, 2, 3\)"),
        ((RETINANET, "rmt-tiny"), {"drop_path": 0.1}, "drop_path"),
        ((RETINANET, "rmt-tiny"), {"drop_path_rate": 1.5}, r"must be in \[0, 1\)"),
    ],
)
def test_errors(arguments, options, message):
    with pytest.raises(RuntimeError, match=message):
        swap_backbone(*arguments, **options)


class TestPlan:
    def test_says_which_maps_are_read_and_replaced(self):
        cfg = load_config(PSPNET)
        text = cfg.pretty_text
        plan = plan_swap(cfg, "secvit-tiny", recipe="adamw", drop_path_rate=0.1)
        assert cfg.pretty_text == text
        assert plan.place == ("model", "backbone")
        assert [level.stride for level in plan.levels] == [4, 8, 8, 8]
        assert [level.depth_stride for level in plan.levels] == [4, 8, 16, 32]
        # of the old backbone, of all maps of ours; strides until ours are resized
        assert [(m.index, m.out_index) for m in plan.maps] == [(2, 2), (3, 3)]
        assert [(m.old.channels, m.new.channels) for m in plan.maps] == [(1024, 256), (2048, 512)]
        assert [(m.old.stride, m.new.stride) for m in plan.maps] == [(8, 16), (8, 32)]
        edits = {edit.path: edit for edit in plan.edits}
        index = edits["model.decode_head.in_index"]
        assert (index.old, index.new) == (3, 1)
        assert edits["model.auxiliary_head.in_channels"].why == "channels of the new maps"

    def test_carried_out_it_is_the_swap(self):
        cfg = load_config(RETINANET)
        plan = plan_swap(cfg, "rmt-tiny", recipe="adamw", with_cp=True)
        done = plan.apply(cfg)
        swapped = swap_backbone(cfg, "rmt-tiny", recipe="adamw", with_cp=True)
        assert done.pretty_text == swapped.pretty_text
        # what is made of a plan is its own
        done.model.backbone.arch = "small"
        assert plan.apply(cfg).pretty_text == swapped.pretty_text
        with pytest.raises(AttributeError):
            plan.edits[0].new = None

    def test_is_for_one_config(self):
        plan = plan_swap(RETINANET, "rmt-tiny")
        with pytest.raises(SwapError, match=r"another config: model\.backbone is not what it was"):
            plan.apply(load_config(PSPNET))


class TestStrides:
    """Of the network that is built, whatever they are."""

    def test_maps_are_matched_by_stride(self, monkeypatch):
        monkeypatch.setattr(RMT, "stage_strides", (8, 16, 32, 64))
        plan = plan_swap(RETINANET, "rmt-tiny")
        assert [(m.index, m.out_index) for m in plan.maps] == [(1, 0), (2, 1), (3, 2)]
        assert plan.apply(load_config(RETINANET)).model.neck.in_channels == [64, 128, 256]

    def test_of_several_of_one_stride_the_last(self, monkeypatch):
        monkeypatch.setattr(RMT, "stage_strides", (16, 16, 16, 16))
        source = "mmdet::faster_rcnn/faster-rcnn_r50-caffe-c4_ms-1x_coco.py"
        assert swap_backbone(source, "rmt-tiny").model.backbone.out_indices == (3,)

    def test_one_that_is_read_is_missing(self, monkeypatch):
        monkeypatch.setattr(RMT, "stage_strides", (4, 16, 16, 32))
        message = r"'ResNet': maps of stride 8, 16 and 32 are read, and it has .* 4, 16 and 32\."
        with pytest.raises(SwapError, match=message):
            swap_backbone(RETINANET, "rmt-tiny")


def test_channels_that_do_not_fit_are_an_error():
    cfg = load_config(RETINANET)
    cfg.model.neck.in_channels = [256, 512, 1024, 999]
    with pytest.raises(SwapError, match=r"FPN reads maps of \[256, 512, 1024, 999\] channels"):
        swap_backbone(cfg, "rmt-tiny")


def test_segmentor_resizes_and_predicts():
    """A dilated model end to end, at a size that no stride divides."""
    arch = {
        "embed_dims": (16, 16, 32, 32),
        "depths": (1, 1, 1, 1),
        "num_heads": (1, 1, 2, 2),
        "mlp_ratios": (1, 1, 1, 1),
        "num_clusters": (4, 2, 2, -1),
        "layer_scale": (None,) * 4,
    }
    cfg = swap_backbone(PSPNET, "secvit", arch=arch)
    with DefaultScope.overwrite_default_scope("mmseg"):
        cfg.model.decode_head.norm_cfg = cfg.model.auxiliary_head.norm_cfg = {"type": "BN"}
        model = MODELS.build(cfg.model).eval()
        with torch.no_grad():
            maps = model.extract_feat(torch.randn(1, 3, 70, 97))
            logits = model.decode_head(maps)
    assert [tuple(x.shape) for x in maps] == [(1, 32, 10, 14)] * 2
    assert logits.shape == (1, 19, 10, 14)


@pytest.mark.parametrize(
    "name",
    [
        "convnext/convnext-tiny_32xb128_in1k.py",
        "hornet/hornet-tiny_8xb128_in1k.py",
        "tinyvit/tinyvit-5m_8xb256_in1k.py",
        "resnet/resnet18_8xb32_in1k.py",
    ],
)
def test_classifiers_whose_backbone_pools_get_a_neck_that_does(name):
    cfg = swap_backbone(f"mmpretrain::{name}", "ravlt-tiny")
    assert cfg.model.neck.type.endswith("GlobalAveragePooling")
    assert ("model.neck" in changed(cfg)) == (not name.startswith("resnet"))
    assert cfg.model.head.in_channels == 512
    with DefaultScope.overwrite_default_scope("mmpretrain"), torch.device("meta"):
        model = MODELS.build(cfg.model)
        images = torch.empty(2, 3, 64, 96)
        assert model.extract_feat(images)[-1].shape == (2, 512)
        assert model(images, mode="tensor").shape == (2, 1000)


def test_a_class_that_is_registered_anew_is_measured_anew():
    def measured(channels):
        @MODELS.register_module(name="OneConvolution", force=True)
        class OneConvolution(nn.Conv2d):
            def __init__(self):
                super().__init__(3, channels, 4, stride=4)

        levels, _ = measure_backbone({"type": "OneConvolution"}, "mmengine")
        return levels[0].channels

    try:
        assert [measured(channels) for channels in (8, 16)] == [8, 16]
    finally:
        MODELS.module_dict.pop("OneConvolution")


def test_defaults_of_a_toolbox_are_found_in_its_scope():
    assert default_of("FPN", "start_level", "mmdet") == 0
    assert default_of("FPN", "in_channels", "mmdet") is None  # has no default
    assert default_of("FPN", "start_level", "mmengine") is None  # nothing is called so there
