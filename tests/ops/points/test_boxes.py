import math

import numpy as np
import pytest
import torch

from mmeffvit.ops.points import (
    bev_boxes,
    box_corners,
    greedy_keep,
    greedy_matches,
    near_pairs,
    points_in_boxes,
    rotated_iou,
    rotated_iou_3d,
    rotated_nms,
    rotated_overlap,
    wrap_angle,
)


def corners(box):
    x, y, dx, dy, yaw = box
    return [
        (
            x + math.cos(yaw) * sx * dx / 2 - math.sin(yaw) * sy * dy / 2,
            y + math.sin(yaw) * sx * dx / 2 + math.cos(yaw) * sy * dy / 2,
        )
        for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1))
    ]


def clipped_area(a, b):
    """Sutherland-Hodgman: the polygon of one box cut by one edge of the other after the other."""
    polygon, cutter = corners(a), corners(b)
    for (px, py), (qx, qy) in zip(cutter, cutter[1:] + cutter[:1]):
        sides = [(qx - px) * (y - py) - (qy - py) * (x - px) for x, y in polygon]
        cut = []
        for i, (p, s) in enumerate(zip(polygon, sides)):
            q, t = polygon[(i + 1) % len(polygon)], sides[(i + 1) % len(polygon)]
            if s >= 0:
                cut.append(p)
            if (s > 0 > t) or (s < 0 < t):
                cut.append(tuple(u + (v - u) * s / (s - t) for u, v in zip(p, q)))
        polygon = cut
    pairs = zip(polygon, polygon[1:] + polygon[:1])
    return sum(px * qy - qx * py for (px, py), (qx, qy) in pairs) / 2


