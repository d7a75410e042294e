import pytest
import torch
import torch.nn.functional as F

from mmeffvit.ops import points
from mmeffvit.ops.points.submanifold_conv import fused
from mmeffvit.testing import relative_rms_error

FUNCTIONS = {
    "dense": (points.submanifold_conv3d, lambda c: (5, 3, 3, 3, c)),
    "depthwise": (points.depthwise_submanifold_conv3d, lambda c: (c, 3, 3, 3, 1)),
}


def voxels(count, size=(7, 5, 4), batches=2):
    """Distinct (batch, x, y, z) in any order."""
    grid = torch.cartesian_prod(*(torch.arange(n) for n in (batches, *size)))
    return grid[torch.randperm(len(grid))[:count]]


def test_neighbours_voxel_by_voxel():
    cells = voxels(90)
    row = {tuple(c): i for i, c in enumerate(cells.tolist())}
    table = points.sparse_neighbours(cells)
    for i, (b, x, y, z) in enumerate(cells.tolist()):
        expected = [
            row.get((b, x + dx, y + dy, z + dz), 90)
            for dx in (-1, 0, 1)
            for dy in (-1, 0, 1)
            for dz in (-1, 0, 1)
        ]
        assert table[i].tolist() == expected
    assert points.kernel_offsets()[5].tolist() == [-1, 0, 1]


def test_neighbours_of_stray_voxels():
    cells = voxels(40)
    far = torch.tensor([[0, 2**45, -(2**45), 2**44], [1, 2**45 + 1, 0, 0], [1, 2**45, 0, 0]])
    table = points.sparse_neighbours(torch.cat((cells, far)))
    plain = points.sparse_neighbours(cells)
    assert torch.equal(table[:40], torch.where(plain == 40, 43, plain))
    assert (table[40] != 43).sum() == 1
    assert sorted(table[41][table[41] != 43].tolist()) == [41, 42]


def test_voxels_that_are_there_twice_are_refused():
    cells = voxels(10)
    with pytest.raises(ValueError, match="1 of 11 voxels are there more than once"):
        points.sparse_neighbours(torch.cat((cells, cells[3:4])))
    assert points.sparse_neighbours(cells[:0]).shape == (0, 27)
    with pytest.raises(ValueError, match=r"\(N, 4\)"):
        points.sparse_neighbours(cells[:, :3])


@pytest.mark.parametrize("kind", FUNCTIONS)
@pytest.mark.parametrize("implementation", ["fused", "reference"])
def test_equals_a_dense_convolution(kind, implementation):
    function, shape = FUNCTIONS[kind]
    cells = voxels(100)
    x = torch.randn(100, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(shape(6), dtype=torch.float64, requires_grad=True)
    neighbours = points.sparse_neighbours(cells)
    out = function(x, weight, neighbours, implementation=implementation)

    b, i, j, k = cells.unbind(1)
    volume = torch.zeros(2, 7, 5, 4, 6, dtype=torch.float64).index_put((b, i, j, k), x)
    groups = 6 if kind == "depthwise" else 1
    dense = F.conv3d(
        volume.permute(0, 4, 1, 2, 3), weight.permute(0, 4, 1, 2, 3), padding=1, groups=groups
    )
    expected = dense.permute(0, 2, 3, 4, 1)[b, i, j, k]
    torch.testing.assert_close(out, expected)
    g = torch.randn_like(out)
    for actual, reference in zip(
        torch.autograd.grad(out, (x, weight), g), torch.autograd.grad(expected, (x, weight), g)
    ):
        torch.testing.assert_close(actual, reference)


@pytest.mark.parametrize("kind", FUNCTIONS)
@pytest.mark.parametrize("count", [1, 2, 37])
def test_fused_in_chunks_equals_reference(monkeypatch, kind, count):
    monkeypatch.setattr(fused, "_CHUNK_NUMBERS", 27 * 6 * 8)
    function, shape = FUNCTIONS[kind]
    x = torch.randn(count, 6, requires_grad=True)
    weight = torch.randn(shape(6), requires_grad=True)
    neighbours = points.sparse_neighbours(voxels(count, (4, 4, 4), 1))
    results = []
    for implementation in ("fused", "reference"):
        out = function(x, weight, neighbours, implementation=implementation)
        results.append((out, *torch.autograd.grad(out.square().sum(), (x, weight))))
    for actual, expected in zip(*results):
        assert relative_rms_error(actual, expected) < 1e-6


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_autocast_and_memory(kind):
    function, shape = FUNCTIONS[kind]
    x = torch.randn(50, 6, requires_grad=True)
    weight = torch.randn(shape(6), requires_grad=True)
    neighbours = points.sparse_neighbours(voxels(50))
    kept = []
    with (
        torch.autocast("cpu", torch.bfloat16),
        torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t),
    ):
        out = function(x, weight, neighbours, implementation="fused")
    # one addition after the other, the depth-wise kernel keeps full precision
    assert out.dtype == (torch.float32 if kind == "depthwise" else torch.bfloat16)
    assert max(t.numel() for t in kept if t.is_floating_point()) <= max(x.numel(), weight.numel())
    grads = torch.autograd.grad(out.float().sum(), (x, weight))
    expected = torch.autograd.grad(function(x, weight, neighbours).sum(), (x, weight))
    for actual, reference in zip(grads, expected):
        assert actual.dtype == torch.float32
        assert relative_rms_error(actual, reference) < 2e-2


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_sums_over_voxels_in_half_precision(monkeypatch, kind):
    """Many chunks of the same sign: sums in bfloat16 would stop growing."""
    monkeypatch.setattr(fused, "_CHUNK_NUMBERS", 27 * 6 * 2)
    function, shape = FUNCTIONS[kind]
    x, neighbours = torch.rand(1500, 6), points.sparse_neighbours(voxels(1500, (12, 12, 12), 1))
    weight = torch.rand(shape(6), requires_grad=True)
    half = function(x.bfloat16(), weight, neighbours, implementation="fused")
    assert half.dtype == torch.bfloat16
    (grad,) = torch.autograd.grad(half.float().sum(), weight)
    (expected,) = torch.autograd.grad(function(x, weight, neighbours).sum(), weight)
    assert relative_rms_error(grad, expected) < 1e-2


def test_shapes_are_checked():
    table = points.sparse_neighbours(voxels(5))
    with pytest.raises(ValueError, match=r"takes features \(N, 4\), got \(5, 3\)"):
        points.submanifold_conv3d(torch.rand(5, 3), torch.rand(2, 3, 3, 3, 4), table)
    with pytest.raises(ValueError, match=r"need a table \(6, 27\)"):
        points.submanifold_conv3d(torch.rand(6, 4), torch.rand(2, 3, 3, 3, 4), table)
    with pytest.raises(ValueError, match=r"\(C_out, 3, 3, 3, C_in\)"):
        points.depthwise_submanifold_conv3d(torch.rand(5, 4), torch.rand(4, 27), table)
