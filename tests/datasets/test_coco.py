"""What is read from COCO's and other images: errors that name the file, and the categories."""

import cv2
import numpy as np
from mmdet.datasets import CocoDataset

from mmeffvit.datasets.coco_categories import COCO_CATEGORIES
from mmeffvit.datasets.transforms import LoadImageFromFile


def test_a_whole_image_is_loaded_as_mmcv_does(tmp_path):
    from mmcv.transforms import LoadImageFromFile as MMCVLoadImageFromFile

    path = tmp_path / "image.jpg"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    cv2.imwrite(str(path), noise)
    ours = LoadImageFromFile(to_float32=True)({"img_path": str(path), "height": 64, "width": 64})
    theirs = MMCVLoadImageFromFile(to_float32=True)({"img_path": str(path)})
    np.testing.assert_array_equal(ours["img"], theirs["img"])
    assert ours["ori_shape"] == (64, 64)


def test_ignore_empty_skips_what_cannot_be_read(tmp_path):
    assert LoadImageFromFile(ignore_empty=True)({"img_path": str(tmp_path / "no.jpg")}) is None


def test_coco_categories_are_those_of_mmdet():
    assert tuple(name for _, name, _ in COCO_CATEGORIES) == CocoDataset.METAINFO["classes"]
    assert len({group for _, _, group in COCO_CATEGORIES}) == 12
    numbers = [number for number, _, _ in COCO_CATEGORIES]
    assert numbers == sorted(numbers)
    # the numbers that COCO 2017 does not use
    assert set(range(1, 91)) - set(numbers) == {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
