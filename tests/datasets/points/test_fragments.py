"""Fragments for voting: what each holds, that nothing is left out, and how they travel."""

import pickle

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import TRANSFORMS

from tests.datasets.points.clouds import make_cloud
from tests.datasets.points.test_sampling import voxels_by_loop

QUARTER = {
    "type": "mmeffvit.GlobalRotScaleTrans",
    "rot_range": (np.pi / 2, np.pi / 2),
    "scale_ratio_range": (2, 2),
}


def fragments_of(cloud, voxel_size=0.4, **kwargs):
    config = {"type": "mmeffvit.TestTimeFragments", "voxel_size": voxel_size, **kwargs}
    return TRANSFORMS.build(config)(dict(cloud))["fragments"]


def test_fragment_i_has_point_i_mod_count_of_every_voxel():
    cloud = make_cloud(300)
    voxels = voxels_by_loop(cloud["coord"], 0.4)
    fragments = fragments_of(cloud)
    assert len(fragments) == max(map(len, voxels.values()))
    raw = np.concatenate((cloud["coord"], cloud["color"]), axis=1)
    for number, fragment in enumerate(fragments):
        assert [tuple(cell) for cell in fragment["coors"].tolist()] == sorted(voxels)
        rows = [voxels[cell][number % len(voxels[cell])] for cell in sorted(voxels)]
        assert fragment["index"].tolist() == rows
        assert (fragment["points"].numpy() == raw[rows]).all()
        assert [fragment[key].dtype for key in ("points", "coors", "index")] == [
            torch.float32,
            torch.int64,
            torch.int64,
        ]


def test_every_variant_covers_every_point():
    cloud = make_cloud(300)
    normalize = {"type": "mmeffvit.NormalizePointsColor"}
    fragments = fragments_of(
        cloud,
        variants=[[], [QUARTER]],
        transforms=[{"type": "mmeffvit.PositiveShift"}, normalize],
        feat_keys=("coord", "normal", "color"),
    )
    x, y, z = cloud["coord"].T.astype(np.float64)
    turned = np.stack((-y, x, z), axis=1) * 2
    expected = {0: cloud["coord"], 1: turned.astype(np.float32)}
    sizes = [max(map(len, voxels_by_loop(expected[i], 0.4).values())) for i in (0, 1)]
    assert len(fragments) == sum(sizes)
    parts = list(fragments)
    for variant, own in enumerate((parts[: sizes[0]], parts[sizes[0] :])):
        assert torch.cat([part["index"] for part in own]).unique().tolist() == list(range(300))
        for part in own:
            rows = part["index"].numpy()
            coord = expected[variant][rows]
            points = part["points"].numpy()
            np.testing.assert_allclose(points[:, :3], coord - coord.min(0), atol=1e-5)
            np.testing.assert_allclose(points[:, 6:] * 255, cloud["color"][rows], atol=1e-4)
            nx, ny, nz = cloud["normal"][rows].T
            normal = (nx, ny, nz) if variant == 0 else (-ny, nx, nz)
            np.testing.assert_allclose(points[:, 3:6], np.stack(normal, 1), atol=1e-6)


def test_they_can_be_read_in_any_order_and_survive_workers_and_collating():
    fragments = fragments_of(make_cloud(100), variants=[[], [QUARTER]])
    parts = list(fragments)
    sent = pickle.loads(pickle.dumps(fragments))
    for index in (len(parts) - 1, 0, -1, 3):
        for source in (fragments, sent):
            assert all((source[index][key] == parts[index][key]).all() for key in parts[index])
    with pytest.raises(IndexError, match="there are"):
        fragments[len(parts)]
    other = fragments_of(make_cloud(50, seed=1))
    batch = pseudo_collate([{"inputs": {"fragments": fragments}}, {"inputs": {"fragments": other}}])
    assert batch["inputs"]["fragments"] == [fragments, other]


def test_one_point_and_all_points_in_one_voxel():
    cloud = make_cloud(1)
    (fragment,) = fragments_of(cloud)
    assert fragment["coors"].tolist() == [[0, 0, 0]]
    cloud = make_cloud(7)
    assert [part["index"].tolist() for part in fragments_of(cloud, 100)] == [[i] for i in range(7)]


def test_what_would_lose_points_or_mix_them_up_is_refused():
    cloud = make_cloud(100)
    drop = {"type": "mmeffvit.RandomDropPoints", "prob": 1}
    with pytest.raises(ValueError, match="variant 1 leaves points out"):
        fragments_of(cloud, variants=[[], [drop]])
    with pytest.raises(ValueError, match="must not choose or reorder"):
        list(fragments_of(cloud, transforms=[{"type": "mmeffvit.PointShuffle"}]))
    jitter = {"type": "mmeffvit.RandomJitterPoints", "jitter_std": 1, "clip_range": (-9, 9)}
    changing = fragments_of(cloud, 0.8, variants=[[jitter], []])
    with pytest.raises(ValueError, match="must not be random"):
        [list(changing) for _ in range(9)]
    with pytest.raises(ValueError, match="raw points, not voxels"):
        fragments_of(TRANSFORMS.build({"type": "mmeffvit.GridSample"})(dict(cloud)))
    with pytest.raises(ValueError, match="one list of transforms"):
        fragments_of(cloud, variants=[])
    with pytest.raises(KeyError, match="feat_keys asks for"):
        list(fragments_of(cloud, feat_keys=("coord", "intensity")))
