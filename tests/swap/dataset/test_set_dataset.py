"""What a data set writes into configs of every kind."""

import json

import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

import mmeffvit
from maintenance import shapes
from mmeffvit.engine.data import find_missing_data
from mmeffvit.engine.launch import load_config
from mmeffvit.swap import SwapError, format_changes, plan_dataset, set_dataset

RETINANET = "mmdet::retinanet/retinanet_r50_fpn_1x_coco.py"
MASK_RCNN = "mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py"
UPERNET = "mmseg::upernet/upernet_r50_4xb4-80k_ade20k-512x512.py"
RESNET = "mmpretrain::resnet/resnet50_8xb32_in1k.py"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    shapes.write_roboflow(root / "boxes")
    shapes.write_coco(root / "masks")
    shapes.write_label_maps(root / "maps")
    shapes.write_classes(root / "classes")
    return root


def changed(cfg):
    return {change["path"]: change for change in cfg.dataset_swap.changes}


class TestDetector:
    def test_boxes(self, folders):
        before = load_config(RETINANET)
        text = before.pretty_text
        cfg = mmeffvit.set_dataset(before, folders / "boxes")
        assert before.pretty_text == text
        assert cfg.model.bbox_head.num_classes == 3
        for split, name in (("train", "train"), ("val", "valid"), ("test", "test")):
            data = cfg[f"{split}_dataloader"].dataset
            assert data.type == "CocoDataset"
            assert data.data_root == (folders / "boxes").as_posix()
            assert data.ann_file == f"{name}/_annotations.coco.json"
            assert data.data_prefix == {"img": name}
            assert data.metainfo.classes == shapes.CLASSES
        file = (folders / "boxes/valid/_annotations.coco.json").as_posix()
        assert cfg.val_evaluator == {**before.val_evaluator, "ann_file": file}
        assert find_missing_data(cfg, ("train", "val", "test")) == []
        assert cfg.filename == "retinanet_r50_fpn_1x_coco_boxes.py"
        assert "dataset_type" not in cfg
        assert "- num_classes = 80\n+ num_classes = 3" in format_changes(cfg.dataset_swap.changes)

    def test_labels_are_those_of_the_file(self, folders):
        """Ids have gaps, and category 0 is none."""
        cfg = set_dataset(RETINANET, folders / "boxes")
        settings = {**cfg.val_dataloader.dataset, "pipeline": []}
        with DefaultScope.overwrite_default_scope("mmdet"):
            data = DATASETS.build(settings)
        for i, seed in enumerate(range(6, 9)):
            labels = [one["bbox_label"] for one in data.get_data_info(i)["instances"]]
            assert labels == [kind for kind, *_ in shapes.scene(seed)[1]]

    def test_stands_alone(self, folders, tmp_path):
        cfg = set_dataset(RETINANET, folders / "boxes")
        cfg.dump(tmp_path / "alone.py")
        assert Config.fromfile(tmp_path / "alone.py").to_dict() == cfg.to_dict()

    def test_masks(self, folders):
        cfg = set_dataset(MASK_RCNN, folders / "masks")
        head = cfg.model.roi_head
        assert (head.bbox_head.num_classes, head.mask_head.num_classes) == (3, 3)
        assert cfg.test_evaluator.metric == ["bbox", "segm"]

    def test_masks_are_wanted(self, folders):
        with pytest.raises(SwapError, match=r"MaskRCNN learns masks.*faster-rcnn_r50.*boxinst"):
            set_dataset(MASK_RCNN, folders / "boxes")
        boxinst = "mmdet::boxinst/boxinst_r50_fpn_ms-90k_coco.py"
        assert set_dataset(boxinst, folders / "boxes").val_evaluator.metric == "bbox"

    def test_proposals(self, folders):
        """mmdet's fast recall fails as soon as two images have different numbers of objects."""
        cfg = set_dataset("mmdet::rpn/rpn_r50_fpn_1x_coco.py", folders / "boxes")
        assert cfg.val_evaluator.metric == "proposal"
        assert "num_classes" not in cfg.model.rpn_head

    def test_cascades(self, folders):
        cfg = set_dataset(
            "mmdet::cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py", folders / "masks"
        )
        assert [head.num_classes for head in cfg.model.roi_head.bbox_head] == [3, 3, 3]

    def test_losses_that_hold_a_count(self, folders):
        name = "mask-rcnn_r50_fpn_seesaw-loss_random-ms-2x_lvis-v1.py"
        cfg = set_dataset(f"mmdet::seesaw_loss/{name}", folders / "masks")
        assert cfg.model.roi_head.bbox_head.loss_cls.num_classes == 3
        assert cfg.val_evaluator.type == "CocoMetric"
        assert cfg.train_dataloader.dataset.type == "CocoDataset"

    def test_wrappers(self, folders):
        """Two joined sets, repeated, of another type, with a metric of their own."""
        cfg = set_dataset("mmdet::pascal_voc/faster-rcnn_r50_fpn_1x_voc0712.py", folders / "boxes")
        wrapper = cfg.train_dataloader.dataset
        assert (wrapper.type, wrapper.times) == ("RepeatDataset", 3)
        assert wrapper.dataset.type == "CocoDataset"
        assert wrapper.dataset.filter_cfg.filter_empty_gt
        assert cfg.val_evaluator.type == "CocoMetric"
        assert cfg.val_evaluator.metric == "bbox"

    def test_several_sources_stay(self, folders):
        name = "soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco.py"
        cfg = set_dataset(f"mmdet::soft_teacher/{name}", folders / "boxes")
        joined = cfg.train_dataloader.dataset.datasets
        assert [data.ann_file for data in joined] == ["train/_annotations.coco.json"] * 2
        assert [data.pipeline[-1].type for data in joined] == ["MultiBranch", "MultiBranch"]
        assert cfg.model.detector.roi_head.bbox_head.num_classes == 3

    def test_panoptic_models(self, folders):
        cfg = set_dataset("mmdet::panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py", folders / "masks")
        assert cfg.model.type == "MaskRCNN"
        assert "semantic_head" not in cfg.model
        assert cfg.train_dataloader.dataset.pipeline[1] == {
            "type": "LoadAnnotations",
            "with_bbox": True,
            "with_mask": True,
        }
        cfg = set_dataset(
            "mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco-panoptic.py", folders / "masks"
        )
        head = cfg.model.panoptic_head
        assert (head.num_things_classes, head.num_stuff_classes) == (3, 0)
        assert head.loss_cls.class_weight == [1.0] * 3 + [0.1]
        assert (cfg.model.test_cfg.panoptic_on, cfg.model.test_cfg.instance_on) == (False, True)

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("fast_rcnn/fast-rcnn_r50_fpn_1x_coco.py", "reads proposals"),
            (
                "qdtrack/qdtrack_faster-rcnn_r50_fpn_8xb2-4e_mot17halftrain_test-mot17halfval.py",
                "videos",
            ),
            ("clrnet/clrnet.py", "finds lanes"),
            ("crowddet/crowddet-rcnn_r50_fpn_8xb2-30e_crowdhuman.py", "cannot learn 3 classes"),
        ],
    )
    def test_refusals(self, folders, name, reason):
        if not _installed(name):
            pytest.skip("not in this mmdet")
        with pytest.raises(SwapError, match=reason):
            set_dataset(f"mmdet::{name}", folders / "boxes")

    def test_folders_of_another_task(self, folders):
        with pytest.raises(SwapError, match="looks like class folders"):
            set_dataset(RETINANET, folders / "classes")

    def test_backbone_and_data(self, folders):
        """In either order, with both reports."""
        first = mmeffvit.swap_backbone(set_dataset(RETINANET, folders / "boxes"), "rmt-tiny")
        second = set_dataset(mmeffvit.swap_backbone(RETINANET, "rmt-tiny"), folders / "boxes")
        assert first.model == second.model
        assert first.dataset_swap.changes
        assert second.backbone_swap.changes
        assert first.train_dataloader == second.train_dataloader

    def test_plan_changes_nothing(self, folders):
        plan = plan_dataset(RETINANET, folders / "boxes")
        assert "model.bbox_head.num_classes" in [edit.path for edit in plan.edits]
        assert str(plan.data).endswith("images: train 6, val 3, test 2")
        with pytest.raises(SwapError, match="for another config"):
            plan.apply(load_config(MASK_RCNN))

    def test_weights_of_whole_models_are_said(self, folders):
        cfg = load_config(RETINANET)
        cfg.load_from = "retinanet.pth"
        cfg = set_dataset(cfg, folders / "boxes")
        assert cfg.load_from == "retinanet.pth"
        assert any(note.startswith("load_from stays") for note in cfg.dataset_swap.notes)


