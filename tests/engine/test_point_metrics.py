import math

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.structures import InstanceData

from mmeffvit.ops.points import rotated_iou_3d
from mmeffvit.registry import METRICS
from mmeffvit.structures import PointData, PointDataSample

CLASSES = ("Pedestrian", "Cyclist", "Car")


def evaluate(metric, samples, classes=CLASSES):
    evaluator = Evaluator(metric)
    evaluator.dataset_meta = {"classes": classes}
    for sample in samples:
        evaluator.process([sample], None)
    return evaluator.evaluate(len(samples))


def seg_metric(**kwargs):
    return METRICS.build({"type": "mmeffvit.PointSegMetric", **kwargs})


def seg_sample(predicted, labels, in_gt=False):
    sample = PointDataSample(pred_pts_seg=PointData(pts_semantic_mask=torch.tensor(predicted)))
    if in_gt:
        sample.gt_pts_seg = PointData(pts_semantic_mask=torch.tensor(labels))
    else:
        sample.eval_ann_info = {"pts_semantic_mask": np.array(labels)}
    return sample


def test_labels_by_hand():
    samples = [
        seg_sample([0, 0, 1, 2, 2], [0, 1, 1, 255, 0]),
        seg_sample([1, 1, 0], [1, 1, 255], in_gt=True),
    ]
    # class 0: 1 of union 3, 1 of 2 labelled; class 1: 3 of 4, 3 of 4; class 2: 0 of union 1, none
    metric = seg_metric()
    authors = evaluate(metric, samples, classes=("a", "b", "c", "d"))
    assert authors == pytest.approx(
        {"mIoU": (1 / 3 + 3 / 4) / 4, "mAcc": (1 / 2 + 3 / 4) / 4, "allAcc": 4 / 6}, abs=1e-9
    )
    metric = seg_metric(style="mmdet3d")
    other = evaluate(metric, samples, classes=("a", "b", "c", "d"))
    assert math.isnan(other.pop("d"))
    assert other == pytest.approx(
        {"a": 1 / 3, "b": 3 / 4, "c": 0, "miou": (1 / 3 + 3 / 4) / 3, "acc": 4 / 6}
        | {"acc_cls": (1 / 2 + 3 / 4) / 2}
    )


def test_label_counts_are_small_and_match_a_confusion_matrix():
    random = np.random.default_rng(0)
    labels, predicted = random.integers(0, 5, 4000), random.integers(0, 5, 4000)
    labels[:500] = 7
    metric = seg_metric(ignore_index=7)
    metric.dataset_meta = {"classes": tuple("abcde")}
    for part in range(4):
        rows = slice(part * 1000, part * 1000 + 1000)
        metric.process(None, [seg_sample(predicted[rows], labels[rows]).to_dict()])
    assert [r.shape for r in metric.results] == [(3, 5)] * 4
    confusion = np.zeros((5, 5))
    for label, prediction in zip(labels[500:], predicted[500:]):
        confusion[label, prediction] += 1
    right = np.diag(confusion)
    iou = right / (confusion.sum(0) + confusion.sum(1) - right)
    values = metric.evaluate(4)
    assert values["mIoU"] == pytest.approx(iou.mean())
    assert values["mAcc"] == pytest.approx((right / confusion.sum(1)).mean())
    assert values["allAcc"] == pytest.approx(right.sum() / 3500)


def test_label_errors():
    metric = seg_metric()
    metric.dataset_meta = {"classes": CLASSES}
    with pytest.raises(ValueError, match="2 predictions for 3 points"):
        metric.process(None, [seg_sample([0, 1], [0, 1, 1]).to_dict()])
    with pytest.raises(ValueError, match=r"1 points have a label that is none of 3 .* as -1"):
        metric.process(None, [seg_sample([0, 1], [0, -1]).to_dict()])
    with pytest.raises(ValueError, match="prediction that is none of 3 classes, such as 3"):
        metric.process(None, [seg_sample([0, 3], [0, 1]).to_dict()])
    with pytest.raises(ValueError, match="style must be"):
        seg_metric(style="nan")
    with pytest.raises(ValueError, match="no sample"):
        metric.evaluate(0)


def det_sample(boxes, scores, labels, objects, classes, ignored=None):
    sample = PointDataSample()
    sample.pred_instances_3d = InstanceData(
        bboxes_3d=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 7),
        scores_3d=torch.tensor(scores, dtype=torch.float32),
        labels_3d=torch.tensor(labels, dtype=torch.int64),
    )
    sample.eval_ann_info = {
        "gt_bboxes_3d": np.array(objects, dtype=np.float32).reshape(-1, 7),
        "gt_labels_3d": np.array(classes, dtype=np.int64),
    }
    if ignored is not None:
        sample.eval_ann_info["gt_ignore"] = np.array(ignored, dtype=bool)
    return sample


def car(x, z=0.0, yaw=0.0):
    return [x, 0.0, z, 4.0, 2.0, 1.5, yaw]


def det_metric(**kwargs):
    return METRICS.build({"type": "mmeffvit.PointDetMetric", **kwargs})


