"""PointSegFiguresHook and PointDetFiguresHook on data samples, without a model."""

import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.structures import InstanceData
from PIL import Image

from mmeffvit.models.points import PointData, PointDataSample
from mmeffvit.visualization.curves import as_fractions, draw_curves, read_scalars
from mmeffvit.visualization.points import hooks as module
from mmeffvit.visualization.points.hooks import (
    PointDetFiguresHook,
    PointSegFiguresHook,
    to_room_example,
    to_sweep_example,
)

CLASSES = ("floor", "wall")


class _Dataset:
    def __init__(self, samples, metainfo):
        self.samples, self.metainfo = samples, metainfo

    def __len__(self):
        return len(self.samples)

    def get_data_info(self, index):
        info = {"lidar_path": self.samples[index].lidar_path}
        if "pred_instances_3d" in self.samples[index]:
            info["gt_labels_3d"] = self.samples[index].eval_ann_info["gt_labels_3d"]
        return info


def _runner(folder, samples, metainfo, scalars, train=True):
    dataloader = SimpleNamespace(dataset=_Dataset(samples, metainfo))
    path = folder / "run" / "20260101_000000" / "vis_data" / "scalars.json"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(map(json.dumps, scalars)) + "\n")
    return SimpleNamespace(
        work_dir=str(folder / "run"),
        val_dataloader=dataloader,
        test_dataloader=dataloader,
        experiment_name="condaformer_20260101_000000",
        timestamp="20260101_000000",
        iter=7,
        _train_loop=object() if train else None,
        logger=logging.getLogger("test_point_hooks"),
    )


def _room_sample(folder, name, number=60, colours=True):
    path = folder / "Area_5" / f"{name}.pth"
    path.parent.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    room = {"coord": rng.uniform(-1, 1, (number, 3))}
    if colours:
        room["color"] = rng.integers(0, 255, (number, 3)).astype(np.uint8)
    torch.save(room, path)
    sample = PointDataSample(metainfo={"lidar_path": str(path)})
    sample.pred_pts_seg = PointData(pts_semantic_mask=torch.arange(number) % 2)
    sample.eval_ann_info = {"pts_semantic_mask": np.zeros(number, int)}
    return sample


def _sweep_sample(name, objects=2, found=1):
    boxes = np.array([[10 + 5 * i, 0, -1.7, 4, 1.6, 1.5, 0] for i in range(objects)], np.float32)
    sample = PointDataSample(metainfo={"lidar_path": f"/data/{name}.bin"})
    sample.eval_ann_info = {
        "gt_bboxes_3d": boxes.reshape(-1, 7),
        "gt_labels_3d": np.zeros(objects, int),
        "gt_ignore": np.arange(objects) == 1,
    }
    sample.pred_instances_3d = InstanceData(
        bboxes_3d=torch.tensor([[10.0, 0, -1.7, 4, 1.6, 1.5, 0, 1, 2]] * found).reshape(-1, 9),
        scores_3d=torch.full((found,), 0.75),
        labels_3d=torch.zeros(found, dtype=torch.int64),
    )
    return sample


def _validate(hook, runner, metrics, points=None):
    hook.before_val_epoch(runner)
    samples = runner.val_dataloader.dataset.samples
    for start in range(0, len(samples), 2):
        batch = samples[start : start + 2]
        data = {"inputs": {"points": [points] * len(batch)}}
        hook.after_val_iter(runner, start, data, batch)
    hook.after_val_epoch(runner, metrics)


def _open(folder):
    for name in ("predictions.png", "curves.png"):
        with Image.open(folder / "run" / name) as picture:
            picture.load()


