"""train.py, test.py and predict.py with a config of mmseg, on digits in ADE20K's layout."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmeffvit.demo_data.digits import ensure_digits
from mmeffvit.engine.errors import LaunchError
from tests.engine import toy
from tests.tools import runs

# The recipe of RMT on ADE20K with its augmentation, at a size for tests: four iterations.
CONFIG = f"""
_base_ = {str(runs.ROOT / "configs/rmt/fpn_rmt-t_8xb2-80k_ade20k-512x512.py")!r}

custom_imports = dict(imports=['tests.engine.toy'])
norm_cfg = dict(type='BN')
model = dict(
    data_preprocessor=dict(size=(64, 64)),
    backbone=dict(
        arch=dict(
            _delete_=True,
            embed_dims=(16, 16, 32, 32),
            depths=(1, 1, 1, 1),
            num_heads=(1, 1, 2, 2),
            mlp_ratios=(2, 2, 2, 2),
            decay_inits=(2, 2, 2, 2),
            decay_ranges=(4, 4, 6, 6),
            decomposed=(True, True, False, False),
            layer_scale=(None, None, None, None),
        ),
        drop_path_rate=0.2,
    ),
    neck=dict(in_channels=[16, 16, 32, 32], out_channels=16),
    decode_head=dict(in_channels=[16] * 4, channels=16, norm_cfg=norm_cfg))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(128, 64), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(64, 64), cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(128, 64), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
train_cfg = dict(max_iters=4, val_interval=2)
optim_wrapper = dict(optimizer=dict(lr=0.01))
param_scheduler = [dict(type='PolyLR', power=0.9, by_epoch=False, begin=0, end=4)]
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=1))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "ADEChallengeData2016"
    ensure_digits(
        folder, num_train=6, num_val=2, image_size=96, max_digits=3, layout="ade20k", workers=1
    )
    return folder


def write_config(folder, extra=""):
    path = folder / "tiny.py"
    path.write_text(CONFIG + extra)
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data):
    """Config and checkpoint of a run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    config = write_config(folder)
    with runs.main("train.py") as main:
        main(config, "--work-dir", folder, "--data-root", data)
    return config, folder / "iter_4.pth"


@pytest.mark.slow
def test_interrupted_and_resumed_ends_as_if_not(whole, data, tmp_path, capfd):
    """Interrupted after a validation: the order of the samples and their augmentation go on."""
    arguments = ("--work-dir", tmp_path / "run", "--data-root", data)
    with runs.main("train.py") as main:
        with pytest.raises(toy.CrashError):
            main(
                write_config(tmp_path, "custom_hooks = [dict(type='CrashHook', at=2)]\n"),
                *arguments,
            )
        assert re.search(r"Iter\(val\) .* mIoU: \d", capfd.readouterr().out)
        left = sorted(path.name for path in (tmp_path / "run").glob("*.pth"))
        assert left == ["iter_1.pth", "iter_2.pth"]
        main(write_config(tmp_path), *arguments, "--resume")
    one, two = (
        torch.load(path, weights_only=True) for path in (whole[1], tmp_path / "run" / "iter_4.pth")
    )
    assert one["meta"]["iter"] == two["meta"]["iter"] == 4
    for key, value in one["state_dict"].items():
        assert torch.equal(value, two["state_dict"][key]), key


def _labels(folder):
    return {path.stem: np.asarray(Image.open(path)) for path in sorted(Path(folder).iterdir())}


@pytest.mark.slow
def test_miou_of_an_image_and_its_mirror_image(whole, data, tmp_path, capfd):
    with runs.main("test.py") as main:
        main(*whole, "--work-dir", tmp_path, "--data-root", data, "--tta")
    assert re.search(r"Iter\(test\) .* aAcc: [\d.]+  mIoU: [\d.]+", capfd.readouterr().out)


@pytest.mark.slow
def test_miou_pictures_and_label_maps(whole, data, tmp_path, capfd):
    images = data / "images" / "validation"
    with runs.main("test.py") as main:
        main(
            *(*whole, "--work-dir", tmp_path / "work", "--data-root", data),
            *("--show-dir", tmp_path / "pictures", "--out", tmp_path / "maps"),
        )
    assert re.search(r"Iter\(test\) .* aAcc: [\d.]+  mIoU: [\d.]+", capfd.readouterr().out)
    maps = _labels(tmp_path / "maps")
    names = [path.stem for path in sorted(images.iterdir())]
    assert list(maps) == names
    assert [path.stem for path in sorted((tmp_path / "pictures").iterdir())] == names
    for labels in maps.values():
        assert labels.shape == (96, 96)
        assert labels.min() >= 1, "0 is not a class of ADE20K"

    # the same images without their annotations
    with runs.main("predict.py") as main:
        main(*whole, images, "--out", tmp_path / "predicted", "--batch-size", 2)
    predicted = _labels(tmp_path / "predicted" / "labels")
    assert list(predicted) == names
    for name, labels in maps.items():
        assert (predicted[name] == labels).all()
    (wall, *others) = json.loads((tmp_path / "predicted" / "classes.json").read_text())
    assert (wall["label"], wall["name"], len(others)) == (1, "wall", 149)
    assert "[2/2]" in capfd.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(("side", "stride", "windows"), [(64, 64, 1), (48, 32, 4)])
def test_sliding_windows(whole, data, tmp_path, monkeypatch, side, stride, windows):
    """A window as large as the image is the whole image; smaller ones cover it."""
    from mmseg.models import EncoderDecoder

    shapes = []
    encode = EncoderDecoder.encode_decode

    def noting(self, inputs, metas):
        shapes.append(tuple(inputs.shape[2:]))
        return encode(self, inputs, metas)

    monkeypatch.setattr(EncoderDecoder, "encode_decode", noting)
    image = next((data / "images" / "validation").iterdir())
    options = [f"model.test_cfg.{o}" for o in ("mode=slide", f"crop_size=({side},{side})")]
    options.append(f"model.test_cfg.stride=({stride},{stride})")
    with runs.main("predict.py") as main:
        main(*whole, image, "--out", tmp_path / "whole")
        main(*whole, image, "--out", tmp_path / "slide", "--cfg-options", *options)
    assert shapes == [(64, 64)] + [(side, side)] * windows
    (one,), (two,) = (_labels(tmp_path / n / "labels").values() for n in ("whole", "slide"))
    assert one.shape == two.shape == (96, 96)
    if windows == 1:
        assert (one == two).all()


def test_unreadable_images_are_listed(whole, data, tmp_path, capfd):
    broken = tmp_path / "images" / "broken.jpg"
    broken.parent.mkdir()
    broken.write_bytes(b"no image")
    good = next((data / "images" / "validation").iterdir())
    with runs.main("predict.py") as main, pytest.raises(SystemExit) as error:
        main(*whole, broken, good, "--out", tmp_path / "out")
    assert error.value.code == 1
    said = capfd.readouterr()
    assert f"skipped: cannot read the image {broken}" in said.err
    assert said.err.rstrip().endswith(f"1 image could not be read:\n  {broken}")
    assert "about 0 s left" in said.out
    assert [path.stem for path in (tmp_path / "out" / "labels").rglob("*.png")] == [good.stem]


def test_missing_data_names_the_layout(whole, tmp_path):
    with (
        runs.main("train.py") as main,
        pytest.raises(LaunchError, match=r"image folder .*images/training is missing.*ade20k"),
    ):
        main(whole[0], "--data-root", tmp_path / "nowhere", "--work-dir", tmp_path)