def test_boxes_by_hand():
    # by falling score: right, a second one of the same object, false, right; one object is missed
    sample = det_sample(
        [car(0), car(0.1), car(50), car(20.2)],
        [0.9, 0.8, 0.7, 0.6],
        [2] * 4,
        [car(0), car(20, yaw=math.pi), car(40), car(60)],
        [2] * 4,
    )
    values = evaluate(det_metric(), [sample])
    # recall 1/4 at precision 1, recall 2/4 at precision 2/4
    assert values["Car_AP_3d"] == values["AP_3d"] == pytest.approx((10 * 1 + 10 * 0.5) / 40)
    assert values["AP_bev"] == values["AP_3d"]
    assert math.isnan(values["Cyclist_AP_bev"])


def test_height_counts_in_space_only():
    sample = det_sample([car(0, z=0.5)], [0.9], [2], [car(0)], [2])
    values = evaluate(det_metric(), [sample])
    assert (values["Car_AP_3d"], values["Car_AP_bev"]) == (0, 1)
    # they share 1 m of 1.5 m each: 1 / 2
    values = evaluate(det_metric(iou_thrs={"Car": 0.5}), [sample])
    assert values["Car_AP_3d"] == 1
    values = evaluate(det_metric(iou_thrs={"Car": 0.6}, bev_iou_thrs={"Car": 0.5}), [sample])
    assert (values["Car_AP_3d"], values["Car_AP_bev"]) == (0, 1)


def test_ignored_objects_count_neither_way():
    boxes, objects = [car(0), car(20), car(80)], [car(0), car(20), car(40)]
    plain = det_sample(boxes[:2], [0.5, 0.9], [2, 2], objects, [2] * 3)
    assert evaluate(det_metric(), [plain])["Car_AP_3d"] == pytest.approx(26 / 40)
    ignoring = det_sample(boxes[:2], [0.5, 0.9], [2, 2], objects, [2] * 3, [0, 1, 1])
    assert evaluate(det_metric(), [ignoring])["Car_AP_3d"] == 1
    # centres out of range are ignored as well; detections elsewhere are false as ever
    ranged = det_sample(boxes, [0.5, 0.9, 0.7], [2] * 3, objects, [2] * 3)
    limits = [-10, -10, -3, 10, 10, 3]
    values = evaluate(det_metric(point_cloud_range=limits), [ranged])
    assert values["Car_AP_3d"] == pytest.approx(1 / 2)
    # an object that counts goes before one that does not, whichever overlaps more
    both = det_sample([car(0.1)], [0.9], [2], [car(0), car(0.1)], [2, 2], [0, 1])
    assert evaluate(det_metric(), [both])["Car_AP_3d"] == 1


def test_equal_scores_have_no_order():
    objects = [car(20 * i) for i in range(4)]
    boxes = [car(0), car(100), car(20), car(120)]
    values = {
        evaluate(
            det_metric(),
            [det_sample([boxes[i] for i in order], [0.5] * 4, [2] * 4, objects, [2] * 4)],
        )["AP_3d"]
        for order in ([0, 1, 2, 3], [1, 3, 0, 2], [0, 2, 1, 3])
    }
    assert values == {0.25}  # precision 1 / 2 up to recall 1 / 2


def test_nothing_found_and_nothing_there():
    assert evaluate(det_metric(), [det_sample([], [], [], [car(0)], [2])])["AP_3d"] == 0
    nothing = evaluate(det_metric(), [det_sample([car(0)], [0.5], [2], [], [])])
    assert math.isnan(nothing["AP_3d"])
    # boxes with velocities, and classes without an overlap
    sample = det_sample([car(0)], [0.5], [2], [car(0)], [2])
    sample.pred_instances_3d.bboxes_3d = torch.tensor([[*car(0), 1.0, 1.0]])
    assert evaluate(det_metric(), [sample])["AP_3d"] == 1
    with pytest.raises(ValueError, match=r"no overlap for Tram; give iou_thrs=dict\(Tram=...\)"):
        evaluate(det_metric(), [sample], classes=(*CLASSES[:2], "Tram"))
    with pytest.raises(ValueError, match=r"labels of detections .* 2 classes, got 2"):
        evaluate(det_metric(), [det_sample([car(0)], [0.5], [2], [], [])], classes=CLASSES[:2])
    with pytest.raises(ValueError, match=r"3d IoU for Car must be in \(0, 1\]"):
        det_metric(iou_thrs={"Car": 70})


def test_without_labels_nothing_is_measured():
    bare = seg_sample([0, 1], [0, 1])
    del bare.eval_ann_info
    assert evaluate(seg_metric(), [bare, bare]) == {}
    with pytest.raises(ValueError, match="1 of 2 samples have no labels"):
        evaluate(seg_metric(), [bare, seg_sample([0, 1], [0, 1])])
    sweep = det_sample([car(5)], [0.9], [2], [car(5)], [2])
    sweep.eval_ann_info = {}
    assert evaluate(det_metric(), [sweep]) == {}


