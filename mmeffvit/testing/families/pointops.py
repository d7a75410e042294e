"""Golden file of the point operators alone: no network."""

from __future__ import annotations

import torch
from torch import Tensor

from mmeffvit.ops import points
from mmeffvit.testing.families.base import GoldenFamily


def check(meta: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """All outputs of the file by name."""
    return {
        **_neighbours(tensors),
        **_clusters(tensors),
        **_convolutions(tensors),
        **_voxels(tensors),
        "op/segment_softmax/out": _segment_softmax(tensors),
    }


def _neighbours(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    xyz, offset, new_xyz, new_offset = (
        tensors[f"op/knn/in/{name}"] for name in ("xyz", "offset", "new_xyz", "new_offset")
    )
    index, distance = points.knn(xyz, offset, new_xyz, new_offset, int(tensors["op/knn/k"]))
    nearest = points.knn(xyz, offset, new_xyz, new_offset, 3)
    return {
        "op/knn/out_idx": index,
        "op/knn/out_dist": distance,
        "op/interpolate/out": points.interpolate(tensors["op/interpolate/in/feat"], *nearest),
        "op/fps/out_idx": points.furthest_point_sampling(xyz, offset, tensors["op/fps/new_offset"]),
    }


def _clusters(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    xyz, size = tensors["op/knn/in/xyz"], tensors["op/grid_cluster/size"]
    batch, outputs = tensors["op/grid_cluster/batch"], {}
    for name, start in (("zero", 0.0), ("min", xyz.amin(0)), ("none", None)):
        clusters = points.grid_cluster(xyz, size, batch, start)
        prefix = f"op/grid_cluster/start_{name}"
        outputs[f"{prefix}/inverse"] = clusters.inverse
        outputs[f"{prefix}/counts"] = clusters.counts
        # torch_cluster numbers cells by their place in the grid, x fastest
        cells = clusters.rows[:, [1, 2, 3, 0]]
        strides = torch.cat((cells.new_ones(1), (cells[:, :3].amax(0) + 1).cumprod(0)))
        outputs[f"{prefix}/raw"] = (cells * strides).sum(1)[clusters.inverse]
    return outputs


def _convolutions(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    feat = tensors["op/subm/in/feat"]
    neighbours = points.sparse_neighbours(tensors["op/subm/in/indices"])
    dense, depthwise, pointwise = (
        tensors[f"op/subm/{name}/weight_krsc"] for name in ("dense3", "depthwise3", "k1")
    )
    return {
        "op/subm/dense3/out": points.submanifold_conv3d(feat, dense, neighbours),
        "op/subm/depthwise3/out": points.depthwise_submanifold_conv3d(feat, depthwise, neighbours),
        "op/subm/k1/out": feat @ pointwise.reshape(feat.shape[1], -1),
    }


def _voxels(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    cloud = tensors["op/voxelize/in/points"]
    grid = (tensors["op/voxelize/voxel_size"].tolist(), tensors["op/voxelize/range"].tolist())
    clamped = points.dynamic_voxelize(cloud, *grid, out_of_range="clamp")
    marked = points.dynamic_voxelize(cloud, *grid, out_of_range="mark")
    highest, groups = points.dynamic_scatter(cloud, clamped, "max")
    return {
        "op/voxelize/out_clamped_zyx": clamped,
        "op/voxelize/out_of_range": (marked < 0).any(1),
        "op/dynamic_scatter/out_coords_zyx": groups.rows,
        "op/dynamic_scatter/point2voxel": groups.inverse,
        "op/dynamic_scatter/counts": groups.counts,
        "op/dynamic_scatter/out_max": highest,
        "op/dynamic_scatter/out_mean": points.dynamic_scatter(cloud, clamped, "mean", groups)[0],
    }


def _segment_softmax(tensors: dict[str, Tensor]) -> Tensor:
    indptr = tensors["op/segment_softmax/in/indptr"].long()
    index = points.offsets_to_index(indptr)
    return points.segment_softmax(tensors["op/segment_softmax/in/src"], index, len(indptr) - 1)


class PointOpsGolden(GoldenFamily):
    family = "pointops"
    system = "stand-alone point-cloud ops"
    tolerance = 1e-5

    def outputs(self, meta: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return check(meta, tensors)