def _installed(name):
    from maintenance.swap_zoo.methods import zoo_root

    return (zoo_root("mmdet") / name).is_file()


class TestSegmentor:
    def test_label_maps(self, folders):
        cfg = set_dataset(UPERNET, folders / "maps")
        data = cfg.train_dataloader.dataset
        assert data.type == "BaseSegDataset"
        assert data.data_prefix == {
            "img_path": "images/training",
            "seg_map_path": "annotations/training",
        }
        assert data.metainfo.classes == ("background", *shapes.CLASSES)
        # the config was ADE20K's, where 0 is no class
        assert data.reduce_zero_label is False
        assert data.pipeline[1] == {"type": "LoadAnnotations", "reduce_zero_label": False}
        assert cfg.val_dataloader.dataset.pipeline[2]["reduce_zero_label"] is False
        heads = (cfg.model.decode_head, cfg.model.auxiliary_head)
        assert [head.num_classes for head in heads] == [4, 4]

    def test_weights_of_classes(self, folders):
        """Those of Cityscapes' classes are no one else's."""
        name = "ocrnet/ocrnet_hr18_4xb2-40k_cityscapes-512x1024.py"
        cfg = load_config(f"mmseg::{name}")
        cfg.model.decode_head[0].loss_decode.class_weight = [0.8] * 18 + [1.2]
        cfg.model.decode_head[1].loss_decode.class_weight = [1.0] * 19
        cfg = set_dataset(cfg, folders / "maps")
        assert [head.num_classes for head in cfg.model.decode_head] == [4, 4]
        assert "class_weight" not in cfg.model.decode_head[0].loss_decode
        assert cfg.model.decode_head[1].loss_decode.class_weight == [1.0] * 4

    def test_one_channel_for_two_classes(self, folders):
        cfg = load_config(UPERNET)
        cfg.model.decode_head.update(num_classes=2, out_channels=1, threshold=0.4)
        cfg.model.auxiliary_head.update(num_classes=2, out_channels=2)
        head = set_dataset(cfg, folders / "maps").model
        assert "out_channels" not in head.decode_head
        assert "threshold" not in head.decode_head
        assert head.auxiliary_head.out_channels == 4

    def test_other_models(self):
        name = "vpd/vpd_sd_4xb8-25k_nyu-480x480.py"
        with pytest.raises(SwapError, match="it learns depths"):
            set_dataset(f"mmseg::{name}", "anywhere")