def reference(samples, label, threshold):
    """AP of a class, one detection and one recall after the other."""
    middle = torch.zeros(7, 7).fill_diagonal_(1)
    middle[5, 2] = 0.5  # z at the bottom to z in the middle
    entries, total = [], 0
    for sample in samples:
        found, truth = sample.pred_instances_3d, sample.eval_ann_info
        objects = [
            (torch.tensor(box) @ middle, bool(ignored))
            for box, name, ignored in zip(
                truth["gt_bboxes_3d"], truth["gt_labels_3d"], truth["gt_ignore"]
            )
            if name == label
        ]
        total += sum(not ignored for _, ignored in objects)
        taken = set()
        for i in found.scores_3d.argsort(descending=True, stable=True).tolist():
            if found.labels_3d[i] != label:
                continue
            best, best_iou, near_ignored = None, threshold, False
            for j, (box, ignored) in enumerate(objects):
                iou = float(rotated_iou_3d(found.bboxes_3d[i : i + 1] @ middle, box[None]))
                if ignored:
                    near_ignored |= iou >= threshold
                elif j not in taken and iou >= best_iou:
                    best, best_iou = j, iou
            if best is not None:
                taken.add(best)
            if best is not None or not near_ignored:
                entries.append((float(found.scores_3d[i]), best is not None))
    curve = []
    for cut in {score for score, _ in entries}:
        kept = [right for score, right in entries if score >= cut]
        curve.append((sum(kept) / total, sum(kept) / len(kept)))
    recalls = [k / 40 for k in range(1, 41)]
    return sum(max((p for r, p in curve if r >= k - 1e-9), default=0) for k in recalls) / 40


def test_random_boxes_against_loops():
    random = np.random.default_rng(0)
    samples = []
    for count in (12, 1, 20):
        objects = np.zeros((count, 7), np.float32)
        objects[:, :2] = random.uniform(-8, 8, (count, 2))
        objects[:, 3:6] = random.uniform((3, 1.5, 1), (5, 2.5, 2), (count, 3))
        objects[:, 6] = random.uniform(-4, 4, count)
        classes = random.integers(0, 3, count)
        rows = random.integers(0, count, 3 * count)
        boxes = objects[rows] + random.normal(0, 0.15, (3 * count, 7)).astype(np.float32)
        scores = np.round(random.uniform(0, 1, 3 * count), 1)  # many equal ones
        labels = np.where(random.random(3 * count) < 0.8, classes[rows], 0)
        samples.append(
            det_sample(boxes, scores, labels, objects, classes, random.random(count) < 0.3)
        )
    values = evaluate(det_metric(iou_thrs=dict.fromkeys(CLASSES, 0.5)), samples)
    expected = [reference(samples, label, 0.5) for label in range(3)]
    assert [values[f"{name}_AP_3d"] for name in CLASSES] == pytest.approx(expected, abs=1e-12)
    assert values["AP_3d"] == pytest.approx(np.mean(expected))
    assert all(0.1 < value < 0.95 for value in expected)
    assert values["AP_bev"] > values["AP_3d"]


def test_what_a_head_is_taught_is_what_counts(tmp_path):
    """Sweeps in KITTI's files, targets, decoding and metric agree about what a box is."""
    from mmeffvit.datasets.points import KittiSweepDataset
    from mmeffvit.demo_data.streets import ensure_sweeps
    from mmeffvit.models.points import CenterHead

    ensure_sweeps(tmp_path / "data", num_train=1, num_val=3, workers=1)
    dataset = KittiSweepDataset(
        data_root=str(tmp_path / "data"),
        ann_file="ImageSets/val.txt",
        difficulty=None,
        test_mode=True,
        pipeline=[
            {"type": "mmeffvit.LoadPointsFromFile"},
            {"type": "mmeffvit.PackPointInputs", "feat_keys": ("coord", "intensity")},
        ],
        serialize_data=False,
    )
    size, origin = (0.25, 0.25), (0.0, -20.0)
    head = CenterHead(8, voxel_size=size, point_cloud_range=origin, test_cfg={"max_num": 300})
    samples = []
    for index in range(len(dataset)):
        sample = dataset[index]["data_samples"]
        truth = sample.gt_instances_3d
        targets = head.targets([truth.bboxes_3d], [truth.labels_3d], (160, 160))
        centres = torch.where(targets.heatmap == 1, 6.0, -9.0)
        outs = {"heatmap": centres, "iou": torch.ones(1, 1, 160, 160)}
        wanted, cells = targets.anno_box[targets.mask], targets.ind[targets.mask]
        parts = zip(("reg", "height", "dim", "rot"), wanted[:, :8].split((2, 1, 3, 2), dim=1))
        for name, values in parts:
            outs[name] = torch.zeros(1, values.shape[1], 160 * 160)
            outs[name][0, :, cells] = values.T
            outs[name] = outs[name].view(1, -1, 160, 160)
        boxes, scores, labels = head.predict(outs)[0]
        sample.pred_instances_3d = InstanceData(bboxes_3d=boxes, scores_3d=scores, labels_3d=labels)
        samples.append(sample)
    strict = det_metric(iou_thrs=dict.fromkeys(CLASSES, 0.99))
    values = evaluate(strict, samples, classes=dataset.metainfo["classes"])
    assert values["AP_3d"] == values["AP_bev"] == 1
