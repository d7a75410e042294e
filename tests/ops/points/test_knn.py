import pytest
import torch

from mmeffvit.ops import points
from mmeffvit.ops.points.knn import fused, reference


def literal(xyz, offset, new_xyz, new_offset, k):
    index, distance = [], []
    new_batch = points.offset_to_batch(new_offset)
    for query, b in zip(new_xyz, new_batch.tolist()):
        start, end = (0 if b == 0 else int(offset[b - 1])), int(offset[b])
        squared = (query - xyz[start:end]).square().sum(1).tolist()
        best = sorted((d, start + i) for i, d in enumerate(squared))[:k]
        best += [(1e10, start)] * (k - len(best))
        index.append([i for _, i in best])
        distance.append([d**0.5 for d, _ in best])
    return torch.tensor(index), torch.tensor(distance)


def surface(count):
    return torch.rand(count, 3) * torch.tensor([5.0, 3.0, 0.05])


CLOUDS = {
    "volume": lambda n: torch.rand(n, 3) * 4,
    "surface": surface,
    "line": lambda n: torch.rand(n, 1) * torch.tensor([9.0, 0.0, 0.0]),
    "duplicates": lambda n: surface(n // 4 + 1).repeat(4, 1)[:n],
    "one place": lambda n: torch.ones(n, 3),
    "dense and thin": lambda n: torch.cat((surface(n - n // 5) / 50, surface(n // 5) * 20)),
    "far away": lambda n: (surface(n) * 50).round() + 1e6,
    "with a stray": lambda n: torch.cat((surface(n - 1), torch.full((1, 3), 1e6))),
    "lattice": lambda n: torch.randint(0, 5, (n, 3)).float(),
}


@pytest.mark.parametrize("implementation", ["fused", "reference"])
@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize("k", [1, 3, 8])
def test_equals_a_search_query_by_query(monkeypatch, cloud, k, implementation):
    monkeypatch.setattr(fused, "CHUNK_PAIRS", 500)
    monkeypatch.setattr(reference, "CHUNK_PAIRS", 500)
    xyz, new_xyz = CLOUDS[cloud](120), CLOUDS[cloud](75)
    offset, new_offset = torch.tensor([70, 72, 120]), torch.tensor([30, 45, 75])
    index, distance = points.knn(xyz, offset, new_xyz, new_offset, k, implementation=implementation)
    expected = literal(xyz, offset, new_xyz, new_offset, k)
    assert torch.equal(index, expected[0])
    torch.testing.assert_close(distance, expected[1])


def test_queries_far_from_all_points():
    xyz, queries = surface(60), surface(9) + 300
    one, all_queries = torch.tensor([60]), torch.tensor([9])
    found = points.knn(xyz, one, queries, all_queries, 3)
    expected = literal(xyz, one, queries, all_queries, 3)
    assert torch.equal(found[0], expected[0])


def test_samples_without_queries_and_of_one_point():
    xyz, offset = torch.rand(3, 3), torch.tensor([1, 2, 3])
    index, distance = points.knn(xyz, offset, xyz[:2], torch.tensor([1, 1, 2]), 3)
    assert index.tolist() == [[0, 0, 0], [2, 2, 2]]
    assert distance[:, 1:].eq(1e5).all()
    index, _ = points.knn(xyz, offset, xyz[:0], torch.tensor([0, 0, 0]), 3)
    assert index.shape == (0, 3)


def test_float64_far_away_keeps_its_precision():
    xyz = torch.rand(50, 3, dtype=torch.float64)
    ends = torch.tensor([50])
    near = points.knn(xyz, ends, xyz + 0.01, ends, 3)[0]
    far = points.knn(xyz + 2.0**20, ends, xyz + 0.01 + 2.0**20, ends, 3)[0]
    assert torch.equal(near, far)


@pytest.mark.parametrize("implementation", ["fused", "reference"])
def test_bad_input(implementation):
    xyz, ends = torch.rand(6, 3), torch.tensor([6])

    def knn(*args):
        return points.knn(*args, implementation=implementation)

    with pytest.raises(ValueError, match="1 samples have 6 points together, but there are 5"):
        knn(xyz[:5], ends, xyz, ends, 3)
    with pytest.raises(ValueError, match="offset has 2 samples and new_offset 1"):
        knn(xyz, torch.tensor([3, 6]), xyz, ends, 3)
    with pytest.raises(ValueError, match="sample 0 has queries but no points"):
        knn(xyz, torch.tensor([0, 6]), xyz, torch.tensor([3, 6]), 3)
    with pytest.raises(ValueError, match="k must be at least 1"):
        knn(xyz, ends, xyz, ends, 0)
    with pytest.raises(ValueError, match="new_xyz has NaN"):
        knn(xyz, ends, xyz * float("nan"), ends, 3)


def test_cost_grows_with_the_points():
    """Candidates per query stay the same when a surface of one density grows."""
    looked_at = []

    class Grid(fused._Grid):
        def _distance_keys(self, queries, first, length, width):
            looked_at.append(len(queries) * width)
            return super()._distance_keys(queries, first, length, width)

    totals = []
    for count in (2000, 8000):
        looked_at.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fused, "_Grid", Grid)
            xyz = torch.rand(count, 3) * torch.tensor([count**0.5, count**0.5, 0.01])
            ends = torch.tensor([count])
            points.knn(xyz, ends, xyz, ends, 3)
        totals.append(sum(looked_at) / count)
    assert totals[1] < 1.3 * totals[0]
    assert totals[1] < 200


def test_interpolation():
    feats = torch.randn(7, 4, dtype=torch.float64, requires_grad=True)
    index = torch.randint(0, 7, (5, 3))
    distance = torch.rand(5, 3, dtype=torch.float64)
    distance[0, 0] = 0  # a query on a point takes its features
    out = points.interpolate(feats, index, distance)
    for i in range(5):
        weights = 1 / (distance[i] + 1e-8)
        expected = sum(w / weights.sum() * feats[j] for w, j in zip(weights, index[i]))
        torch.testing.assert_close(out[i], expected)
    torch.testing.assert_close(out[0], feats[index[0, 0]], atol=1e-6, rtol=1e-6)
    assert torch.autograd.gradcheck(lambda f: points.interpolate(f, index, distance), feats)


def test_furthest_point_sampling():
    xyz, offset = torch.rand(40, 3), torch.tensor([25, 26, 40])
    picked = points.furthest_point_sampling(xyz, offset, torch.tensor([6, 7, 16]))
    expected, start = [], 0
    for end, count in zip(offset.tolist(), (6, 1, 9)):
        rows = [start]
        while len(rows) < count:
            squared = (xyz[start:end, None] - xyz[rows]).square().sum(-1).amin(1)
            rows.append(start + int(squared.argmax()))
        expected += rows
        start = end
    assert picked.tolist() == expected
    assert points.furthest_point_sampling(xyz, offset, torch.tensor([0, 1, 1])).tolist() == [25]
    with pytest.raises(ValueError, match=r"cannot pick \[1, 2, 0\] points out of samples"):
        points.furthest_point_sampling(xyz, offset, torch.tensor([1, 3, 3]))
