"""DetectionFiguresHook on mmdet's own data samples, without a detector."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.structures import InstanceData
from mmengine.visualization import Visualizer
from PIL import Image

from mmeffvit.visualization.hooks import DetectionFiguresHook, to_example


def _instances(count, height, width, labels=None, masks="bitmap", scores=None):
    bitmaps = np.zeros((count, height, width), bool)
    for index in range(count):
        bitmaps[index, 5 + 10 * index : 13 + 10 * index, 4:20] = True
    data = InstanceData(
        bboxes=torch.tensor([[4.0, 5 + 10 * i, 20, 13 + 10 * i] for i in range(count)]).view(-1, 4),
        labels=torch.zeros(count, dtype=torch.long) if labels is None else torch.tensor(labels),
    )
    if masks == "bitmap":
        data.masks = BitmapMasks(list(bitmaps.astype(np.uint8)), height, width)
    elif masks == "tensor":
        data.masks = torch.from_numpy(bitmaps)
    if scores is not None:
        data.scores = torch.tensor(scores)
    return data


def _sample(folder, name="a.png", masks=True, truth=2, crowds=1, found=2):
    path = folder / name
    cv2.imwrite(str(path), np.full((48, 64, 3), (255, 0, 0), np.uint8))
    sample = DetDataSample(metainfo={"img_path": str(path)})
    sample.gt_instances = _instances(truth, 48, 64, masks="bitmap" if masks else None)
    sample.ignored_instances = _instances(crowds, 48, 64, masks="bitmap" if masks else None)
    sample.pred_instances = _instances(
        found, 48, 64, masks="tensor" if masks else None, scores=[0.9, 0.2][:found]
    )
    return sample


def _runner(folder, dataset, train=True):
    dataloader = SimpleNamespace(dataset=dataset)
    return SimpleNamespace(
        work_dir=str(folder / "run"),
        val_dataloader=dataloader,
        test_dataloader=dataloader,
        experiment_name="faster-rcnn_20260101_000000",
        timestamp="20260101_000000",
        iter=7,
        _train_loop=object() if train else None,
        logger=logging.getLogger("test_hooks"),
    )


class _Dataset:
    metainfo = {"classes": ("cat", "dog")}  # noqa: RUF012

    def __init__(self, samples, filled):
        self.samples, self.filled = samples, filled

    def __len__(self):
        return len(self.samples)

    def get_data_info(self, index):
        instances = [{}] if index in self.filled else []
        return {"img_path": self.samples[index].img_path, "instances": instances}


def _validate(hook, runner, batch=2):
    samples = runner.val_dataloader.dataset.samples
    hook.before_val_epoch(runner)
    for start in range(0, len(samples), batch):
        hook.after_val_iter(runner, start, None, samples[start : start + batch])
    hook.after_val_epoch(runner, {"coco/bbox_mAP": 0.5, "coco/segm_mAP": 0.25})


@pytest.mark.parametrize("masks", [True, False])
def test_data_samples_become_examples(tmp_path, masks):
    example = to_example(_sample(tmp_path, masks=masks))
    assert example.name == "a.png"
    assert example.image[0, 0].tolist() == [0, 0, 255], "RGB"
    assert len(example.truth) == 3
    assert example.truth.crowd.tolist() == [False, False, True]
    assert example.prediction.scores.tolist() == pytest.approx([0.9, 0.2])
    assert example.prediction.boxes.tolist() == [[4, 5, 20, 13], [4, 15, 20, 23]]
    if masks:
        assert example.truth.masks.shape == (3, 48, 64)
        assert example.prediction.masks[1].sum() == 8 * 16
    else:
        assert example.truth.masks is None
        assert example.prediction.masks is None


def test_nothing_there_and_nothing_found(tmp_path):
    example = to_example(_sample(tmp_path, truth=0, crowds=0, found=0))
    assert len(example.truth) == len(example.prediction) == 0


@pytest.mark.parametrize("masks", [True, False])
def test_draws_after_validation(tmp_path, masks):
    samples = [_sample(tmp_path, f"{i}.png", masks) for i in range(5)]
    runner = _runner(tmp_path, _Dataset(samples, filled={1, 3, 4}))
    scalars = tmp_path / "run" / "20260101_000000" / "vis_data" / "scalars.json"
    scalars.parent.mkdir(parents=True)
    scalars.write_text(json.dumps({"loss": 1.0, "step": 5}) + "\n")
    hook = DetectionFiguresHook(num_images=2, panel=100, columns=1)
    _validate(hook, runner)
    for name in ("predictions.png", "curves.png"):
        with Image.open(tmp_path / "run" / name) as picture:
            picture.load()


def test_images_with_objects_are_chosen_by_lot(tmp_path, monkeypatch):
    samples = [_sample(tmp_path, f"{i}.png") for i in range(8)]
    runner = _runner(tmp_path, _Dataset(samples, filled={1, 2, 5, 7}))
    kept = []
    monkeypatch.setattr(
        DetectionFiguresHook,
        "_draw_sheet",
        lambda self, *_: kept.append([s.img_path for s in self._samples]),
    )
    for seed in (0, 0, 1, 2, 3):
        _validate(DetectionFiguresHook(num_images=2, seed=seed), runner)
    assert kept[0] == kept[1]
    assert any(other != kept[0] for other in kept[2:])
    allowed = {samples[i].img_path for i in (1, 2, 5, 7)}
    assert all(len(paths) == 2 and set(paths) <= allowed for paths in kept)


def test_without_scalars_it_says_what_to_add(tmp_path, caplog):
    runner = _runner(tmp_path, _Dataset([_sample(tmp_path)], filled={0}))
    with caplog.at_level(logging.WARNING, logger="test_hooks"):
        _validate(DetectionFiguresHook(panel=100), runner)
    assert "LocalVisBackend" in caplog.text
    assert not (tmp_path / "run" / "curves.png").exists()


def _five_bands(height, width):
    """What a pipeline gives for 16-bit images of five bands; red is in the upper half."""
    image = torch.full((5, height, width), 300.0)
    image[2, : height // 2] = 3000
    return image


def test_pixels_are_those_that_the_network_got(tmp_path):
    """No file is there to be read; the input was enlarged, and padded on the right."""
    samples = [_sample(tmp_path, f"{i}.png") for i in range(2)]
    for sample in samples:
        (tmp_path / sample.img_path).unlink()
        sample.set_metainfo({"ori_shape": (48, 64), "scale_factor": (2.0, 2.0)})
    batch = {"inputs": [_five_bands(96, 160)] * 2, "data_samples": samples}
    runner = _runner(tmp_path, _Dataset(samples, filled={0, 1}))
    kept = []
    hook = DetectionFiguresHook(num_images=2, panel=100)
    draw = hook._draw
    hook._draw = lambda samples, *a, **k: (
        kept.extend(map(to_example, samples)) or draw(samples, *a, **k)
    )
    hook.before_val_epoch(runner)
    hook.after_val_iter(runner, 0, batch, samples)
    hook.after_val_epoch(runner, {})
    assert (tmp_path / "run" / "predictions.png").is_file()
    for example in kept:
        assert example.image.shape == (48, 64, 3)
        assert example.image[2, 2].tolist() == [255, 0, 0]
        assert example.image[45, 60].tolist() == [0, 0, 0]


@pytest.mark.parametrize("broken", ["pixels", "labels", "data set", "metainfo"])
def test_drawing_never_ends_a_run(tmp_path, caplog, broken):
    samples = [_sample(tmp_path, f"{i}.png") for i in range(4)]
    dataset = _Dataset(samples, filled={0, 1, 2, 3})
    if broken == "pixels":
        for sample in samples:
            (tmp_path / sample.img_path).unlink()
    elif broken == "labels":
        for sample in samples:
            sample.pred_instances.labels += 90
    elif broken == "data set":
        dataset.get_data_info = lambda index: {"filename": "a.png", "instances": [1]}
    else:
        dataset.metainfo = {}
    runner = _runner(tmp_path, dataset)
    hook = DetectionFiguresHook(num_images=2, panel=100)
    with caplog.at_level(logging.WARNING, logger="test_hooks"):
        _validate(hook, runner)
        _validate(hook, runner)
    assert not (tmp_path / "run" / "predictions.png").exists()
    said = [r.getMessage() for r in caplog.records if "Not drawn" in r.getMessage()]
    assert len(said) == 1, "once per kind, not at each validation"


def test_test_images_of_one_name_have_a_picture_each(tmp_path):
    from mmdet.visualization import DetLocalVisualizer

    samples = []
    for folder in ("x", "y", "y/z"):
        (tmp_path / folder).mkdir()
        samples.append(_sample(tmp_path / folder, "a.png" if folder != "y/z" else "b.png"))
    runner = _runner(tmp_path, _Dataset(samples, filled={0, 1, 2}))
    runner.timestamp, runner.iter = "now", 0
    Path(samples[2].img_path).unlink()  # nothing to draw on
    visualizer = DetLocalVisualizer.get_instance(f"pictures_{tmp_path.name}")
    visualizer.dataset_meta = {"classes": ("cat", "dog"), "palette": [(255, 0, 0), (0, 255, 0)]}
    runner.visualizer = visualizer
    Visualizer.get_instance(f"of another run_{tmp_path.name}")
    out = tmp_path / "out"
    kind = {"type": "mmeffvit.DetectionPicturesHook", "test_out_dir": str(out), "draw": True}
    hook = MMENGINE_HOOKS.build(kind)
    hook.before_run(runner)
    hook.before_test_epoch(runner)
    for sample in samples[2:] + samples[:2]:
        hook.after_test_iter(runner, 0, {}, [sample])
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*.png")) == [
        "x/a.png",
        "y/a.png",
    ]
    drawn = cv2.imread(str(out / "x" / "a.png"))
    assert drawn.shape == (48, 128, 3), "truth and prediction side by side"


def test_is_found_by_its_name():
    hook = MMENGINE_HOOKS.build({"type": "mmeffvit.DetectionFiguresHook", "num_images": 3})
    assert type(hook) is DetectionFiguresHook
    assert hook.num_images == 3


def test_wrong_arguments():
    with pytest.raises(ValueError, match="num_images is 0"):
        DetectionFiguresHook(num_images=0)
    with pytest.raises(ValueError, match="panel=8 must be at least 32"):
        DetectionFiguresHook(panel=8)
    with pytest.raises(TypeError, match="pannel"):
        DetectionFiguresHook(pannel=300)
