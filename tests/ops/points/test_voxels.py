import pytest
import torch

from mmeffvit.ops import points

SIZE, RANGE = (0.5, 0.25, 4.0), (-2.0, -1.0, -3.0, 2.0, 1.0, 1.0)


def test_voxels_point_by_point():
    assert points.grid_size(SIZE, RANGE) == (8, 8, 1)
    cloud = torch.randn(80, 5) * 1.5
    marked = points.dynamic_voxelize(cloud, SIZE, RANGE)
    clamped = points.dynamic_voxelize(cloud, SIZE, RANGE, out_of_range="clamp")
    assert marked.dtype == torch.int32
    for point, mark, clamp in zip(cloud, marked.tolist(), clamped.tolist()):
        cell = [int((((point[a] - RANGE[a]) / SIZE[a]).floor()).item()) for a in range(3)]
        inside = all(0 <= c < n for c, n in zip(cell, (8, 8, 1)))
        assert mark == (cell[::-1] if inside else [-1] * 3)
        assert clamp == [min(max(c, 0), n - 1) for c, n in zip(cell, (8, 8, 1))][::-1]


def test_coordinates_far_away_are_out_of_range():
    cloud = torch.tensor([[1e6, 0.0, 0.0], [-1e30, 0.0, 0.0], [0.1, 0.1, 0.0]])
    assert points.dynamic_voxelize(cloud, SIZE, RANGE)[:, 2].tolist() == [-1, -1, 4]
    clamped = points.dynamic_voxelize(cloud, SIZE, RANGE, out_of_range="clamp")
    assert clamped[:, 2].tolist() == [7, 0, 4]


@pytest.mark.parametrize("reduce", ["max", "mean", "sum"])
def test_scatter_voxel_by_voxel(reduce):
    coords = torch.randint(0, 3, (60, 4), dtype=torch.int32)
    coords[::9, 2] = -1
    feats = torch.randn(60, 5, dtype=torch.float64, requires_grad=True)
    out, groups = points.dynamic_scatter(feats, coords, reduce)
    inside = [tuple(c) for c in coords.tolist() if min(c) >= 0]
    assert [tuple(r) for r in groups.rows.tolist()] == sorted(set(inside))
    assert groups.counts.sum() == len(inside)
    for row, values in zip(groups.rows, out):
        same = (coords == row).all(1)
        assert torch.equal(groups.inverse[same], groups.inverse[same][:1].expand(int(same.sum())))
        expected = getattr(feats[same], "amax" if reduce == "max" else reduce)(0)
        torch.testing.assert_close(values, expected)
    assert groups.inverse[::9].eq(-1).all()
    (grad,) = torch.autograd.grad(out.sum(), feats)
    assert grad[::9].eq(0).all()
    if reduce != "sum":
        torch.testing.assert_close(grad.sum(), torch.tensor(5.0 * len(out)).double())


def test_the_first_voxel_is_kept():
    coords = torch.tensor([[0, 0, 0], [0, 0, 1]])
    out, groups = points.dynamic_scatter(torch.tensor([[1.0], [2.0]]), coords)
    assert out.tolist() == [[1.0], [2.0]]
    assert groups.inverse.tolist() == [0, 1]
    nothing, groups = points.dynamic_scatter(torch.rand(2, 3), coords - 5)
    assert nothing.shape == (0, 3)
    assert groups.inverse.tolist() == [-1, -1]


def test_bev_map():
    coords = torch.tensor([[0, 0, 1, 2], [1, 0, 3, 0], [1, 0, 0, 4]])
    feats = torch.randn(3, 2, requires_grad=True)
    out = points.bev_scatter(feats, coords, 2, 4, 5)
    expected = torch.zeros(2, 2, 4, 5)
    for (b, _, y, x), values in zip(coords.tolist(), feats):
        expected[b, :, y, x] = values.detach()
    assert torch.equal(out, expected)
    out.square().sum().backward()
    torch.testing.assert_close(feats.grad, 2 * feats.detach())
    with pytest.raises(ValueError, match=r"x from 0 to 4, but the map has 0\.\.3"):
        points.bev_scatter(feats, coords, 2, 4, 4)
    with pytest.raises(ValueError, match="batch from 0 to 1"):
        points.bev_scatter(feats, coords, 1, 4, 5)


def test_bad_input():
    with pytest.raises(ValueError, match="NaN"):
        points.dynamic_voxelize(torch.full((1, 3), float("nan")), SIZE, RANGE)
    with pytest.raises(ValueError, match="'mark' or 'clamp'"):
        points.dynamic_voxelize(torch.rand(1, 3), SIZE, RANGE, out_of_range="drop")
    with pytest.raises(ValueError, match="three positive voxel sides"):
        points.dynamic_voxelize(torch.rand(1, 3), (1, 1), RANGE)
    with pytest.raises(ValueError, match="holds no voxel"):
        points.grid_size((9, 9, 9), RANGE)
    with pytest.raises(ValueError, match="3 points have features, 2 have coordinates"):
        points.dynamic_scatter(torch.rand(3, 2), torch.zeros(2, 3))
