"""The digits in COCO's panoptic layout, and panoptic quality without panopticapi."""

import json

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS, METRICS, DefaultScope

from mmeffvit.datasets.panoptic import segment_numbers
from mmeffvit.demo_data.digits import ensure_digits
from mmeffvit.demo_data.digits.images import load_scans
from mmeffvit.demo_data.digits.panoptic_layout import DIGITS_PANOPTIC_METAINFO, draw_panoptic
from mmeffvit.demo_data.folders import folder_hash

_SMALL = {"num_train": 12, "num_val": 8, "image_size": 64, "max_digits": 2, "seed": 3}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("digits") / "panoptic"
    ensure_digits(root, layout="panoptic", **_SMALL)
    return root


def _read(root, split="train"):
    document = json.loads((root / f"annotations/panoptic_{split}.json").read_text())
    maps = {}
    for entry in document["annotations"]:
        path = root / f"annotations/panoptic_{split}" / entry["file_name"]
        maps[entry["image_id"]] = segment_numbers(cv2.imread(str(path))[..., ::-1])
    return document, maps


def test_every_pixel_is_in_a_segment_with_its_area_and_box(root):
    document, maps = _read(root)
    assert [c["isthing"] for c in document["categories"]] == [1] * 10 + [0] * 4
    kinds = set()
    for entry in document["annotations"]:
        ids = maps[entry["image_id"]]
        assert {s["id"] for s in entry["segments_info"]} == set(np.unique(ids).tolist())
        for segment in entry["segments_info"]:
            rows, columns = np.nonzero(ids == segment["id"])
            assert segment["area"] == len(rows)
            x, y, width, height = segment["bbox"]
            assert (x, y) == (columns.min(), rows.min())
            assert (x + width, y + height) == (columns.max() + 1, rows.max() + 1)
            kinds.add((segment["category_id"] > 10, segment["iscrowd"]))
    assert kinds == {(True, 0), (False, 0), (False, 1)}


def test_segments_are_those_of_the_scene(root):
    _, maps = _read(root)
    scans, config = load_scans("train"), {**_SMALL, "image_size": [64, 64]}
    for index in range(12):
        image, instances, stuff = draw_panoptic(config, "train", scans, index)
        labels = maps[index + 1] // 1000 - 1
        expected = stuff.astype(int) + 10
        for instance in instances:
            expected[instance.mask] = instance.digit
        assert (labels == expected).all()
        photo = cv2.imread(str(root / f"train/{index + 1:012d}.jpg")).astype(int)
        assert np.abs(photo - image).mean() < 10


def _build(root, **kwargs):
    pipeline = [
        {"type": "mmeffvit.LoadImageFromFile"},
        {"type": "mmeffvit.LoadPanopticAnnotations"},
        {"type": "PackDetInputs"},
    ]
    config = {
        "type": "mmeffvit.DigitsPanopticDataset",
        "data_root": str(root),
        "ann_file": "annotations/panoptic_train.json",
        "data_prefix": {"img": "train/", "seg": "annotations/panoptic_train/"},
        "pipeline": pipeline,
        "make": dict(_SMALL),
        **kwargs,
    }
    with DefaultScope.overwrite_default_scope("mmdet"):
        return DATASETS.build(config)


