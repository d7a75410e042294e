"""The digits in ADE20K's layout: labels, loading by mmseg, and the data set that makes itself."""

import cv2
import numpy as np
import pytest
from mmengine.registry import DATASETS, DefaultScope

from mmeffvit.demo_data.digits import ensure_digits
from mmeffvit.demo_data.digits.images import draw_image, load_scans
from mmeffvit.demo_data.digits.layouts import label_map
from mmeffvit.demo_data.folders import folder_hash

_SMALL = {"num_train": 26, "num_val": 14, "image_size": 96, "seed": 3}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("digits") / "ADEChallengeData2016"
    ensure_digits(root, layout="ade20k", **_SMALL)
    return root


def test_layout_is_that_of_ade20k(root):
    for split, name, number in (("train", "training", 26), ("val", "validation", 14)):
        stems = [f"ADE_{split}_{index:08d}" for index in range(1, number + 1)]
        for part, suffix in (("images", "jpg"), ("annotations", "png")):
            files = sorted(path.name for path in (root / part / name).iterdir())
            assert files == [f"{stem}.{suffix}" for stem in stems]
    label_map = cv2.imread(
        str(root / "annotations/training/ADE_train_00000001.png"), cv2.IMREAD_UNCHANGED
    )
    assert (label_map.shape, label_map.dtype) == ((96, 96), np.uint8)


def test_labels_are_those_of_the_instances(root):
    """Of the scene that the same seed draws for detection."""
    scans = load_scans("train")
    config = {"seed": 3, "image_size": [96, 96], "max_digits": 5}
    crowds = 0
    for index in range(26):
        image, instances = draw_image(config, "train", scans, index)
        stem = f"ADE_train_{index + 1:08d}"
        stored = cv2.imread(
            str(root / "annotations/training" / f"{stem}.png"), cv2.IMREAD_UNCHANGED
        )
        expected = np.full((96, 96), 11)
        for instance in instances:
            expected[instance.mask] = 0 if instance.is_crowd else instance.digit + 1
            crowds += instance.is_crowd
        assert (stored == expected).all()
        photo = cv2.imread(str(root / "images/training" / f"{stem}.jpg")).astype(int)
        assert np.abs(photo - image).mean() < 8, "a JPEG of this scene"
    assert crowds >= 2


def _build(root, **kwargs):
    pipeline = [{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations"}]
    config = {
        "type": "mmeffvit.DigitsSegDataset",
        "data_root": str(root),
        "data_prefix": {"img_path": "images/training", "seg_map_path": "annotations/training"},
        "pipeline": pipeline,
        "make": dict(_SMALL),
        **kwargs,
    }
    with DefaultScope.overwrite_default_scope("mmseg"):
        return DATASETS.build(config)


def test_mmseg_reads_classes_from_zero_and_what_is_not_labelled_as_255(root):
    dataset = _build(root)
    assert dataset.metainfo["classes"] == (*"0123456789", "background")
    assert len(dataset.metainfo["palette"]) == 11
    assert len(dataset) == 26
    seen = set()
    for index in range(26):
        item = dataset[index]
        stored = cv2.imread(item["seg_map_path"], cv2.IMREAD_UNCHANGED).astype(int)
        assert (item["gt_seg_map"] == np.where(stored == 0, 255, stored - 1)).all()
        seen |= set(np.unique(item["gt_seg_map"]).tolist())
    assert seen == {*range(11), 255}


def test_configs_for_ade20k_read_it(root):
    from mmeffvit.engine.launch import load_config

    config = load_config("mmseg::_base_/datasets/ade20k.py").val_dataloader.dataset
    with DefaultScope.overwrite_default_scope("mmseg"):
        dataset = DATASETS.build({**config, "data_root": str(root)})
    assert (len(dataset), len(dataset.metainfo["classes"])) == (14, 150)
    labels = dataset[0]["data_samples"].gt_sem_seg.data.unique().tolist()
    assert set(labels) <= {*range(11), 255}
    assert 10 in labels


def test_data_set_writes_itself(tmp_path):
    make = {"num_train": 2, "num_val": 1, "image_size": 64}
    assert len(_build(tmp_path / "made", make=make)) == 2
    before = folder_hash(tmp_path / "made")
    assert len(_build(tmp_path / "made", make=False)) == 2
    assert folder_hash(tmp_path / "made") == before
    with pytest.raises(FileNotFoundError):
        _build(tmp_path / "nowhere", make=False)


def test_half_of_the_training_images_are_plain(tmp_path):
    """Digits on one colour; the others, and all for validation, are as they are without."""
    config = {"seed": 0, "image_size": [64, 64], "max_digits": 2, "digit_sizes": [0.4, 0.6]}
    for split in ("train", "val"):
        scans = load_scans(split)
        for index in range(4):
            cluttered, _ = draw_image(config, split, scans, index)
            image, instances = draw_image({**config, "half_plain": True}, split, scans, index)
            if split == "train" and index % 2:
                ground = image[~np.any([i.mask for i in instances], axis=0)]
                assert np.abs(ground - np.median(ground, axis=0)).mean() < 20
                assert not (image == cluttered).all()
                assert all(0.3 * 64 < np.ptp(np.nonzero(i.mask)) < 64 for i in instances)
            else:
                assert (image == cluttered).all()


def test_options_are_part_of_the_data(tmp_path):
    tiny = {"num_train": 2, "num_val": 1, "image_size": 64, "layout": "ade20k"}
    assert ensure_digits(tmp_path / "data", **tiny)
    assert ensure_digits(tmp_path / "data", **tiny, half_plain=True)
    assert ensure_digits(tmp_path / "data", **tiny, half_plain=True, digit_sizes=(0.4, 0.6))
    assert not ensure_digits(tmp_path / "data", **tiny, half_plain=True, digit_sizes=(0.4, 0.6))
    with pytest.raises(ValueError, match=r"digit_sizes is \(0\.6, 0\.4\)"):
        ensure_digits(tmp_path / "data", **tiny, digit_sizes=(0.6, 0.4))


def test_label_maps_of_a_scene_without_digits():
    assert (label_map([], 5, 7) == np.full((5, 7), 11)).all()