class TestClassifier:
    def test_class_folders(self, folders):
        cfg = set_dataset(RESNET, folders / "classes")
        assert cfg.model.head.num_classes == 3
        assert cfg.data_preprocessor.num_classes == 3
        assert cfg.model.head.topk == (1,)
        assert cfg.val_evaluator.topk == (1,)
        with DefaultScope.overwrite_default_scope("mmpretrain"):
            data = DATASETS.build({**cfg.val_dataloader.dataset, "pipeline": []})
        assert data.CLASSES == ("bar", "post", "square")
        for i in range(len(data)):
            info = data.get_data_info(i)
            assert f"/{data.CLASSES[info['gt_label']]}/" in info["img_path"]

    def test_several_labels(self, folders):
        cfg = load_config(RESNET)
        cfg.val_evaluator = {"type": "MultiLabelMetric"}
        with pytest.raises(SwapError, match="evaluated by MultiLabelMetric"):
            set_dataset(cfg, folders / "classes")


class TestSmallData:
    def test_epochs(self, folders):
        cfg = set_dataset(RETINANET, folders / "boxes", recipe="small-data", steps=600)
        # six images, a quarter of them in a batch
        assert cfg.train_dataloader.batch_size == 1
        assert cfg.train_cfg.max_epochs == 100
        assert cfg.train_cfg.val_interval == cfg.default_hooks.checkpoint.interval == 10
        warm_up, steps = cfg.param_scheduler
        assert warm_up.end == 60  # a tenth; it was 500
        assert (steps.end, steps.milestones) == (100, [67, 92])  # 12, 8 and 11 of 12 before
        assert cfg.optim_wrapper.optimizer.lr == pytest.approx(0.01 / 16)
        assert cfg.auto_scale_lr.base_batch_size == 1

    def test_adam_scales_with_the_root(self, folders):
        cfg = mmeffvit.swap_backbone(RETINANET, "rmt-tiny", recipe="adamw")
        cfg = set_dataset(cfg, folders / "boxes", recipe="small-data", steps=600)
        assert cfg.optim_wrapper.optimizer.lr == pytest.approx(1e-4 / 4)

    def test_iterations(self, folders):
        cfg = set_dataset(UPERNET, folders / "maps", recipe="small-data", steps=800)
        assert (cfg.train_cfg.max_iters, cfg.train_cfg.val_interval) == (800, 80)
        assert cfg.param_scheduler[0].end == 800

    def test_gpus_count(self, folders, monkeypatch):
        monkeypatch.setenv("WORLD_SIZE", "2")
        cfg = set_dataset(RETINANET, folders / "boxes", recipe="small-data", steps=600)
        assert cfg.train_cfg.max_epochs == 200
        assert cfg.optim_wrapper.optimizer.lr == pytest.approx(0.01 / 8)

    def test_a_kept_schedule_that_is_warm_up_is_named(self, folders):
        # six images in batches of two, twelve times
        said = "Of 36 iterations on 6 images the learning rate rises for the first 500"
        notes = set_dataset(RETINANET, folders / "boxes").dataset_swap.notes
        assert any(note.startswith(said) for note in notes)
        for kept in (
            set_dataset(RETINANET, folders / "boxes", recipe="small-data"),
            set_dataset(UPERNET, folders / "maps"),  # 80,000 iterations, whatever the images
        ):
            assert not any("the learning rate rises" in note for note in kept.dataset_swap.notes)

    def test_unknown_recipe(self, folders):
        with pytest.raises(SwapError, match="there are keep, small-data"):
            set_dataset(RETINANET, folders / "boxes", recipe="adamw")


def test_yolo_arrives(tmp_path):
    cfg = set_dataset(RETINANET, shapes.write_yolo(tmp_path / "set"))
    data = cfg.train_dataloader.dataset
    assert data.ann_file == ".mmeffvit/annotations/train.json"
    content = json.loads((tmp_path / "set" / data.ann_file).read_text())
    image = tmp_path / "set" / data.data_prefix.img / content["images"][0]["file_name"]
    assert image.is_file()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"layot": "YOLO"}, r"no option 'layot'; did you mean 'layout'\? There are recipe, steps"),
        ({"steps": "many"}, r"steps='many' is no number"),
        ({"steps": 0}, r"steps=0 is no number"),
        ({"recipe": "tiny-data"}, r"recipe='tiny-data' is not known"),
        ({"palette": [1, 2, 3]}, r"palette=\[1, 2, 3\] is no list of colours"),
        ({"palette": "red"}, r"palette='red' is no list of colours"),
    ],
)
def test_options_that_are_none(folders, options, words):
    with pytest.raises(SwapError, match=words):
        set_dataset(RETINANET, folders / "boxes", **options)
