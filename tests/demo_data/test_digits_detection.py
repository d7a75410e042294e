"""DigitsDataset and mmdet's own dataset on the data, with bad annotations and broken images."""

import json

import cv2
import numpy as np
import pytest
from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS as MMDET_DATASETS
from mmdet.utils import register_all_modules
from mmengine.registry import DefaultScope

from mmeffvit.datasets.coco_categories import COCO_CATEGORIES
from mmeffvit.datasets.transforms import UnreadableImageError
from mmeffvit.demo_data.digits import ensure_digits, write_digits
from mmeffvit.demo_data.digits.detection import DigitsDataset

_MAKE = {"num_train": 24, "num_val": 8, "image_size": 96, "seed": 1}
_PIPELINE = [
    {"type": "mmeffvit.LoadImageFromFile"},
    {"type": "LoadAnnotations", "with_bbox": True, "with_mask": True},
    {"type": "PackDetInputs"},
]


@pytest.fixture(autouse=True)
def _mmdet_scope():
    register_all_modules(init_default_scope=False)
    with DefaultScope.overwrite_default_scope("mmdet"):
        yield


def _config(root, **kwargs):
    config = {
        "type": "mmeffvit.DigitsDataset",
        "data_root": str(root),
        "make": _MAKE,
        "ann_file": "annotations/train.json",
        "data_prefix": {"img": "train/"},
        "pipeline": _PIPELINE,
    }
    return {**config, **kwargs}


def test_is_written_when_it_is_built(tmp_path):
    dataset = MMDET_DATASETS.build(_config(tmp_path / "digits"))
    assert type(dataset) is DigitsDataset
    assert len(dataset) == 24
    assert dataset.metainfo["classes"] == tuple("0123456789")
    assert len(set(dataset.metainfo["palette"])) == 10
    assert not ensure_digits(tmp_path / "digits", **_MAKE)


def test_lazy_init_writes_nothing_yet(tmp_path):
    dataset = MMDET_DATASETS.build(_config(tmp_path / "digits", lazy_init=True))
    assert not (tmp_path / "digits").exists()
    dataset.full_init()
    assert len(dataset) == 24


def test_make_false_only_reads(tmp_path):
    with pytest.raises(FileNotFoundError):
        MMDET_DATASETS.build(_config(tmp_path / "digits", make=False))
    assert not (tmp_path / "digits").exists()


def test_samples_hold_what_the_annotations_say(tmp_path):
    dataset = MMDET_DATASETS.build(_config(tmp_path / "digits"))
    document = json.loads((tmp_path / "digits/annotations/train.json").read_text())
    for index, info in enumerate(document["images"]):
        annotations = [a for a in document["annotations"] if a["image_id"] == info["id"]]
        sample = dataset[index]["data_samples"]
        single = [a for a in annotations if not a["iscrowd"]]
        assert sample.gt_instances.labels.tolist() == [a["category_id"] - 1 for a in single]
        masks = sample.gt_instances.masks.to_ndarray()
        assert masks.sum((1, 2)).tolist() == [a["area"] for a in single]
        crowds = sample.ignored_instances
        assert len(crowds) == sum(a["iscrowd"] for a in annotations)


def _with_bad_annotations(tmp_path):
    root = write_digits(tmp_path / "digits", **_MAKE)
    path = root / "annotations" / "train.json"
    document = json.loads(path.read_text())
    first = document["annotations"][0]
    before = sum(a["image_id"] == first["image_id"] for a in document["annotations"])
    for number, bad in enumerate(
        (
            {"bbox": [10, 10, 0, 20], "area": 0},
            {"bbox": [10, 10, 20, 0], "area": 0},
            {"bbox": [10, 10, 20, 20], "area": 0},
            {"bbox": [200, 200, 20, 20]},
            {"bbox": [-30, 10, 20, 20]},
        )
    ):
        document["annotations"].append({**first, **bad, "id": 10**9 + number})
    path.write_text(json.dumps(document))
    return root, first["image_id"], before


def test_boxes_without_area_are_left_out(tmp_path):
    root, image_id, before = _with_bad_annotations(tmp_path)
    dataset = MMDET_DATASETS.build(_config(root, make=False))
    (index,) = (i for i in range(len(dataset)) if dataset.get_data_info(i)["img_id"] == image_id)
    sample = dataset[index]["data_samples"]
    assert len(sample.gt_instances) + len(sample.ignored_instances) == before
    boxes = sample.gt_instances.bboxes.tensor
    assert ((boxes[:, 2:] - boxes[:, :2]) >= 1).all()


_JPEG = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))[1]
_BROKEN = {
    "empty": b"",
    "garbage": b"this is no image" * 20,
    "cut": _JPEG.tobytes()[: len(_JPEG) // 2],
    "missing": None,
    "of another size": cv2.imencode(".jpg", np.zeros((48, 96, 3), np.uint8))[1].tobytes(),
}


@pytest.mark.parametrize("harm", _BROKEN)
def test_an_unreadable_image_is_named(tmp_path, harm):
    root = write_digits(tmp_path / "digits", **_MAKE)
    dataset = MMDET_DATASETS.build(_config(root))
    path = root / "train" / "000000000005.jpg"
    path.unlink()
    if _BROKEN[harm] is not None:
        path.write_bytes(_BROKEN[harm])
    with pytest.raises(UnreadableImageError, match=r"000000000005\.jpg"):
        dataset[4]
    dataset[5]


def test_coco_layout_is_read_by_mmdet_as_coco(tmp_path):
    root = write_digits(tmp_path / "coco", layout="coco", **_MAKE)
    for split, number in (("train", 24), ("val", 8)):
        dataset = CocoDataset(
            data_root=str(root),
            ann_file=f"annotations/instances_{split}2017.json",
            data_prefix={"img": f"{split}2017/"},
            pipeline=_PIPELINE,
        )
        assert len(dataset) == number
        assert dataset.cat_ids == [number for number, _, _ in COCO_CATEGORIES]
        labels = {
            int(label)
            for index in range(number)
            for label in dataset[index]["data_samples"].gt_instances.labels
        }
        assert labels <= set(range(10))
    assert len(labels) > 3
