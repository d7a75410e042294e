"""Rotated boxes against shapely, and pooling against plain boxes and numerical gradients."""

import math

import pytest
import torch

from mmeffvit import compat
from mmeffvit.ops.points import box_corners

compat.setup()
mmcv_ops = pytest.importorskip("mmcv.ops")
geometry = pytest.importorskip("shapely.geometry")


def boxes(count, seed=0, spread=60.0):
    generator = torch.Generator().manual_seed(seed)
    centre = torch.rand(count, 2, generator=generator) * spread
    size = torch.rand(count, 2, generator=generator) * 40 + 2
    angle = (torch.rand(count, 1, generator=generator) - 0.5) * 2 * math.pi
    return torch.cat([centre, size, angle], 1)


def polygon(box):
    return geometry.Polygon(box_corners(box[None])[0].tolist())


class TestBoxIou:
    @pytest.mark.parametrize("mode", ["iou", "iof"])
    def test_against_shapely(self, mode):
        first, second = boxes(12), boxes(9, seed=1)
        got = mmcv_ops.box_iou_rotated(first, second, mode=mode)
        assert (got > 0).float().mean() > 0.3
        for i, a in enumerate(map(polygon, first)):
            for j, b in enumerate(map(polygon, second)):
                common = a.intersection(b).area
                whole = a.union(b).area if mode == "iou" else a.area
                assert got[i, j].item() == pytest.approx(common / whole, abs=1e-6)

    def test_aligned_is_the_diagonal(self):
        first, second = boxes(20), boxes(20, seed=1)
        table = mmcv_ops.box_iou_rotated(first, second)
        torch.testing.assert_close(
            mmcv_ops.box_iou_rotated(first, second, aligned=True), table.diagonal()
        )

    def test_the_direction_of_angles_changes_nothing_for_both(self):
        first, second = boxes(8), boxes(8, seed=2)
        flip = torch.tensor([1, 1, 1, 1, -1.0])
        torch.testing.assert_close(
            mmcv_ops.box_iou_rotated(first, second),
            mmcv_ops.box_iou_rotated(first * flip, second * flip, clockwise=False),
        )

    def test_same_touching_inner_and_empty_boxes(self):
        a = torch.tensor([[10.0, 10, 8, 4, 0.3]])
        turned = torch.tensor([[10.0, 10, 4, 8, 0.3 + math.pi / 2]])
        apart = a + torch.tensor([[8 * math.cos(0.3), 8 * math.sin(0.3), 0, 0, 0]])
        inner = torch.tensor([[10.0, 10, 4, 2, 0.3]])
        flat = torch.tensor([[10.0, 10, 0, 4, 0.3]])
        got = mmcv_ops.box_iou_rotated(a, torch.cat([a, turned, apart, inner, flat]))[0]
        torch.testing.assert_close(got, torch.tensor([1, 1, 0, 0.25, 0]), atol=1e-6, rtol=0)
        assert mmcv_ops.box_iou_rotated(a[:0], a).shape == (0, 1)


class TestNms:
    @pytest.mark.parametrize("labelled", [False, True])
    def test_against_the_loop(self, labelled):
        dets, scores = boxes(60, spread=90), torch.rand(60, generator=torch.manual_seed(0))
        labels = torch.arange(60) % 3 if labelled else None
        ious = mmcv_ops.box_iou_rotated(dets, dets)
        expected = []
        for i in scores.argsort(descending=True).tolist():
            rivals = [k for k in expected if labels is None or labels[k] == labels[i]]
            if all(ious[k, i] <= 0.2 for k in rivals):
                expected.append(i)
        kept, indices = mmcv_ops.nms_rotated(dets, scores, 0.2, labels)
        assert indices.tolist() == expected
        assert 5 < len(expected) < 60
        torch.testing.assert_close(kept, torch.cat([dets, scores[:, None]], 1)[expected])


class TestRoIAlign:
    def pool(self, features, rois, ratio=2, aligned=True, clockwise=False):
        return mmcv_ops.roi_align_rotated(features, rois, (3, 4), 0.5, ratio, aligned, clockwise)

    def rois(self, angle=0.0):
        return torch.tensor(
            [[0, 20.0, 17, 22, 14, angle], [1, 8, 30, 9, 26, angle], [0, 50, 3, 31, 12, angle]]
        )

    @pytest.mark.parametrize("ratio", [0, 1, 2])
    @pytest.mark.parametrize("aligned", [True, False])
    def test_without_an_angle_it_is_roi_align(self, ratio, aligned):
        features = torch.randn(2, 5, 24, 30, generator=torch.manual_seed(0))
        rois = self.rois()
        x, y, w, h = rois[:, 1:5].unbind(1)
        plain = torch.stack([rois[:, 0], x - w / 2, y - h / 2, x + w / 2, y + h / 2], 1)
        expected = mmcv_ops.roi_align(features, plain, (3, 4), 0.5, ratio, "avg", aligned)
        torch.testing.assert_close(
            self.pool(features, rois, ratio, aligned), expected, atol=1e-5, rtol=1e-5
        )

    def test_a_right_angle_turns_the_bins(self):
        """A region turned by 90 degrees has the bins of the one with exchanged sides."""
        features = torch.randn(1, 2, 24, 24, generator=torch.manual_seed(0))
        roi = torch.tensor([[0, 24.0, 24, 20, 12, 0.0]])
        turned = torch.tensor([[0, 24.0, 24, 12, 20, math.pi / 2]])
        upright = mmcv_ops.roi_align_rotated(features, roi, (3, 5), 0.5, 2, True, True)
        lying = mmcv_ops.roi_align_rotated(features, turned, (5, 3), 0.5, 2, True, True)
        torch.testing.assert_close(lying.transpose(2, 3).flip(3), upright, atol=1e-5, rtol=1e-5)

    def test_directions_are_opposite(self):
        features = torch.randn(2, 3, 20, 28, generator=torch.manual_seed(0))
        torch.testing.assert_close(
            self.pool(features, self.rois(0.4), clockwise=True),
            self.pool(features, self.rois(-0.4), clockwise=False),
        )

    def test_gradient(self):
        features = torch.randn(2, 2, 9, 11, dtype=torch.float64, requires_grad=True)
        rois = self.rois(0.7).double() * torch.tensor([1, 0.3, 0.3, 0.3, 0.3, 1])
        assert torch.autograd.gradcheck(lambda x: self.pool(x, rois), features, fast_mode=True)


def test_differentiable_iou_equals_the_other_one():
    first, second = boxes(40), boxes(40, seed=4)
    expected = mmcv_ops.box_iou_rotated(first, second, aligned=True)
    first.requires_grad_()
    got = mmcv_ops.diff_iou_rotated_2d(first[None], second[None])[0]
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    got.sum().backward()
    assert first.grad.isfinite().all()
    assert first.grad.abs().sum() > 0
