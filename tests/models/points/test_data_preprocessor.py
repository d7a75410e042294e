import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate

from mmeffvit.models.points import PointData, PointDataPreprocessor, PointDataSample
from mmeffvit.registry import MODELS

from .tiny import DETECTOR, room, sweep

SIZE = {"voxel_size": (0.1, 0.1, 0.1)}


def preprocessor(**kwargs):
    return PointDataPreprocessor(**{"voxel_layer": SIZE, **kwargs})


def minkunet_in_numpy(points, size):
    """mmdet3d's: rounded, counted from the lowest, the first point of each in their order."""
    coors = np.round(points[:, :3] / np.float32(size)).astype(np.int64)
    coors -= coors.min(0)
    sides = coors.max(0) + 1
    keys = (coors[:, 0] * sides[1] + coors[:, 1]) * sides[2] + coors[:, 2]
    _, rows, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return coors[rows], rows, inverse


class TestMinkunet:
    def test_equals_the_definition(self):
        batch = pseudo_collate([room(300, seed=1), room(120, seed=2)])
        points = [p.numpy().copy() for p in batch["inputs"]["points"]]
        data = preprocessor()(batch)
        voxels, coors = data["inputs"]["voxels"].values()
        assert coors.dtype == torch.int64
        assert [p.shape for p in data["inputs"]["points"]] == [(300, 6), (120, 6)]
        start = 0
        for index, sample in enumerate(data["data_samples"]):
            expected, rows, inverse = minkunet_in_numpy(points[index], 0.1)
            own = slice(start, start + len(rows))
            start += len(rows)
            assert (coors[own, 0] == index).all()
            np.testing.assert_array_equal(coors[own, 1:], expected)
            np.testing.assert_array_equal(voxels[own], points[index][rows])
            np.testing.assert_array_equal(sample.point2voxel_map, inverse)
            assert sample.batch_idx.tolist() == [index] * len(rows)
            labels = sample.gt_pts_seg
            np.testing.assert_array_equal(
                labels.voxel_semantic_mask, labels.pts_semantic_mask[rows]
            )
        assert start == len(coors)

    def test_sample_last(self):
        first = preprocessor()(pseudo_collate([room(50)] * 2))
        last = preprocessor(batch_first=False)(pseudo_collate([room(50)] * 2))
        first, last = (data["inputs"]["voxels"]["coors"] for data in (first, last))
        assert torch.equal(first[:, [1, 2, 3, 0]], last)

    def test_voxels_of_the_pipeline_are_taken_as_they_are(self):
        sample = PointDataSample(
            gt_pts_seg=PointData(voxel_semantic_mask=torch.tensor([2, 255])),
            point2voxel_map=torch.tensor([1, 0, 0]),
        )
        points, coors = torch.rand(2, 6), torch.tensor([[5, 1, 2], [3, 0, 9]])
        one = {"inputs": {"points": points, "coors": coors}, "data_samples": sample}
        data = preprocessor()(pseudo_collate([one, one]))
        voxels = data["inputs"]["voxels"]
        assert voxels["coors"][2:].tolist() == [[1, 5, 1, 2], [1, 3, 0, 9]]
        assert torch.equal(voxels["voxels"][:2], points)
        assert data["data_samples"][0].point2voxel_map.tolist() == [1, 0, 0]
        assert data["data_samples"][0].gt_pts_seg.voxel_semantic_mask.tolist() == [2, 255]

    def test_most_voxels_of_a_sample_while_training(self):
        limited = preprocessor(max_voxels=40)
        data = limited(pseudo_collate([room(300), room(20)]), training=True)
        coors = data["inputs"]["voxels"]["coors"]
        few, all_of_it = data["data_samples"]
        assert torch.bincount(coors[:, 0]).tolist()[0] == 40
        assert len(few.gt_pts_seg.voxel_semantic_mask) == len(few.batch_idx) == 40
        assert "point2voxel_map" not in few
        assert "point2voxel_map" in all_of_it
        # labels follow their voxels: they are the height
        labels = (data["inputs"]["voxels"]["voxels"][:40, 2] * 4).long()
        assert torch.equal(labels, few.gt_pts_seg.voxel_semantic_mask)
        data = limited(pseudo_collate([room(300)]), training=False)
        assert len(data["inputs"]["voxels"]["coors"]) > 40

    def test_without_samples(self):
        data = preprocessor()({"inputs": {"points": [torch.rand(9, 6)]}})
        (sample,) = data["data_samples"]
        assert len(sample.point2voxel_map) == 9
        assert "gt_pts_seg" not in sample

    @pytest.mark.parametrize(
        ("points", "message"),
        [
            (torch.rand(0, 6), "sample 1 of the batch has no points"),
            (torch.rand(4, 2), r"sample 1 .* the shape \(4, 2\)"),
            (torch.full((4, 6), torch.nan), "sample 1 .* NaN or infinite numbers in 4 of 4 rows"),
            (torch.rand(4, 6) + torch.inf, "sample 1 .* NaN or infinite"),
            (torch.rand(4, 6) + 1e6, r"1e\+06 m from the origin, .* voxels of 0.1 m .* mean"),
        ],
    )
    def test_bad_points(self, points, message):
        batch = {"inputs": {"points": [torch.rand(5, 6), points]}}
        with pytest.raises(ValueError, match=message):
            preprocessor()(batch)

    def test_coordinates_far_away_in_float64(self):
        points = torch.rand(40, 6, dtype=torch.float64)
        near = preprocessor()({"inputs": {"points": [points]}})["inputs"]["voxels"]["coors"]
        points[:, :3] += 1e6
        far = preprocessor()({"inputs": {"points": [points]}})["inputs"]["voxels"]["coors"]
        assert torch.equal(near, far)

    def test_coors_that_do_not_fit(self):
        inputs = {"points": [torch.rand(5, 6)], "coors": [torch.zeros(4, 3)]}
        with pytest.raises(ValueError, match=r"5 points and coors of the shape \(4, 3\)"):
            preprocessor()({"inputs": inputs})


