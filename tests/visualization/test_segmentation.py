"""Pictures of label maps, and the hooks that draw them from mmseg's data samples."""

import json
import logging
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from PIL import Image

from mmeffvit.visualization import (
    LabelledExample,
    draw_label_maps,
    draw_labels,
    draw_segmentation_sheet,
)
from mmeffvit.visualization import segmentation as module
from mmeffvit.visualization.hooks import (
    SegmentationFiguresHook,
    SegmentationPicturesHook,
    to_labelled_example,
)

CLASSES = ("cat", "dog", "ground")
PALETTE = [[255, 0, 0], [0, 255, 0], [0, 0, 200]]


def _labels(height=40, width=60):
    labels = np.full((height, width), 2)
    labels[: height // 2, : width // 2] = 0
    labels[height // 2 :, width // 2 :] = 1
    return labels


def _image(height=40, width=60):
    return np.full((height, width, 3), 100, np.uint8)


@pytest.mark.parametrize("size", [None, (60, 40), (150, 100), (30, 20)])
def test_every_class_has_its_colour_at_any_size(size):
    picture = draw_labels(_image(), _labels(), PALETTE, size)
    assert picture.size == (size or (60, 40))
    pixels = np.asarray(picture, float)
    scale = picture.width / 60
    for (y, x), label in (((10, 10), 0), ((30, 45), 1), ((10, 45), 2)):
        expected = (1 - module._OPACITY) * 100 + module._OPACITY * np.array(PALETTE[label])
        assert np.abs(pixels[int(y * scale), int(x * scale)] - expected).max() <= 1
    # a dark line where classes meet
    y, x = int(10 * scale), int(30 * scale)
    assert pixels[y, x - 1 : x + 1].sum(-1).min() < 0.7 * pixels[y, int(10 * scale)].sum()


def test_what_is_not_labelled_is_hatched():
    labels = _labels()
    labels[:10] = 255
    pixels = np.asarray(draw_labels(_image(), labels, PALETTE), int)[:9]
    assert np.ptp(pixels, axis=-1).max() <= 1, "grey"
    assert pixels.min() < 130 < 180 < pixels.max(), "stripes"


def test_legend_names_what_is_there():
    labels = _labels()
    labels[labels == 1] = 255
    names = [name for _, name in module.make_legend([labels], CLASSES, PALETTE)]
    assert names == ["cat", "ground", "hatched: not labelled"]


def test_maps_side_by_side():
    one = draw_label_maps(_image(), {"Prediction": _labels()}, CLASSES, PALETTE)
    two = draw_label_maps(_image(), {"a": _labels(), "b": _labels()}, CLASSES, PALETTE)
    left = (one.width - 60) // 2
    expected = np.asarray(draw_labels(_image(), _labels(), PALETTE))
    assert (np.asarray(one)[:40, left : left + 60] == expected).all()
    left = (two.width - 128) // 2
    for x in (left, left + 68):
        assert (np.asarray(two)[24:64, x : x + 60] == expected).all()


def test_captions_count_labelled_pixels_only():
    truth, found = _labels(), _labels()
    truth[:, -30:] = 255  # only cat above ground is left, 600 pixels each
    found[0, :30] = 2
    verdict = module.verdict(truth, found, 3)
    assert verdict == "mean IoU 0.95 · 97.5% of pixels right"  # (570 / 600 + 600 / 630) / 2
    truth[:] = 255
    assert module.verdict(truth, found, 3) == "nothing labelled"


def test_sheet_holds_image_truth_and_prediction():
    example = LabelledExample(_image(120, 120), _labels(120, 120), _labels(120, 120), "a.jpg")
    sheet = draw_segmentation_sheet([example] * 3, CLASSES, PALETTE, panel=120, columns=2)
    pixels = np.asarray(sheet)
    top, left = 114, 28
    assert (pixels[top : top + 120, left : left + 120] == 100).all()
    overlay = np.asarray(draw_labels(example.image, example.truth, PALETTE))
    for column in (1, 2):
        x = left + 128 * column
        assert (pixels[top : top + 120, x : x + 120] == overlay).all()


def _sample(folder, name="a.png", with_truth=True):
    cv2.imwrite(str(folder / name), np.full((40, 60, 3), (255, 0, 0), np.uint8))
    sample = SegDataSample(metainfo={"img_path": str(folder / name)})
    labels = torch.from_numpy(_labels())[None]
    sample.pred_sem_seg = PixelData(data=labels)
    if with_truth:
        sample.gt_sem_seg = PixelData(data=labels.to(torch.uint8))
    return sample


class _Dataset:
    metainfo = {"classes": CLASSES, "palette": PALETTE}  # noqa: RUF012

    def __init__(self, samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def get_data_info(self, index):
        return {"img_path": self.samples[index].img_path}


def _runner(folder, samples):
    dataloader = SimpleNamespace(dataset=_Dataset(samples))
    return SimpleNamespace(
        work_dir=str(folder / "run"),
        val_dataloader=dataloader,
        test_dataloader=dataloader,
        experiment_name="fpn_20260101_000000",
        timestamp="20260101_000000",
        iter=7,
        _train_loop=object(),
        logger=logging.getLogger("test_segmentation"),
    )


def test_data_samples_become_examples(tmp_path):
    example = to_labelled_example(_sample(tmp_path))
    assert example.image[0, 0].tolist() == [0, 0, 255], "RGB"
    assert (example.truth == _labels()).all()
    assert (example.prediction == _labels()).all()
    assert (to_labelled_example(_sample(tmp_path, with_truth=False)).truth == 255).all()


def test_draws_after_validation(tmp_path, monkeypatch):
    headings = []
    draw = module.draw_segmentation_sheet
    monkeypatch.setattr(
        "mmeffvit.visualization.hooks.draw_segmentation_sheet",
        lambda *args, **kwargs: headings.append((len(args[0]), kwargs)) or draw(*args, **kwargs),
    )
    samples = [_sample(tmp_path, f"{i}.png") for i in range(5)]
    runner = _runner(tmp_path, samples)
    scalars = tmp_path / "run" / "20260101_000000" / "vis_data" / "scalars.json"
    scalars.parent.mkdir(parents=True)
    lines = [{"loss": 1.0, "decode.loss_ce": 1.0, "step": 5}, {"mIoU": 81.25, "step": 5}]
    scalars.write_text("\n".join(map(json.dumps, lines)) + "\n")
    hook = SegmentationFiguresHook(num_images=2, panel=100, columns=1)
    hook.before_val_epoch(runner)
    for sample in samples:
        hook.after_val_iter(runner, 0, None, [sample])
    hook.after_val_epoch(runner, {"mIoU": 81.25})
    ((count, texts),) = headings
    assert count == 2
    assert texts["title"] == "fpn"
    assert texts["subtitle"] == "validation after 7 training iterations  ·  mIoU 0.812"
    for name in ("predictions.png", "curves.png"):
        with Image.open(tmp_path / "run" / name) as picture:
            picture.load()


def test_a_picture_per_test_image(tmp_path):
    samples = [_sample(tmp_path, "a.png"), _sample(tmp_path, "b.jpg", with_truth=False)]
    SegmentationPicturesHook(str(tmp_path / "out")).after_test_iter(
        _runner(tmp_path, samples), 0, None, samples
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.png"]
    with Image.open(tmp_path / "out" / "a.png") as two, Image.open(tmp_path / "out/b.png") as one:
        assert two.height > one.height


def test_sigmoid_heads_and_palettes_that_are_not_there(tmp_path):
    sample = _sample(tmp_path, "a.png")
    sample.pred_sem_seg = PixelData(data=(sample.pred_sem_seg.data > 0).float())
    assert to_labelled_example(sample).prediction.dtype == np.int64
    runner = _runner(tmp_path, [sample])
    runner.test_dataloader.dataset.metainfo = {"classes": CLASSES}
    hook = SegmentationPicturesHook(str(tmp_path / "out"))
    hook.before_test_epoch(runner)
    hook.after_test_iter(runner, 0, None, [sample])
    assert (tmp_path / "out" / "a.png").is_file()


def test_pictures_of_sub_folders_are_kept_apart(tmp_path):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
    samples = [_sample(tmp_path / folder, "a.png") for folder in ("x", "y")]
    samples += [_sample(tmp_path / "y", "b.png")]
    runner = _runner(tmp_path, samples)
    hook = SegmentationPicturesHook(str(tmp_path / "out"))
    hook.before_test_epoch(runner)
    hook.after_test_iter(runner, 0, None, samples)
    found = sorted(
        p.relative_to(tmp_path / "out").as_posix() for p in tmp_path.rglob("out/**/*.png")
    )
    assert found == ["b.png", "x/a.png", "y/a.png"]
