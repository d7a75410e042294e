"""Packing: where everything ends up, and that it is a copy."""

import numpy as np
import pytest
import torch
from mmengine.registry import TRANSFORMS

from tests.datasets.points.clouds import make_cloud


def pack(results, **kwargs):
    return TRANSFORMS.build({"type": "mmeffvit.PackPointInputs", **kwargs})(dict(results))


def test_features_are_in_the_order_of_their_keys():
    cloud = make_cloud(boxes=True)
    cloud["intensity"] = np.arange(400, dtype=np.float32)  # without its second axis as well
    packed = pack(cloud, feat_keys=("coord", "intensity", "color"))
    expected = np.column_stack((cloud["coord"], cloud["intensity"], cloud["color"]))
    assert packed["inputs"].keys() == {"points"}
    assert packed["inputs"]["points"].dtype == torch.float32
    assert (packed["inputs"]["points"].numpy() == expected).all()


def test_labels_boxes_and_meta_information():
    cloud = make_cloud(boxes=True)
    cloud.update(sample_idx=4, lidar_path="a.pth", secret=1)
    sample = pack(cloud)["data_samples"]
    assert sample.metainfo == {"sample_idx": 4, "lidar_path": "a.pth"}
    assert (sample.gt_pts_seg.pts_semantic_mask.numpy() == cloud["pts_semantic_mask"]).all()
    assert (sample.gt_pts_seg.pts_instance_mask.numpy() == np.arange(400)).all()
    assert "voxel_semantic_mask" not in sample.gt_pts_seg
    assert (sample.gt_instances_3d.bboxes_3d.numpy() == cloud["gt_bboxes_3d"]).all()
    assert sample.gt_instances_3d.labels_3d.tolist() == [2, 0]
    found = sample.eval_ann_info
    assert found.keys() == {"pts_semantic_mask", "gt_bboxes_3d", "gt_labels_3d"}
    for key, value in found.items():
        assert (value == cloud[key]).all()
        assert not np.shares_memory(value, cloud[key])
    sample.gt_instances_3d.bboxes_3d.zero_()
    assert cloud["gt_bboxes_3d"].any()


def test_what_the_data_set_says_of_the_truth_stays():
    cloud = make_cloud(boxes=True)
    truth = {"gt_bboxes_3d": np.zeros((1, 7))}
    sample = pack({**cloud, "eval_ann_info": truth})["data_samples"]
    assert len(sample.eval_ann_info["gt_bboxes_3d"]) == 1
    assert truth.keys() == {"gt_bboxes_3d"}, "the data set's own dict was written to"


def test_voxels_have_labels_of_their_own():
    cloud = make_cloud()
    grid = TRANSFORMS.build({"type": "mmeffvit.GridSample", "voxel_size": 0.3, "mode": "val"})
    voxels = grid(dict(cloud))
    packed = pack(voxels)
    sample, labels = packed["data_samples"], packed["data_samples"].gt_pts_seg
    number = len(voxels["coord"])
    assert number < 400
    assert packed["inputs"]["points"].shape == (number, 6)
    assert (packed["inputs"]["coors"].numpy() == voxels["grid_coord"]).all()
    assert (labels.voxel_semantic_mask.numpy() == voxels["pts_semantic_mask"]).all()
    assert (labels.pts_semantic_mask.numpy() == cloud["pts_semantic_mask"]).all()
    assert (sample.eval_ann_info["pts_semantic_mask"] == cloud["pts_semantic_mask"]).all()
    assert (sample.point2voxel_map.numpy() == voxels["point2voxel_map"]).all()
    assert "pts_instance_mask" not in labels, "those left are of voxels, not of raw points"


def test_clouds_without_labels():
    sample = pack({"coord": np.ones((3, 3), np.float32)}, feat_keys=["coord"])["data_samples"]
    assert "gt_pts_seg" not in sample
    assert "gt_instances_3d" not in sample
    assert sample.eval_ann_info == {}


def test_errors():
    cloud = make_cloud()
    with pytest.raises(KeyError, match=r"asks for \['time'\].*\(a\.pth\)"):
        pack({**cloud, "lidar_path": "a.pth"}, feat_keys=("coord", "time"))
    with pytest.raises(ValueError, match="one length"):
        pack({**cloud, "color": cloud["color"][1:]})
    with pytest.raises(ValueError, match="no points left"):
        pack({key: value[:0] for key, value in cloud.items()})
    with pytest.raises(ValueError, match="begin with 'coord'"):
        pack(cloud, feat_keys=("color", "coord"))