class TestDynamic:
    def test_voxels_of_all_points(self):
        dynamic = MODELS.build(DETECTOR["data_preprocessor"])
        batch = pseudo_collate([sweep(7), sweep(5, seed=1)])
        batch["inputs"]["points"][0][:2, :3] = torch.tensor([[-5.0, 2.99, 0], [5.0, 0, 0]])
        data = dynamic(batch)
        voxels, coors = data["inputs"]["voxels"].values()
        assert torch.equal(voxels, torch.cat(data["inputs"]["points"]))
        assert coors[:2].tolist() == [[0, 0, 11, 0], [0, -1, -1, -1]]
        assert coors[:, 0].tolist() == [0] * 7 + [1] * 5
        place = (voxels[2:, :2] + torch.tensor([5.0, 3.0])) / 0.5
        assert torch.equal(coors[2:, 2:].flip(1), place.floor().long())

    def test_arguments(self):
        with pytest.raises(ValueError, match="one of minkunet, dynamic, got 'hard'"):
            preprocessor(voxel_type="hard")
        with pytest.raises(ValueError, match=r"needs point_cloud_range, voxel_size .* voxel_size$"):
            preprocessor(voxel_type="dynamic")
        with pytest.raises(ValueError, match="needs voxel_size in voxel_layer, got nothing"):
            PointDataPreprocessor()
        batch = pseudo_collate([sweep()])
        assert "voxels" not in PointDataPreprocessor(voxel=False)(batch)["inputs"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_same_on_a_gpu():
    batch = pseudo_collate([room(300, seed=1), room(120, seed=2)])
    expected = preprocessor()(batch)["inputs"]["voxels"]
    batch = pseudo_collate([room(300, seed=1), room(120, seed=2)])
    data = preprocessor().cuda()(batch)
    actual = data["inputs"]["voxels"]
    assert actual["coors"].is_cuda
    assert data["data_samples"][0].gt_pts_seg.voxel_semantic_mask.is_cuda
    for name in ("voxels", "coors"):
        assert torch.equal(actual[name].cpu(), expected[name])
