"""The digits data: what is in it, that it is right, and that a seed decides all of it."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmeffvit.demo_data.digits import ensure_digits, write_digits
from mmeffvit.demo_data.digits.images import NUM_TRAIN_SCANS, load_scans
from mmeffvit.demo_data.digits.layouts import to_annotation
from mmeffvit.demo_data.digits.polygons import mask_extent, mask_iou, polygons_to_mask
from mmeffvit.demo_data.digits.scenes import draw_scene
from mmeffvit.demo_data.folders import ForeignFolderError, folder_hash

_SMALL = {"num_train": 60, "num_val": 30, "image_size": 128, "seed": 3}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_digits(tmp_path_factory.mktemp("digits") / "data", **_SMALL)


@pytest.fixture(scope="module")
def documents(root):
    return {
        split: json.loads((root / "annotations" / f"{split}.json").read_text())
        for split in ("train", "val")
    }


def _decode(annotation, image):
    return COCO.annToMask(_Sizes(image), annotation).astype(bool)


class _Sizes:
    """The little that COCO.annToRLE wants of an index."""

    def __init__(self, image):
        self.imgs = {image["id"]: image}
        self.annToRLE = lambda annotation: COCO.annToRLE(self, annotation)


def test_train_and_val_scans_are_disjoint_and_cover_all_digits(documents):
    used = {
        split: {scan for a in document["annotations"] for scan in a["scans"]}
        for split, document in documents.items()
    }
    assert not used["train"] & used["val"]
    assert max(used["train"]) < NUM_TRAIN_SCANS <= min(used["val"])
    for split in ("train", "val"):
        ink, labels, ids = load_scans(split)
        assert set(labels) == set(range(10))
        assert len(ink) == len(ids) == {"train": 1438, "val": 359}[split]
        assert ink.shape[1:] == (8, 8)
        assert 0 <= ink.min() < ink.max() == 1


def test_annotations_name_the_digit_of_their_scans(documents):
    from sklearn.datasets import load_digits

    target = load_digits().target
    for document in documents.values():
        for annotation in document["annotations"]:
            assert {target[scan] + 1 for scan in annotation["scans"]} == {annotation["category_id"]}


def test_image_files_are_those_of_the_annotations(root, documents):
    for split, document in documents.items():
        names = {info["file_name"] for info in document["images"]}
        assert names == {path.name for path in (root / split).iterdir()}
        for info in document["images"]:
            image = cv2.imread(str(root / split / info["file_name"]))
            assert image.shape == (info["height"], info["width"], 3)
    ids = [i["id"] for d in documents.values() for i in d["images"]]
    assert len(set(ids)) == len(ids) == 90
    ids = [a["id"] for d in documents.values() for a in d["annotations"]]
    assert len(set(ids)) == len(ids)


def test_boxes_and_areas_are_those_of_the_masks(documents):
    for document in documents.values():
        images = {info["id"]: info for info in document["images"]}
        for annotation in document["annotations"]:
            mask = _decode(annotation, images[annotation["image_id"]])
            y0, x0, y1, x1 = mask_extent(mask)
            assert annotation["bbox"] == [x0, y0, x1 - x0, y1 - y0]
            assert annotation["area"] == mask.sum() > 0


def test_there_are_crowds_empty_images_and_polygons(documents):
    for document in documents.values():
        annotated = {a["image_id"] for a in document["annotations"]}
        assert 0 < len(document["images"]) - len(annotated) < 0.2 * len(document["images"])
        crowds = [a for a in document["annotations"] if a["iscrowd"]]
        assert crowds
        for crowd in crowds:
            assert isinstance(crowd["segmentation"]["counts"], list)
            assert len(crowd["scans"]) > 5
        singles = [a for a in document["annotations"] if not a["iscrowd"]]
        polygons = [a for a in singles if isinstance(a["segmentation"], list)]
        assert len(polygons) > 0.95 * len(singles)
        assert {a["category_id"] for a in singles} == set(range(1, 11))
        # occlusion cuts some digits into parts
        assert any(len(a["segmentation"]) > 1 for a in polygons)


def _scenes(count, **kwargs):
    scans = load_scans("train")
    for seed in range(count):
        rng = np.random.default_rng(seed)
        yield draw_scene(rng, *scans, 128, 144, 6, with_crowd=seed % 4 == 0)


def test_polygons_agree_with_the_drawn_bitmaps():
    overlaps = []
    for _, instances in _scenes(20):
        for instance in instances:
            annotation = to_annotation(instance, {"height": 128, "width": 144, "id": 1})
            segmentation = annotation["segmentation"]
            if isinstance(segmentation, list):
                filled = polygons_to_mask(segmentation, 128, 144)
            else:
                rle = mask_utils.frPyObjects(segmentation, 128, 144)
                filled = mask_utils.decode(rle).astype(bool)
            overlaps.append(mask_iou(filled, instance.mask))
    assert len(overlaps) > 50
    assert min(overlaps) > 0.9
    assert np.mean(overlaps) > 0.97


def test_masks_show_what_is_visible():
    shared = hidden = 0
    for _, instances in _scenes(20):
        masks = np.stack([i.mask for i in instances])
        assert masks.sum(0).max() <= 1, "no pixel belongs to two digits"
        for instance in instances:
            visible = instance.mask.sum() / instance.area
            # most of it stays in the image and before others
            assert 0.5 < visible <= 1
            hidden += visible < 0.95
        shared += any(_touch(a, b) for i, a in enumerate(masks) for b in masks[i + 1 :])
    assert hidden > 5, "some digits are partly hidden"
    assert shared > 5, "some digits touch"


def _touch(a, b):
    return (cv2.dilate(a.astype(np.uint8), np.ones((3, 3))).astype(bool) & b).any()


def test_digits_stand_out_from_what_is_around():
    """A mask that lay elsewhere than its digit would show no edge along its outline."""
    contrasts = []
    for image, instances in _scenes(20):
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(float)
        for instance in instances:
            if instance.is_crowd:
                continue
            mask = instance.mask.astype(np.uint8)
            outside = cv2.dilate(mask, np.ones((9, 9))) - cv2.dilate(mask, np.ones((5, 5)))
            inside = cv2.erode(mask, np.ones((3, 3)))
            if inside.sum() > 5 and outside.sum() > 5:
                contrasts.append(abs(grey[inside > 0].mean() - grey[outside > 0].mean()))
    assert np.median(contrasts) > 60


def test_ground_truth_as_prediction_has_full_ap(root):
    coco = COCO(str(root / "annotations" / "val.json"))
    found = []
    for annotation in coco.loadAnns(coco.getAnnIds(iscrowd=False)):
        rle = coco.annToRLE(annotation)
        found.append({**annotation, "segmentation": rle, "score": 1.0})
    for kind in ("bbox", "segm"):
        evaluation = COCOeval(coco, coco.loadRes(found), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        assert evaluation.stats[0] == pytest.approx(1.0, abs=1e-6)


def test_every_byte_follows_from_the_seed(root, tmp_path):
    ensure_digits(tmp_path / "threads", workers=3, **_SMALL)
    ensure_digits(tmp_path / "single", workers=1, **_SMALL)
    assert folder_hash(tmp_path / "threads") == folder_hash(root)
    assert folder_hash(tmp_path / "single") == folder_hash(root)
    ensure_digits(tmp_path / "other", **{**_SMALL, "seed": 4})
    assert folder_hash(tmp_path / "other") != folder_hash(root)


def test_more_images_leave_the_first_ones_as_they_are(root, tmp_path):
    more = write_digits(tmp_path / "more", **{**_SMALL, "num_train": 61})
    for name in ("000000000001.jpg", "000000000060.jpg"):
        assert (more / "train" / name).read_bytes() == (root / "train" / name).read_bytes()


def test_data_of_other_arguments_is_written_anew(tmp_path):
    tiny = {"num_train": 2, "num_val": 1, "image_size": 64}
    assert ensure_digits(tmp_path / "data", **tiny)
    before = folder_hash(tmp_path / "data")
    assert not ensure_digits(tmp_path / "data", **tiny)
    assert ensure_digits(tmp_path / "data", **tiny, seed=1)
    assert folder_hash(tmp_path / "data") != before


def test_progress_is_told(tmp_path):
    messages = []
    ensure_digits(tmp_path / "data", num_train=10, num_val=1, image_size=64, log=messages.append)
    assert messages[0] == "digits data: train 2/10 images"
    assert messages[-1] == "digits data: val 1/1 images"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_train": 0}, "num_train is 0; it must be at least 1"),
        ({"image_size": 32}, "image_size is 32; it must be at least 64"),
        ({"image_size": (640, 32)}, "image_size is 32"),
        ({"seed": -1}, "seed is -1"),
        ({"layout": "voc"}, r"layout is 'voc'; it must be one of \['ade20k', 'coco', "),
    ],
)
def test_wrong_arguments(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        ensure_digits(tmp_path / "data", **wrong)
    assert not list(tmp_path.iterdir())


def test_a_foreign_folder_is_refused(tmp_path):
    (tmp_path / "annotations").mkdir()
    with pytest.raises(ForeignFolderError, match="left alone"):
        ensure_digits(tmp_path, num_train=1, num_val=1)


def test_images_that_are_not_square_stand_both_ways(tmp_path):
    root = write_digits(tmp_path / "data", num_train=24, num_val=1, image_size=(64, 96))
    images = json.loads((root / "annotations" / "train.json").read_text())["images"]
    assert {(i["height"], i["width"]) for i in images} == {(64, 96), (96, 64)}


def test_importing_and_writing_need_no_toolbox(tmp_path):
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('mmcv', 'mmdet', 'mmseg', 'mmpretrain')))\n"
        "from mmeffvit.demo_data.digits import write_digits\n"
        f"write_digits({str(tmp_path / 'data')!r}, num_train=1, num_val=1, image_size=64)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
