"""Digits in ImageNet's layout: what is written, and what mmpretrain's own dataset reads."""

import cv2
import pytest
from mmengine.registry import DATASETS, DefaultScope
from mmpretrain.datasets import ImageNet
from mmpretrain.datasets.categories import IMAGENET_CATEGORIES

from mmeffvit.demo_data.digits import ensure_digits
from mmeffvit.demo_data.digits.images import load_scans
from mmeffvit.demo_data.digits.layouts import WNIDS, draw_digit
from mmeffvit.demo_data.folders import folder_hash

MAKE = {"num_train": 12, "num_val": 5, "image_size": (72, 96), "seed": 3}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("digits") / "imagenet"
    ensure_digits(root, layout="imagenet", workers=1, **MAKE)
    return root


def test_layout(root):
    assert sorted(path.name for path in root.iterdir() if path.is_dir()) == ["meta", "train", "val"]
    for split, number in (("train", 12), ("val", 5)):
        assert sorted(path.name for path in (root / split).iterdir()) == sorted(WNIDS)
        lines = (root / "meta" / f"{split}.txt").read_text().splitlines()
        assert len(lines) == number == len(list((root / split).rglob("*.JPEG")))
        for line in lines:
            name, label = line.split()
            assert name.startswith(WNIDS[int(label)])
            assert cv2.imread(str(root / split / name)).shape == (72, 96, 3)


def test_bytes_depend_on_the_arguments_alone(root, tmp_path):
    ensure_digits(tmp_path / "again", layout="imagenet", workers=3, **MAKE)
    assert folder_hash(tmp_path / "again") == folder_hash(root)
    ensure_digits(tmp_path / "other", layout="imagenet", **{**MAKE, "seed": 4})
    assert folder_hash(tmp_path / "other") != folder_hash(root)


def test_every_image_has_its_digit():
    """All digits occur, in validation from scans that training never sees."""
    config = {"seed": 0, "image_size": [64, 64]}
    scans = load_scans("val")
    drawn = [draw_digit(config, "val", scans, index) for index in range(40)]
    assert {digit for _, digit in drawn} == set(range(10))
    assert not set(load_scans("train")[2]) & set(scans[2])
    assert len({image.tobytes() for image, _ in drawn}) == 40


@pytest.mark.parametrize("split", ["train", "val"])
def test_mmpretrains_imagenet_reads_it(root, split):
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        dataset = ImageNet(data_root=str(root), split=split)
    assert dataset.metainfo["classes"] == tuple(IMAGENET_CATEGORIES)
    info = [dataset.get_data_info(index) for index in range(len(dataset))]
    assert len(info) == MAKE[f"num_{split}"]
    for item in info:
        assert WNIDS[item["gt_label"]] in item["img_path"]


def test_dataset_writes_itself(tmp_path):
    config = {
        "type": "mmeffvit.DigitsClsDataset",
        "data_root": str(tmp_path / "digits"),
        "split": "val",
        "make": MAKE,
        "pipeline": [{"type": "mmeffvit.LoadImageFromFile"}, {"type": "PackInputs"}],
    }
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        dataset = DATASETS.build(config)
        sample = dataset[0]
    assert dataset.metainfo["classes"] == tuple("0123456789")
    assert len(dataset) == MAKE["num_val"]
    assert sample["inputs"].shape == (3, 72, 96)
    assert sample["data_samples"].gt_label.item() in range(10)
    assert not ensure_digits(tmp_path / "digits", layout="imagenet", **MAKE)
    with (
        DefaultScope.overwrite_default_scope("mmpretrain"),
        pytest.raises(FileNotFoundError, match="nowhere"),
    ):
        DATASETS.build({**config, "data_root": str(tmp_path / "nowhere"), "make": False})