def random_boxes(count, spread=3.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(count, 5, generator=generator, dtype=torch.float64)
    boxes[:, :2] *= spread
    boxes[:, 2:4] = boxes[:, 2:4] * 4 + 0.1
    boxes[:, 4] = (boxes[:, 4] - 0.5) * 20
    return boxes


def test_overlap_of_random_pairs():
    a, b = random_boxes(60), random_boxes(60, seed=1)
    b[::3, 4] = a[::3, 4]  # parallel
    b[::6, :2] = a[::6, :2]  # one in the other, or a cross
    b[1::6, 2:4] *= 0.05
    expected = torch.tensor([clipped_area(p, q) for p, q in zip(a.tolist(), b.tolist())])
    assert (expected > 0.1).sum() > 30
    assert (expected == 0).any()
    torch.testing.assert_close(rotated_overlap(a, b), expected.double(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(rotated_overlap(b, a), rotated_overlap(a, b))


@pytest.mark.parametrize("yaw", [0.0, 0.3, math.pi / 2, 2.0])
@pytest.mark.parametrize("far", [0.0, 1e6])
def test_overlap_of_special_pairs(yaw, far):
    box = torch.tensor([far, -far, 4.0, 2.0, yaw], dtype=torch.float64)
    along = torch.tensor([math.cos(yaw), math.sin(yaw), 0, 0, 0], dtype=torch.float64)
    turned = torch.tensor([0, 0, 0, 0, math.pi], dtype=torch.float64)
    others = [
        (box, 8.0),  # the same
        (box + turned, 8.0),  # the same, the other way round
        (box + along, 6.0),
        (box + 4 * along, 0.0),  # touches
        (box + 9 * along, 0.0),
        (box * torch.tensor([1, 1, 0.5, 0.5, 1]), 2.0),  # inside
        (box * torch.tensor([1, 1, 0.0, 1.0, 1]), 0.0),  # a line
        (box * torch.tensor([1, 1, 2.0, 0.5, 1]), 4.0),  # a cross of parallel edges
        (box + 1e-10 * along, 8.0),  # all edges nearly the same
    ]
    actual = rotated_overlap(box.expand(len(others), -1), torch.stack([b for b, _ in others]))
    areas = torch.tensor([area for _, area in others], dtype=torch.float64)
    torch.testing.assert_close(actual, areas, rtol=0, atol=1e-4 if far else 1e-6)


def test_iou_in_space():
    box = torch.tensor([[1.0, 2.0, 3.0, 4.0, 2.0, 1.0, 0.7]])
    higher = box + torch.tensor([0, 0, 0.5, 0, 0, 0, 0])
    above = box + torch.tensor([0, 0, 1.5, 0, 0, 0, 0])
    crossing = box + torch.tensor([0, 0, 0, 0, 0, 0, math.pi / 2])
    pairs = torch.cat((box, higher, above, crossing))
    actual = rotated_iou_3d(box.expand(4, -1), pairs)
    assert actual.tolist() == pytest.approx([1, 1 / 3, 0, 4 / 12], abs=1e-5)
    assert rotated_iou(box[:, [0, 1, 3, 4, 6]], crossing[:, [0, 1, 3, 4, 6]]).item() == (
        pytest.approx(4 / 12, rel=1e-5)
    )


def greedy(boxes, scores, threshold):
    left, kept = scores.argsort(descending=True, stable=True).tolist(), []
    count = len(boxes)
    iou = rotated_iou(boxes.repeat_interleave(count, 0), boxes.repeat(count, 1)).view(count, count)
    while left:
        kept.append(left.pop(0))
        left = [other for other in left if not iou[kept[-1], other] > threshold]
    return kept


@pytest.mark.parametrize("threshold", [0.1, 0.5])
def test_suppression_is_the_greedy_one(threshold):
    boxes = random_boxes(40, spread=6.0)
    scores = torch.randint(0, 12, (40,)).float()  # with equal ones
    kept = rotated_nms(boxes, scores, threshold).tolist()
    assert kept == greedy(boxes, scores, threshold)
    assert 1 < len(kept) < 40


def test_suppressed_boxes_suppress_nothing():
    # a row of boxes of which each overlaps its neighbours only
    boxes = torch.tensor([[i * 1.0, 0, 2, 1, 0] for i in range(3000)])
    scores = torch.linspace(1, 0, 3000)
    assert rotated_nms(boxes[:9], scores[:9], 0.2).tolist() == [0, 2, 4, 6, 8]
    assert len(rotated_nms(boxes[::2], scores[::2], 0.2)) == 1500


def test_no_box_and_one():
    assert rotated_nms(torch.zeros(0, 5), torch.zeros(0), 0.5).tolist() == []
    assert rotated_nms(torch.ones(1, 5), torch.ones(1), 0.5).tolist() == [0]
    assert rotated_overlap(torch.zeros(0, 5), torch.zeros(0, 5)).shape == (0,)
    with pytest.raises(ValueError, match=r"must be \(K, 5\).* got \(2, 7\) and \(2,\)"):
        rotated_nms(torch.ones(2, 7), torch.ones(2), 0.5)
    with pytest.raises(ValueError, match=r"pairs of boxes .* \(2, 5\) and \(3, 5\)"):
        rotated_overlap(torch.ones(2, 5), torch.ones(3, 5))


def test_near_pairs_are_all_that_overlap():
    a, b = random_boxes(30, spread=20.0), random_boxes(23, spread=20.0, seed=1)
    i, j = near_pairs(a, b, rows=7)
    shared = rotated_overlap(a.repeat_interleave(23, 0), b.repeat(30, 1)).view(30, 23)
    near = torch.zeros(30, 23, dtype=torch.bool)
    near[i, j] = True
    assert (shared > 0).sum() > 20
    assert len(i) == near.sum() < near.numel() / 2
    assert not (shared[~near] > 0).any()
    assert len(near_pairs(a[:0], b)[0]) == len(near_pairs(a, b[:0])[1]) == 0


def test_points_in_boxes(monkeypatch):
    # a box 4 long, 2 wide and 1 high, turned by 30 degrees
    box = torch.tensor([[10.0, -5.0, 1.0, 4.0, 2.0, 1.0, math.pi / 6]])
    own = torch.tensor(
        [[0, 0, 0], [1.9, 0, 0], [2.1, 0, 0], [0, 0.9, 0.4], [0, 1.1, 0], [1.9, -0.9, -0.4]]
        + [[0, 0, 0.6], [-1.9, 0.9, 0.4]]
    )
    cos, sin = math.cos(math.pi / 6), math.sin(math.pi / 6)
    turn = torch.tensor([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    points = torch.cat((own @ turn + box[:, :3], torch.zeros(8, 2)), dim=1)
    expected = [True, True, False, True, False, True, False, True]
    assert points_in_boxes(points, box)[:, 0].tolist() == expected
    boxes = box.repeat(5, 1)
    boxes[3, 2] += 50
    monkeypatch.setattr("mmeffvit.ops.points.boxes._CHUNK", 1)  # two boxes at once
    inside = points_in_boxes(points, boxes)
    assert inside.shape == (8, 5)
    assert inside[:, 4].tolist() == expected
    assert not inside[:, 3].any()
    assert points_in_boxes(points[:0], box).shape == (0, 1)
    assert points_in_boxes(points, box[:0]).shape == (8, 0)
    with pytest.raises(ValueError, match=r"\(N, 3\) and boxes \(n, 7\).* \(8, 5\) and \(1, 5\)"):
        points_in_boxes(points, box[:, :5])


def test_corners_and_boxes_from_above():
    boxes = random_boxes(7)
    expected = torch.tensor([corners(box) for box in boxes.tolist()], dtype=torch.float64)
    torch.testing.assert_close(box_corners(boxes), expected)
    spatial = torch.arange(18.0).view(2, 9)
    assert bev_boxes(spatial).tolist() == [[0, 1, 3, 4, 6], [9, 10, 12, 13, 15]]
    assert bev_boxes(spatial.numpy()).tolist() == bev_boxes(spatial).tolist()


def test_angles_are_wrapped_whatever_holds_them():
    angles = [-7.0, -math.pi, 0.0, 3.0, math.pi, 9.5]
    wanted = [-7 + 2 * math.pi, -math.pi, 0, 3, -math.pi, 9.5 - 4 * math.pi]
    assert [wrap_angle(angle) for angle in angles] == pytest.approx(wanted)
    assert wrap_angle(np.array(angles)) == pytest.approx(wanted)
    wrapped = wrap_angle(torch.tensor(angles, dtype=torch.float64))
    assert wrapped.tolist() == pytest.approx(wanted)


def test_greedy_choices_equal_a_loop():
    generator = torch.Generator().manual_seed(0)
    pairs = (torch.rand(40, 40, generator=generator) < 0.1).triu(1)
    first, second = pairs.nonzero().unbind(1)
    keep = [True] * 40
    for j in range(40):
        keep[j] = not any(pairs[i, j] and keep[i] for i in range(j))
    assert greedy_keep(first, second, 40).tolist() == keep
    assert not all(keep)

    overlap = (torch.rand(30, 12, generator=generator) * 8).floor() / 8
    rows, cols = (overlap > 0.5).nonzero().unbind(1)
    free, wanted = list(range(12)), []
    for row in overlap.tolist():
        best = max(free, key=lambda col: (row[col], -col), default=None)
        wanted.append(best if best is not None and row[best] > 0.5 else -1)
        if wanted[-1] >= 0:
            free.remove(best)
    shuffled = torch.randperm(len(rows), generator=generator)
    shuffled = shuffled[cols[shuffled].argsort(stable=True)]
    rows, cols = rows[shuffled], cols[shuffled]
    assert greedy_matches(rows, cols, overlap[rows, cols], 30).tolist() == wanted
    assert sorted(col for col in wanted if col >= 0) == list(range(12))
    assert greedy_matches(rows[:0], cols[:0], overlap[:0, 0], 2).tolist() == [-1, -1]
