"""build_object_database.py, train.py and test.py on sweeps in KITTI's folders."""

import pickle
import re

import numpy as np
import pytest
from safetensors.torch import load_file

from mmeffvit.engine.errors import LaunchError
from tests.tools import runs

# FlatFormer's recipe on KITTI at a size for tests: two epochs of two iterations.
CONFIG = f"""
_base_ = [
    {str(runs.ROOT / "configs/_base_/datasets/kitti_sweeps.py")!r},
    {str(runs.ROOT / "configs/_base_/default_runtime_points.py")!r},
]
point_cloud_range = [0, -8, -3, 16, 8, 1]
voxel_size = [1, 1, 4]
arch = dict(
    embed_dims=16, num_heads=2, num_blocks=1, mlp_ratio=2, group_size=8, window_size=(4, 4),
    grid_size=(16, 16))
model = dict(
    type='mmeffvit.PointDetector',
    data_preprocessor=dict(
        type='mmeffvit.PointDataPreprocessor',
        voxel_type='dynamic',
        voxel_layer=dict(voxel_size=voxel_size, point_cloud_range=point_cloud_range)),
    voxel_encoder=dict(
        type='mmeffvit.DynamicVFE', in_channels=4, feat_channels=(16, 16), voxel_size=voxel_size,
        point_cloud_range=point_cloud_range),
    middle_encoder=dict(type='mmeffvit.FlatFormer', arch=arch),
    backbone=dict(
        type='mmeffvit.SECOND', in_channels=16, out_channels=(16,), layer_nums=(1,),
        layer_strides=(1,)),
    neck=dict(
        type='mmeffvit.SECONDFPN', in_channels=(16,), out_channels=(16,), upsample_strides=(1,)),
    bbox_head=dict(
        type='mmeffvit.CenterHead', in_channels=16, share_channels=16, head_channels=16,
        voxel_size=voxel_size[:2], point_cloud_range=point_cloud_range[:2]))

train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False)
val_dataloader = dict(num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=2, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3), clip_grad=dict(max_norm=10))
param_scheduler = [
    dict(type='OneCycleLR', eta_max=1e-3, total_steps=4, by_epoch=False)]
default_hooks = dict(logger=dict(interval=1))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Four sweeps to train on and two to validate; cars ahead and people to the left."""
    root = tmp_path_factory.mktemp("kitti")
    for folder in ("ImageSets", "training/velodyne", "training/label_2", "training/calib"):
        (root / folder).mkdir(parents=True)
    (root / "ImageSets/train.txt").write_text("0\n1\n2\n3\n")
    (root / "ImageSets/val.txt").write_text("4\n5\n")
    random = np.random.default_rng(0)
    for name in range(6):
        ahead = random.uniform(6, 10)
        points = random.uniform((0, -8, -1.7), (16, 8, -1.6), (300, 3))
        car = random.uniform((-2, -0.9, -0.7), (2, 0.9, 0.7), (40, 3)) + (ahead, 0, -0.9)
        walker = random.uniform(-0.3, 0.3, (20, 3)) + (ahead, 4, -0.8)
        points = np.concatenate((points, car, walker)).astype(np.float32)
        points = np.append(points, np.full((len(points), 1), 0.5, np.float32), axis=1)
        points.tofile(root / f"training/velodyne/{name}.bin")
        (root / f"training/label_2/{name}.txt").write_text(
            f"Car 0 0 0 100 100 200 160 1.5 1.8 4.2 0 1.65 {ahead} -1.5707963\n"
            f"Pedestrian 0 0 0 100 100 200 160 1.7 0.7 0.7 -4 1.65 {ahead} 0\n"
        )
        (root / f"training/calib/{name}.txt").write_text(
            "P2: 700 0 600 0 0 700 180 0 0 0 1 0\nR0_rect: 1 0 0 0 1 0 0 0 1\n"
            "Tr_velo_to_cam: 0 -1 0 0 0 0 -1 0 1 0 0 0\n"
        )
    return root


def write_config(folder):
    path = folder / "tiny.py"
    path.write_text(CONFIG)
    return str(path)


def test_database_training_and_testing(data, tmp_path, capsys):
    config, root = write_config(tmp_path), ["--data-root", data]
    with runs.main("train.py") as train, pytest.raises(LaunchError, match="object database"):
        train(config, *root, "--work-dir", tmp_path / "run")
    with runs.main("build_object_database.py") as build:
        build(config, *root)
    database = data / "kitti_objects_train.safetensors"
    assert f"{database}: 8 objects" in capsys.readouterr().out
    # points that the camera sees; those for testing are not among them
    tensors = load_file(database)
    assert sorted(tensors["labels"].tolist()) == [0] * 4 + [2] * 4
    assert (tensors["points.coord"][:, 1].abs() < 5).all()

    with runs.main("train.py") as train:
        train(config, *root, "--work-dir", tmp_path / "run")
    log = next((tmp_path / "run").rglob("*.log")).read_text()
    assert re.search(r"Car +\d+\.\d+% +\d+\.\d+% +2 +\d+\n", log)
    assert re.search(r"Cyclist +- +- +0 +\d+\n", log)
    assert re.search(r"Epoch\(val\) \[2\]\[2/2\] +AP_3d: \d\.\d+ +AP_bev: \d\.\d+", log)
    assert "Failed to search registry" not in log

    with runs.main("test.py") as test:
        out = tmp_path / "predictions.pkl"
        test(config, tmp_path / "run/epoch_2.pth", *root, "--work-dir", tmp_path, "--out", out)
        with pytest.raises(LaunchError, match=r"leaves predictions.png .*PointDetFiguresHook"):
            test(config, tmp_path / "run/epoch_2.pth", *root, "--show-dir", tmp_path / "show")
    predictions = pickle.loads(out.read_bytes())
    assert len(predictions) == 2
    found = predictions[0]["pred_instances_3d"]
    assert found["bboxes_3d"].shape == (len(found["scores_3d"]), 9)  # with velocities


def test_configs_that_paste_nothing(data, tmp_path):
    config = write_config(tmp_path)
    options = ["--cfg-options", "train_dataloader.dataset.pipeline.2.type=mmeffvit.PointShuffle"]
    with runs.main("build_object_database.py") as build, pytest.raises(LaunchError) as error:
        build(config, *options)
    assert "pipeline for training has no ObjectSample, only LoadPoints" in str(error.value)
