"""The demos of point clouds from end to end, as `make demo-points` runs them, in two steps."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.tools import runs

LOADERS = ("train", "val", "test")
CONFIGS = {
    # what it inherits is that of condaformer_rooms_demo.py
    "condaformer_hybrid_rooms_demo": ("mIoU", 2),
    "flatformer_sweeps_demo": ("AP_bev", 2),
}


def options(num_val):
    made = [
        f"{name}_dataloader.dataset.make.{key}={value}"
        for name in LOADERS
        # one room for each area
        for key, value in (("num_train", 5), ("num_val", num_val), ("seed", 0))
    ]
    steps = ["train_cfg.max_iters=2", "train_cfg.val_interval=2", "default_hooks.logger.interval=1"]
    return ["--cfg-options", *made, *steps]


@pytest.fixture(scope="module", params=CONFIGS)
def demo(request, tmp_path_factory):
    root = tmp_path_factory.mktemp(request.param)
    config = runs.ROOT / "configs" / "demo" / f"{request.param}.py"
    metric, num_val = CONFIGS[request.param]
    arguments = [config, "--data-root", root / "data", "--work-dir", root / "run"]
    with runs.main("train.py") as train:
        train(*arguments, *options(num_val))
    return root, config, metric, options(num_val)


def scalars(folder):
    (path,) = folder.glob("*/vis_data/scalars.json")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_trains_measures_and_draws(demo):
    root, _, metric, _ = demo
    records = scalars(root / "run")
    losses = [record["loss"] for record in records if "loss" in record]
    assert len(losses) == 2
    assert all(0 < loss < 1000 for loss in losses)
    (measured,) = [record[metric] for record in records if metric in record]
    assert 0 <= measured <= 1
    for name in ("predictions.png", "curves.png"):
        with Image.open(root / "run" / name) as picture:
            assert min(picture.size) > 300
            assert len(picture.convert("RGB").getcolors(10**6)) > 50


@pytest.fixture(scope="module")
def tested(demo):
    """Predictions of a test of the last checkpoint."""
    root, config, _, opts = demo
    with runs.main("test.py") as test:
        test(
            config,
            root / "run" / "iter_2.pth",
            "--data-root",
            root / "data",
            "--work-dir",
            root / "test",
            "--out",
            root / "tested.pkl",
            *opts,
        )
    return pickle.loads((root / "tested.pkl").read_bytes())


def test_testing_gives_the_same(demo, tested):
    root, _, metric, _ = demo
    assert len(tested) == 2
    (scores,) = root.glob("test/*/*.json")
    trained = [record for record in scalars(root / "run") if metric in record]
    assert json.loads(scores.read_text())[metric] == pytest.approx(trained[0][metric], abs=1e-6)


def test_predicts_what_a_test_finds(demo, tested):
    """The same clouds without their labels, given as files."""
    root, config, *_ = demo
    paths = [sample["lidar_path"] for sample in tested]
    out = root / "predicted"
    with runs.main("predict.py") as predict:
        predict(config, root / "run" / "iter_2.pth", *paths, "--out", out, "--score-thr", 0)
    assert len(list(out.glob("pictures/*.png"))) == 2
    if "rooms" in config.name:
        for sample in tested:
            labels = np.load(out / "labels" / f"{Path(sample['lidar_path']).stem}.npy")
            np.testing.assert_array_equal(labels, sample["pred_pts_seg"]["pts_semantic_mask"])
        return
    written = json.loads((out / "predictions.json").read_text())
    for sample, sweep in zip(tested, written):
        boxes = np.array([found["box"] for found in sweep["objects"]])
        expected = sample["pred_instances_3d"]
        best = np.argsort(-expected["scores_3d"].numpy(), kind="stable")
        np.testing.assert_allclose(boxes, expected["bboxes_3d"].numpy()[best], atol=1e-4)


def test_configs_of_rooms_differ_in_mixers_only():
    from mmeffvit.engine.launch import load_config

    plain, hybrid = (
        load_config(str(runs.ROOT / f"configs/demo/condaformer_{name}demo.py"))
        for name in ("rooms_", "hybrid_rooms_")
    )
    mixers = hybrid.model.backbone.pop("mixer")
    assert hybrid.model == plain.model
    assert {mixer.type for mixer in mixers} == {
        "mmeffvit.TriPlaneMixer",
        "mmeffvit.PointRALAMixer",
        "mmeffvit.PointSECMixer",
    }
    arch = plain.model.backbone.arch
    assert mixers[0].window_size == arch.window_size
    assert hybrid.train_dataloader == plain.train_dataloader