def test_rooms_become_examples(tmp_path):
    sample = _room_sample(tmp_path, "office_1")
    example = to_room_example(sample)
    assert example.name == "Area_5/office_1"
    assert example.points.shape == example.colours.shape == (60, 3)
    assert example.prediction[:4].tolist() == [0, 1, 0, 1]
    assert not example.truth.any()
    del sample.eval_ann_info
    sample.gt_pts_seg = PointData(pts_semantic_mask=torch.ones(60, dtype=torch.int64))
    assert (to_room_example(sample).truth == 1).all()
    del sample.gt_pts_seg
    assert (to_room_example(sample).truth == 255).all()
    grey = to_room_example(_room_sample(tmp_path, "office_2", colours=False)).colours
    assert len(np.unique(grey)) == 1
    sample.pred_pts_seg = PointData(pts_semantic_mask=torch.zeros(50, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"50 predictions .* 60 points of .*office_1"):
        to_room_example(sample)


def test_sweeps_become_examples():
    example = to_sweep_example(_sweep_sample("000007"), torch.zeros(5, 4))
    assert example.name == "000007"
    assert example.points.shape == (5, 4)
    assert example.truth.boxes.shape == (2, 7)
    assert example.ignored.tolist() == [False, True]
    assert example.prediction.boxes.tolist() == [pytest.approx([10, 0, -1.7, 4, 1.6, 1.5, 0])]
    assert example.prediction.scores.tolist() == [0.75]
    nothing = to_sweep_example(_sweep_sample("000008", objects=0, found=0), torch.zeros(5, 4))
    assert len(nothing.truth) == len(nothing.prediction) == 0
    # without the metric's copy
    sample = _sweep_sample("000009")
    sample.gt_instances_3d = InstanceData(
        bboxes_3d=torch.ones(3, 7), labels_3d=torch.zeros(3, dtype=torch.int64)
    )
    del sample.eval_ann_info
    assert len(to_sweep_example(sample, torch.zeros(5, 4)).truth) == 3
    del sample.gt_instances_3d
    assert len(to_sweep_example(sample, torch.zeros(5, 4)).truth) == 0


def test_rooms_are_drawn_after_validation(tmp_path, monkeypatch):
    sheets = []
    draw = module.draw_room_sheet
    monkeypatch.setattr(
        module, "draw_room_sheet", lambda *a, **k: sheets.append((a, k)) or draw(*a, **k)
    )
    samples = [_room_sample(tmp_path, f"room_{i}") for i in range(3)]
    scores = {"mIoU": 0.5125, "mAcc": 0.625, "allAcc": 0.75}
    scalars = [{"loss": 1.0, "loss_sem_seg": 1.0, "step": 5}, {**scores, "step": 5}]
    runner = _runner(tmp_path, samples, {"classes": CLASSES}, scalars)
    _validate(PointSegFiguresHook(num_images=2, panel=100), runner, scores)
    _open(tmp_path)
    ((examples, classes, palette), texts) = sheets[0]
    assert len(examples) == 2
    assert classes == CLASSES
    assert len(palette) == 2, "made where the data set has none"
    assert texts["title"] == "condaformer"
    assert texts["subtitle"] == (
        "validation after 7 training iterations  ·  mIoU 0.512  ·  mAcc 0.625"
        "  ·  accuracy of points 0.750"
    )


def test_sweeps_with_objects_are_drawn_after_testing(tmp_path, monkeypatch):
    sheets = []
    draw = module.draw_sweep_sheet
    monkeypatch.setattr(
        module, "draw_sweep_sheet", lambda *a, **k: sheets.append((a, k)) or draw(*a, **k)
    )
    samples = [_sweep_sample(f"{i:06d}", objects=i % 2) for i in range(4)]
    scores = {"AP_3d": 0.25, "AP_bev": 0.5, "Car_AP_3d": 0.25}
    scalars = [{"loss": 1.0, "step": 5}, {**scores, "step": 5}]
    runner = _runner(tmp_path, samples, {"classes": ("Car",)}, scalars, train=False)
    points = torch.rand(50, 4) * 30
    hook = PointDetFiguresHook(panel=100, bounds=(0, -20, 40, 20), score_thr=0.5)
    hook.before_test_epoch(runner)
    for sample in samples:
        hook.after_test_iter(runner, 0, {"inputs": {"points": [points]}}, [sample])
    hook.after_test_epoch(runner, scores)
    ((examples, _), texts) = sheets[0]
    assert sorted(example.name for example in examples) == ["000001", "000003"]
    assert all((example.points == points.numpy()).all() for example in examples)
    assert texts["subtitle"] == "test sweeps  ·  AP in space 0.250  ·  AP from above 0.500"
    assert texts["score_thr"] == 0.5
    _validate(hook, runner, scores, points)
    _open(tmp_path)


def test_curves_know_the_metrics_of_points(tmp_path):
    # mmseg's mean IoU is in percent, that of points is not
    assert as_fractions({"aAcc": 90.0, "mIoU": 81.0}) == {"aAcc": 90.0, "mIoU": 0.81}
    of_points = {"mIoU": 0.81, "mAcc": 0.9, "allAcc": 0.95}
    assert as_fractions(of_points) == of_points
    file = tmp_path / "scalars.json"
    records = [
        {"loss": 2.0, "loss_heatmap": 1.5, "loss_bbox": 0.5, "step": 1},
        {"AP_3d": 0.25, "AP_bev": 0.5, "Car_AP_3d": 0.25, "step": 1},
        {**of_points, "step": 1},
    ]
    file.write_text("\n".join(map(json.dumps, records)))
    train, val = read_scalars(file)
    assert [v.get("mIoU") for v in val] == [None, 0.81]
    figure = draw_curves(train, val)
    losses, scores = ([t.get_text() for t in a.get_legend().get_texts()] for a in figure.axes)
    assert losses == ["total", "heatmap", "box"]
    assert scores == ["AP in space", "AP from above", "mIoU"]


@pytest.mark.parametrize("name", ["PointSegFiguresHook", "PointDetFiguresHook"])
def test_are_found_by_their_names(name):
    hook = MMENGINE_HOOKS.build({"type": f"mmeffvit.{name}", "num_images": 3})
    assert type(hook) is getattr(module, name)
    assert hook.num_images == 3
