"""Preflight: what a launch says and when, and what is left alone."""

import json
import logging

import pytest
from mmengine.config import Config

import mmeffvit
from maintenance import shapes
from mmeffvit.engine.errors import LaunchError
from mmeffvit.engine.preflight import find_problems, preflight
from tests.datasets.checks import sets
from tests.tools import runs


@pytest.fixture
def coco(tmp_path):
    sets.write_coco(tmp_path)
    return sets.coco_config(tmp_path)


def test_all_errors_are_in_one_message(coco):
    coco.model.roi_head.bbox_head.num_classes = 80
    coco.val_evaluator.ann_file = coco.val_evaluator.ann_file.replace("val.json", "train.json")
    with pytest.raises(LaunchError) as caught:
        preflight(coco, ("train", "val"))
    lines = str(caught.value).splitlines()
    assert lines[0] == "The data and the config do not fit together, 2 errors:"
    assert lines[1].startswith("  1. model.roi_head.bbox_head: num_classes=80, but")
    assert lines[1].endswith("Set model.roi_head.bbox_head.num_classes=2.")
    assert lines[2].startswith("  2. val_evaluator: reads ")
    assert "--no-preflight" in lines[3]


def test_warnings_are_notes_and_the_time_is_said(coco, tmp_path):
    path = tmp_path / "annotations/train.json"
    path.write_text(path.read_text().replace('"area": 320', '"area": 0'))
    (level, text), (_, last) = preflight(coco, ("train", "val"), sample=3)
    assert level == logging.WARNING
    assert "4 objects with a box or an area of less than a pixel (1, 3, 5, 7)" in text
    assert "checked in " in last
    assert "at most 3 images" in last


@pytest.mark.parametrize("extra", ["group", "tower"])
def test_classes_that_are_left_out_are_told_if_objects_go_with_them(coco, tmp_path, extra):
    path = tmp_path / "annotations/train.json"
    content = json.loads(path.read_text())
    content["categories"].insert(0, {"id": 99, "name": extra})
    if extra == "tower":
        content["annotations"].append({**content["annotations"][-1], "id": 99, "category_id": 99})
    path.write_text(json.dumps(content))
    texts = [str(finding) for finding in find_problems(coco, ("train",))]
    assert len(texts) == (extra == "tower")
    assert all("leaves out, with their objects (tower)" in text for text in texts)


def test_only_the_first_process_looks(coco, monkeypatch):
    coco.model.roi_head.bbox_head.num_classes = 80
    monkeypatch.setenv("RANK", "1")
    assert preflight(coco, ("train", "val")) == []


def test_missing_files_are_said_first(coco, tmp_path):
    (tmp_path / "annotations/train.json").unlink()
    with pytest.raises(LaunchError, match=r"annotation file .*train.json is missing"):
        preflight(coco, ("train", "val"))


def test_wrapped_data_sets_are_found(coco):
    coco.train_dataloader.dataset.metainfo = {"classes": ("Box", "disc")}
    inner = {"type": "RepeatDataset", "times": 2, "dataset": coco.train_dataloader.dataset}
    coco.train_dataloader.dataset = {"type": "ConcatDataset", "datasets": [inner]}
    found = [str(finding) for finding in find_problems(coco, ["train"])]
    assert any("no class 'Box' in it" in text for text in found)


def test_types_that_are_classes_are_found(coco):
    from mmdet.datasets import CocoDataset

    coco.train_dataloader.dataset.metainfo = {"classes": ("Box", "disc")}
    cfg = coco.to_dict()
    cfg["train_dataloader"]["dataset"]["type"] = CocoDataset
    found = find_problems(Config(cfg), ["train"])
    assert any("no class 'Box' in it" in str(finding) for finding in found)


def test_what_others_read_in_their_own_way_is_left_alone(tmp_path):
    cfg = Config(
        {
            "default_scope": "mmdet",
            "model": {"bbox_head": {"num_classes": 7}, "language_model": {}},
            "train_dataloader": {"dataset": {"type": "XMLDataset", "data_root": str(tmp_path)}},
            "val_dataloader": {"dataset": {"type": "mmeffvit.DigitsDataset", "ann_file": "x"}},
            "test_dataloader": {"dataset": {"type": "CocoDataset", "data_root": "s3://a/b"}},
        }
    )
    assert find_problems(cfg, ("train", "val", "test")) == []


def test_few_of_many_files_are_opened(tmp_path, monkeypatch):
    """What the config has in many images is looked for by name alone."""
    from mmeffvit.datasets.checks import coco as module

    sets.write_coco(tmp_path)
    opened = []
    monkeypatch.setattr(module, "image_size", lambda path: (opened.append(path), (sets.SIZE, 0))[1])
    findings = module.check_coco(
        tmp_path / "annotations/train.json", ("box", "disc"), tmp_path / "train", sample=2
    )
    assert findings == []
    assert [path[-7:] for path in opened] == ["001.jpg", "004.jpg"]


@pytest.mark.parametrize("tool", ["train.py", "test.py"])
def test_tools_check_unless_told_not_to(tool, coco, tmp_path, monkeypatch):
    from mmeffvit.engine import launch

    class StartedError(Exception):
        pass

    def start(*args):
        raise StartedError

    coco.model.roi_head.bbox_head.num_classes = 80
    coco.test_dataloader, coco.test_evaluator = coco.val_dataloader, coco.val_evaluator
    coco.optim_wrapper = {"type": "OptimWrapper"}
    coco.dump(tmp_path / "config.py")
    monkeypatch.setattr(launch, "build_runner", start)
    arguments = [tmp_path / "config.py", *(["none.pth"] if tool == "test.py" else [])]
    with runs.main(tool) as main:
        with pytest.raises(LaunchError, match="num_classes=80"):
            main(*arguments, "--work-dir", tmp_path)
        with pytest.raises(StartedError):
            main(*arguments, "--work-dir", tmp_path, "--no-preflight")


@pytest.mark.parametrize(
    ("write", "config"),
    [
        (shapes.write_roboflow, "mmdet::retinanet/retinanet_r50_fpn_1x_coco.py"),
        (shapes.write_coco, "mmdet::cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py"),
        (shapes.write_yolo, "mmdet::queryinst/queryinst_r50_fpn_1x_coco.py"),
        (shapes.write_voc, "mmdet::rpn/rpn_r50_fpn_1x_coco.py"),
        (shapes.write_label_maps, "mmseg::upernet/upernet_r50_4xb4-80k_ade20k-512x512.py"),
        (shapes.write_classes, str(runs.ROOT / "configs/secvit/secvit-tiny_16xb128_in1k.py")),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_data_that_is_set_by_one_call_passes(write, config, tmp_path):
    masks = {shapes.write_yolo: {"polygons": True}}
    data = write(tmp_path / "data", **masks.get(write, {}))
    cfg = mmeffvit.set_dataset(config, data)
    assert [str(f) for f in find_problems(cfg, ("train", "val")) if f.level == "error"] == []