def test_mmdet_reads_it(root):
    dataset = _build(root)
    assert dataset.metainfo["stuff_classes"] == ("gradient", "clouds", "stripes", "checks")
    document, maps = _read(root)
    for index in range(12):
        sample = dataset[index]["data_samples"]
        entry = document["annotations"][index]
        truth = [s for s in entry["segments_info"] if s["category_id"] <= 10 and not s["iscrowd"]]
        assert sorted(sample.gt_instances.labels.tolist()) == sorted(
            s["category_id"] - 1 for s in truth
        )
        masks = sample.gt_instances.masks.to_ndarray()
        assert sorted(masks.sum((1, 2)).tolist()) == sorted(s["area"] for s in truth)
        labels = sample.gt_sem_seg.sem_seg[0].numpy()
        assert (labels == maps[index + 1] // 1000 - 1).all()


def test_the_data_set_writes_itself_whole_or_not_at_all(tmp_path):
    make = {"num_train": 2, "num_val": 1, "image_size": 64}
    assert len(_build(tmp_path / "made", make=make)) == 2
    before = folder_hash(tmp_path / "made")
    assert len(_build(tmp_path / "made", make=make)) == 2
    assert folder_hash(tmp_path / "made") == before
    with pytest.raises(FileNotFoundError):
        _build(tmp_path / "nowhere", make=False)


def _metric(root, **kwargs):
    metric = METRICS.build(
        {
            "type": "mmeffvit.PanopticMetric",
            "ann_file": str(root / "annotations/panoptic_train.json"),
            "seg_prefix": str(root / "annotations/panoptic_train"),
            **kwargs,
        }
    )
    metric.dataset_meta = DIGITS_PANOPTIC_METAINFO
    return metric


def _truth(root):
    """Predictions that are the truth, crowds left to a wrong class."""
    document, maps = _read(root)
    samples = []
    for entry in document["annotations"]:
        found = np.full((64, 64), 14)
        for number, segment in enumerate(entry["segments_info"], 1):
            label = segment["category_id"] - 1
            mask = maps[entry["image_id"]] == segment["id"]
            found[mask] = label + 1000 * number if label < 10 else label
        sem_seg = torch.from_numpy(found)[None]
        samples.append({"img_id": entry["image_id"], "pred_panoptic_seg": {"sem_seg": sem_seg}})
    return samples


def test_the_truth_is_perfect(root):
    metric = _metric(root)
    metric.process(None, _truth(root))
    found = metric.evaluate(12)
    assert {f"panoptic/{a}Q{b}" for a in "PSR" for b in ("", "_th", "_st")} == found.keys()
    assert found == dict.fromkeys(found, pytest.approx(1))


def test_quality_by_hand(root):
    """Of stuff: one region found by half and a bit, one not found, one found wrongly."""
    document, maps = _read(root)
    metric = _metric(root, classwise=True)
    entry = next(
        e for e in document["annotations"] if not any(s["iscrowd"] for s in e["segments_info"])
    )
    stuff = [s for s in entry["segments_info"] if s["category_id"] > 10]
    ids = maps[entry["image_id"]]
    found = np.full((64, 64), 14)
    rows, columns = np.nonzero(ids == stuff[0]["id"])
    kept = int(0.6 * len(rows))
    found[rows[:kept], columns[:kept]] = stuff[0]["category_id"] - 1
    # nothing there: as panopticapi, what a prediction leaves out is missed
    sample = {"img_id": entry["image_id"]}
    sample["pred_panoptic_seg"] = {"sem_seg": torch.from_numpy(found)[None]}
    metric.process(None, [sample])
    result = metric.evaluate(1)
    names = DIGITS_PANOPTIC_METAINFO["classes"]
    iou = kept / len(rows)
    assert result[f"panoptic/{names[stuff[0]['category_id'] - 1]}_PQ"] == pytest.approx(iou)
    assert result[f"panoptic/{names[stuff[1]['category_id'] - 1]}_PQ"] == 0
    assert result["panoptic/PQ_st"] == pytest.approx(iou / 2)
    assert result["panoptic/PQ_th"] == 0
    # a segment that is not there halves the recognition of a class that is found once
    wrong = found.copy()
    first = next(s for s in entry["segments_info"] if s["category_id"] <= 10)
    mask = ids == first["id"]
    wrong[mask] = first["category_id"] - 1 + 1000
    wrong[~mask & (found == 14) & (ids != stuff[0]["id"])] = first["category_id"] - 1 + 2000
    sample["pred_panoptic_seg"] = {"sem_seg": torch.from_numpy(wrong)[None]}
    metric.process(None, [sample])
    result = metric.evaluate(1)
    same = sum(s["category_id"] == first["category_id"] for s in entry["segments_info"])
    expected = 1 / (1 + 0.5 + 0.5 * (same - 1))
    assert result[f"panoptic/{names[first['category_id'] - 1]}_PQ"] == pytest.approx(expected)


def test_what_does_not_fit_is_a_sentence(root):
    metric = _metric(root)
    sample = _truth(root)[0]
    with pytest.raises(ValueError, match="image 99 is not among the annotations"):
        metric.process(None, [{**sample, "img_id": 99}])
    small = {"sem_seg": torch.zeros(1, 8, 8)}
    with pytest.raises(ValueError, match=r"is \(64, 64\); the prediction is \(8, 8\)"):
        metric.process(None, [{**sample, "pred_panoptic_seg": small}])
