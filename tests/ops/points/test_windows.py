import pytest
import torch

from mmeffvit.ops import points


def test_windows_point_by_point():
    xyz, batch = torch.rand(200, 3) * 9, torch.arange(200) // 120
    size, shift = (4.0, 2.0, 1.0), (2.0, 1.0, 0.5)
    windows = points.partition_windows(xyz, batch, size, shift)
    low = xyz.amin(0)
    for i in range(200):
        cell = [int((xyz[i, a] + shift[a] - low[a]) / size[a]) for a in range(3)]
        assert windows.rows[windows.inverse[i]].tolist() == [int(batch[i]), *cell]
    per_point = points.partition_windows(xyz, batch, size, shift, low.expand(200, 3))
    assert torch.equal(per_point.inverse, windows.inverse)


@pytest.mark.parametrize("counts", [[1], [3, 1, 70, 9, 9, 33, 1, 2], [5] * 7, []])
def test_padded_layout(counts):
    counts = torch.tensor(counts, dtype=torch.int64)
    window = torch.repeat_interleave(torch.arange(len(counts)), counts)
    window = window[torch.randperm(len(window))]
    layout = points.PaddedWindows.of(window, counts)
    assert sum(n * size for n, size in layout.buckets) == len(layout.slots)
    assert len(layout.slots) <= 1.25 * len(window)
    x = torch.randn(len(window), 2, dtype=torch.float64, requires_grad=True)
    padded = layout.gather(x)
    assert torch.equal(layout.scatter(padded), x)
    start = 0
    for n, size in layout.buckets:
        for part in layout.slots[start : start + n * size].view(n, size):
            rows = part[part < len(window)]
            # one window in each box, all of it, real points first
            assert torch.equal(rows, part[: len(rows)])
            assert len(window[rows].unique()) == 1
            assert len(rows) == counts[window[rows[0]]]
        start += n * size
    if len(window):
        assert torch.autograd.gradcheck(layout.gather, x)
        assert torch.autograd.gradcheck(
            lambda p: layout.scatter(p), padded.detach().requires_grad_()
        )


def literal_order(coords, window, grid, axis, shifted):
    """The paper's keys, pillar by pillar."""
    keys = []
    (wx, wy), (nx, ny) = window, grid
    for b, _, y, x in coords.tolist():
        x, y = (x + wx // 2, y + wy // 2) if shifted else (x, y)
        x1, x2, y1, y2 = x // wx, x % wx, y // wy, y % wy
        area = 4 * wx * wy
        if axis == "x":
            n = 2 * (-(-nx // wx) + 1)
            key = (n * y1 + (-1) ** y1 * x1) * area
            key += (-1) ** y1 * (2 * wy * x2 + (-1) ** x2 * y2)
        else:
            n = 2 * (-(-ny // wy) + 1)
            key = (n * x1 + (-1) ** x1 * y1) * area
            key += (-1) ** x1 * (2 * wx * y2 + (-1) ** y2 * x2)
        keys.append((b, key))
    return sorted(range(len(keys)), key=keys.__getitem__)


@pytest.mark.parametrize("axis", ["x", "y"])
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(
    ("window", "grid"), [((3, 5), (11, 7)), ((13, 13), (20, 20)), ((2, 3), (6, 9))]
)
def test_snake_order_pillar_by_pillar(axis, shifted, window, grid):
    pillars = torch.cartesian_prod(
        torch.arange(3), torch.zeros(1).long(), torch.arange(grid[1]), torch.arange(grid[0])
    )
    pillars = pillars[torch.rand(len(pillars)) < 0.6]
    order = points.window_snake_order(pillars, window, grid, axis, shifted)
    assert order.tolist() == literal_order(pillars, window, grid, axis, shifted)
    assert pillars[order][:, 0].diff().min() >= 0  # samples are not mixed


def test_snake_of_nothing_and_of_another_axis():
    assert points.window_snake_order(torch.zeros(0, 4).long(), (2, 2), (4, 4)).shape == (0,)
    with pytest.raises(ValueError, match="'x' or 'y', got 'z'"):
        points.window_snake_order(torch.zeros(1, 4).long(), (2, 2), (4, 4), "z")


@pytest.mark.parametrize("counts", [[7, 3, 12, 4, 1], [4, 8], [5]])
def test_groups_slot_by_slot(counts):
    group = 4
    groups = points.equal_groups(torch.tensor(counts).cumsum(0), group)
    slots, mask, own, start = [], [], [], 0
    for n in counts:
        for i in range(-(-n // group) * group):
            if i < n:
                own.append(len(slots))
            slots.append(start + (i if i < n else 0 if n < group else i - group))
            mask.append(i < n or n >= group)
        start += n
    assert groups.slots.tolist() == slots
    assert groups.slot_of_token.tolist() == own
    if all(mask):
        assert groups.mask is None
    else:
        assert groups.mask.flatten().tolist() == mask
    # the same groups of tokens that lie in another order: each finds its own slot
    order = torch.randperm(sum(counts))
    along = groups.along(order)
    assert torch.equal(along.slots, order[groups.slots])
    assert torch.equal(along.slots[along.slot_of_token], torch.arange(sum(counts)))


def test_groups_of_empty_samples():
    with pytest.raises(ValueError, match="sample 1 has no points"):
        points.equal_groups(torch.tensor([3, 3, 5]), 4)
    with pytest.raises(ValueError, match="group_size must be at least 1"):
        points.equal_groups(torch.tensor([3]), 0)
