import pytest
import torch

from mmeffvit.ops import points
from mmeffvit.ops.points.cells import CellKeys

# ranges that fit into one key, and ranges of which three do not
SPANS = [5, 2**40]


def rows(span, count=200):
    spread = torch.randint(-3, 4, (count, 4))
    return torch.where(torch.rand(count, 4) < 0.1, spread * (span // 3), spread)


@pytest.mark.parametrize("span", SPANS)
def test_groups_are_in_lexicographic_order(span):
    table = rows(span)
    groups = points.unique_rows(table)
    expected, inverse, counts = torch.unique(table, dim=0, return_inverse=True, return_counts=True)
    assert torch.equal(groups.rows, expected)
    assert torch.equal(groups.inverse, inverse)
    assert torch.equal(groups.counts, counts)
    assert len(groups) == len(expected)


@pytest.mark.parametrize("span", SPANS)
def test_keys_of_other_rows(span):
    table, others = rows(span), torch.cat((rows(span), rows(span) + span))
    keys = CellKeys(table)
    found, possible = keys.of(others)
    for row, key, maybe in zip(others, found, possible):
        same = (table == row).all(1)
        assert same.any() == bool(maybe and (keys.keys == key).any())
        assert not maybe or torch.equal(same, keys.keys == key)


def test_clusters_point_by_point():
    xyz = torch.randn(300, 3) * 2
    batch = torch.arange(300) // 130
    clusters = points.grid_cluster(xyz, torch.tensor([0.5, 0.7, 1.0]), batch)
    cells = [
        (int(b), *(int(v / s) for v, s in zip(p.tolist(), (0.5, 0.7, 1.0))))
        for b, p in zip(batch, xyz)
    ]
    assert [tuple(clusters.rows[i].tolist()) for i in clusters.inverse] == cells
    order = [(b, z, y, x) for b, x, y, z in clusters.rows.tolist()]
    assert order == sorted(set(order))
    assert clusters.counts.tolist() == [cells.count(tuple(c)) for c in clusters.rows.tolist()]


@pytest.mark.parametrize("far", [1e6, 1e9])
def test_one_stray_point_far_away(far):
    xyz = torch.rand(50, 3, dtype=torch.float64)
    plain = points.grid_cluster(xyz, 0.02)
    stray = points.grid_cluster(torch.cat((xyz, torch.full((1, 3), far))), 0.02)
    assert torch.equal(stray.inverse[:-1], plain.inverse)
    assert torch.equal(stray.rows[:-1], plain.rows)


def test_small_clouds():
    one = points.grid_cluster(torch.rand(1, 3), 10.0)
    assert (one.inverse.tolist(), one.counts.tolist()) == ([0], [1])
    same = points.grid_cluster(torch.ones(4, 3), 0.1)
    assert (same.inverse.tolist(), same.counts.tolist()) == ([0] * 4, [4])
    assert len(points.grid_cluster(torch.rand(0, 3), 0.1, start=None)) == 0


def test_cells_that_cannot_be():
    with pytest.raises(ValueError, match="must be positive"):
        points.grid_cluster(torch.rand(2, 3), 0.0)
    with pytest.raises(ValueError, match=r"1e\+20 cells .* cannot be told apart"):
        points.grid_cluster(torch.full((2, 3), 1e20), 1.0)
    with pytest.raises(ValueError, match="NaN"):
        points.grid_cluster(torch.full((2, 3), float("nan")), 1.0)
